// What a run got wrong: its worst test images. A click puts one on the pad, and asks why.

import { $, element } from "./dom.js";
import { decodeGreys, paintGreys } from "./maps.js";
import { pad } from "./pad.js";

// Show the mistakes that the server has, if any; onChoose(k) explains class k of the next answer.
export async function buildMistakes({ classes, hasMistakes }, onChoose) {
  $("mistakes").hidden = !hasMistakes;
  if (!hasMistakes) return;
  const response = await fetch("mistakes").catch(() => null); // the page notices a lost server itself
  if (!response?.ok) return;
  const { mistakes, side } = await response.json();
  $("worst").replaceChildren(...mistakes.map((mistake) => card(mistake, side, classes, onChoose)));
}

function card({ image, number, label, answer, percent }, side, classes, onChoose) {
  const canvas = element("canvas", { width: side, height: side });
  paintGreys(canvas, decodeGreys(image));
  const sentence = `Test image ${number}: a ${classes[label]}, read as ${classes[answer]} with ${percent}`;
  const button = element("button", { type: "button", ariaLabel: sentence, title: sentence }, canvas,
    element("span", { textContent: `${classes[label]} → ${classes[answer]}` }));
  button.addEventListener("click", () => {
    $("mistake").textContent = `${sentence}.`;
    onChoose(label);
    canvas.toBlob((file) => pad.addPicture(file));
  });
  return element("li", {}, button);
}
