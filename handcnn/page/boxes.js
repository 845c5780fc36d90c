// The digits that were read in a number: a box around each on the pad, with its probability.
//
// A click on a box, or a key on it, chooses the digit. The boxes let the pen through, so the pad
// asks whether a click is meant for one of them.

import { element } from "./dom.js";
import { pad } from "./pad.js";

const TOP = 0.08; // of the picture: a box that begins above this has its label below

let onChoose = () => {}; // is called with the number of a digit

// Show the digits of an answer from the server, of which number `chosen` is the chosen one;
// onClick(i) chooses another. A digit alone has no box.
export function showBoxes(answer, chosen, onClick) {
  onChoose = onClick;
  const digits = answer?.digits ?? [];
  const buttons = [...pad.field.children];
  buttons.slice(digits.length > 1 ? digits.length : 0).forEach((button) => button.remove());
  if (digits.length < 2) return;
  digits.forEach((digit, i) => {
    const button = buttons[i] ?? pad.field.appendChild(newBox(i)); // kept, so that it keeps the focus
    button.ariaLabel = `Digit ${i + 1} of ${digits.length}: ${digit.text}, ${digit.percents[digit.answer]}`;
    button.ariaPressed = String(i === chosen);
    button.classList.toggle("doubtful", digit.isDoubtful);
    place(button, digit, answer);
  });
}

function newBox(i) {
  const label = element("span", { className: "label" }, element("b"), element("span"));
  return element("button", { type: "button", onclick: () => onChoose(i) }, label);
}

function place(button, digit, { size: [width, height], digits }) {
  const [left, top, right, bottom] = digit.box;
  Object.assign(button.style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
  const [label] = button.children;
  const [text, percent] = label.children;
  const whole = Math.round(100 * digit.probabilities[digit.answer]);
  text.textContent = digit.text;
  percent.textContent = whole < 100 ? `${whole} %` : ">99 %";
  label.classList.toggle("below", top < TOP * height);
  label.style.width = `${(100 * room(digit, digits, width)) / (right - left)}%`;
}

// Return how wide the label of a digit may be, in pixels of the picture.
function room(digit, digits, width) {
  const middle = ({ box: [left, , right] }) => (left + right) / 2;
  const own = middle(digit);
  const others = digits.filter((other) => other !== digit && other.row === digit.row);
  return Math.min(...others.map((other) => Math.abs(middle(other) - own)), 2 * own, 2 * (width - own));
}

pad.clickAt = (x, y) => {
  const found = [...pad.field.children].map((button, i) => {
    const { left, top, right, bottom } = button.getBoundingClientRect();
    const isInside = x >= left && x <= right && y >= top && y <= bottom;
    return { i, distance: isInside ? Math.hypot(x - (left + right) / 2, y - (top + bottom) / 2) : Infinity };
  });
  const nearest = found.reduce((a, b) => (b.distance < a.distance ? b : a), { distance: Infinity });
  return nearest.distance < Infinity ? () => onChoose(nearest.i) : null;
};
