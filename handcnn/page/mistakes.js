// What a run got wrong: its worst test images. A click puts one on the pad, and asks why.

import { $, element } from "./dom.js";
import { decode } from "./maps.js";
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
  const pixels = canvas.getContext("2d").createImageData(side, side);
  new Uint8Array(decode(image).buffer).forEach((grey, i) => pixels.data.set([grey, grey, grey, 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
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
