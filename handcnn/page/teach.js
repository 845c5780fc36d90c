// "It was a ...": keep the drawing with its label, for training, if draw.py was given a folder.

import { $, element } from "./dom.js";

let classes = [];
let example = () => null; // returns the picture to keep, as a Blob, or null if there is none
let onKept = () => {};
let onRefusal = (sentence) => {};

// Build the panel if the server keeps drawings. `callbacks` are example, onKept and onRefusal.
export function buildTeaching(about, callbacks) {
  $("teaching").hidden = !about.collects;
  if (!about.collects) return;
  ({ example, onKept, onRefusal } = callbacks);
  classes = about.classes;
  $("labels").replaceChildren(...classes.map((name, k) => {
    const title = classes.length > 10 ? "" : `Shift and ${k}`;
    const count = element("span", { className: "count" });
    return element("button", { type: "button", title, onclick: () => keep(k) }, name, " ", count);
  }));
  ask("kept");
}

async function keep(k) {
  const picture = example();
  if (picture && await ask(`keep/${k}`, picture)) onKept();
}

// Ask the server to keep or remove something, and show what it has; return whether it did it.
async function ask(path, body = "") {
  try {
    const response = await fetch(path, { method: "POST", body });
    if (response.ok) showKept(await response.json());
    else onRefusal((await response.text()).trim());
    return response.ok;
  } catch {
    return false; // the page notices by itself that the server is lost
  }
}

function showKept({ folder, counts, command, undoable }) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  [...$("labels").children].forEach((button, k) => {
    button.lastChild.textContent = counts[k] || "";
    button.ariaLabel = `It was ${classes[k]}; ${counts[k]} kept`;
  });
  $("kept").textContent = `${total} ${total === 1 ? "drawing" : "drawings"} in ${folder}.`;
  $("unkeep").disabled = !undoable;
  $("fine-tune").textContent = command;
}

$("unkeep").addEventListener("click", () => ask("unkeep"));
document.addEventListener("keydown", (event) => {
  const digit = /^Digit([0-9])$/.exec(event.code)?.[1];
  if ($("teaching").hidden || !digit || !event.shiftKey || event.ctrlKey || event.metaKey) return;
  if (Number(digit) < classes.length) keep(Number(digit));
  event.preventDefault();
});
