// The bars: the probability of each class.

import { $, element } from "./dom.js";

// Replace the bars; a click on the bar of class k calls onClick(k).
export function buildBars(classes, onClick) {
  $("bars").replaceChildren(...classes.map((name, k) => {
    const track = element("span", { className: "track" }, element("span", { className: "fill" }));
    const value = element("span", { className: "percent" });
    return element("li", { onclick: () => onClick(k) },
      element("span", { textContent: name }),
      element("span", { className: "bar", id: `p${k}` }, track, value));
  }));
}

// Show an answer in the bars, {answer, probabilities, percents}; for null, empty them.
export function showBars(answer) {
  [...$("bars").children].forEach((bar, k) => {
    const [track, value] = $(`p${k}`).children;
    track.firstChild.style.transform = `scaleX(${answer ? answer.probabilities[k] : 0})`;
    value.textContent = answer ? answer.percents[k] : "";
    bar.classList.toggle("best", k === answer?.answer);
  });
}
