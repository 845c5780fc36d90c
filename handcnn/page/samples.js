// The fixed validation images, with what the network answers at the moment.

import { $, element } from "./dom.js";
import { paintGreys } from "./maps.js";

const HARDEST = 5;
let images = []; // Uint8Array of each
let labels = [];
let classes = [];

export function greyCanvas(greys) {
  const side = Math.sqrt(greys.length);
  const canvas = element("canvas", { width: side, height: side });
  canvas.ariaHidden = "true";
  paintGreys(canvas, greys);
  return canvas;
}

// Cut the bytes of several images of a size into these.
export function cutImages(bytes, count) {
  const size = bytes.length / count;
  return Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

// Replace the samples; a click on one calls onChoice with its number.
export function buildSamples(bytes, theirLabels, theirClasses, onChoice) {
  [labels, classes] = [theirLabels, theirClasses];
  images = cutImages(bytes, labels.length);
  $("samples").replaceChildren(...images.map((image, i) => {
    const button = element("button", { type: "button", onclick: () => onChoice(i) },
      greyCanvas(image), element("span", { className: "said" }));
    button.dataset.label = labels[i];
    button.dataset.answer = "";
    button.ariaPressed = "false";
    return button;
  }));
  $("hardest").replaceChildren(...Array.from({ length: HARDEST }, () =>
    element("li", {}, element("canvas", { width: 28, height: 28, ariaHidden: "true" }),
      element("span"))));
}

export function showChosen(chosen) {
  [...$("samples").children].forEach((button, i) => { button.ariaPressed = String(i === chosen); });
}

// Show the answers, and how probable the right class is for each.
export function showSamples({ answers, right }) {
  [...$("samples").children].forEach((button, i) => {
    const isRight = answers[i] === labels[i];
    const said = classes[answers[i]];
    button.dataset.answer = answers[i];
    button.classList.toggle("wrong", !isRight);
    button.lastChild.textContent = isRight ? said : `✗${said}`;
    button.ariaLabel = `${classes[labels[i]]}, read as ${said}${isRight ? "" : ", wrong"}`;
  });
  const hardest = right.map((_, i) => i).sort((i, j) => right[i] - right[j]).slice(0, HARDEST);
  hardest.forEach((i, place) => {
    const [canvas, text] = $("hardest").children[place].children;
    paintGreys(canvas, images[i]);
    text.textContent = `${(100 * right[i]).toFixed(right[i] < 0.1 ? 1 : 0)} % for ${classes[labels[i]]}`;
  });
}
