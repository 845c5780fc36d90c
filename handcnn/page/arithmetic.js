// One step by hand: the batch, and w - rate * dw = w' for a kernel or some weights of a unit.

import { $, element } from "./dom.js";
import { colourOf, decodeGreys } from "./maps.js";
import { cutImages, greyCanvas } from "./samples.js";

const IMAGES = 20; // of the batch that are shown
const FORMULAS = {
  Conv2D: ["dw = sum over images and places of the pixel below w × dz", "4. The convolution"],
  HiddenLayer: ["dw = sum over images of the input × dz, where the unit is on", "3. The hidden layer"],
  OutputLayer: ["dw = sum over images of the input × (probability − 1 for the right class)",
    "2. The output layer"],
};

let layers = [];
let classes = [];
let chosen = { layer: null, unit: "" }; // an empty unit means that of the largest gradient
let ask = () => {};

// Keep what the network consists of; `onChoice` asks the server again.
export function prepareArithmetic(about, onChoice) {
  [layers, classes, ask] = [about.layers, about.classes, onChoice];
  chosen = { layer: layers[0].index, unit: "" };
}

export const chosenWeights = () => `layer=${chosen.layer}&unit=${chosen.unit}`;

// Show the answer of the server.
export function showArithmetic(single) {
  const { weights } = single;
  const layer = layers.find(({ index }) => index === weights.layer);
  const focused = document.activeElement?.id;
  $("step-detail").replaceChildren(batchPart(single), choicePart(layer, weights),
    weightsPart(single, layer));
  if (["layer", "unit"].includes(focused)) $(focused).focus(); // it was replaced
}

function batchPart({ number, count, correct, images, labels, answers, loss, lossAfter }) {
  const bytes = decodeGreys(images);
  const shown = cutImages(bytes, labels.length).slice(0, IMAGES);
  const list = element("ol", { className: "batch" }, ...shown.map((image, i) => {
    const isRight = labels[i] === answers[i];
    const said = element("span", { textContent: `${isRight ? "" : "✗"}${classes[answers[i]]}` });
    return element("li", { className: isRight ? "" : "wrong" }, greyCanvas(image), said);
  }));
  const more = count > shown.length ? ` (${shown.length} of them here)` : "";
  const losses = element("p", { className: "equation" },
    `loss before ${loss.toFixed(5)}`, element("span", { textContent: " → " }),
    `after, on the same images, ${lossAfter.toFixed(5)}`);
  Object.assign(losses.dataset, { loss, lossAfter });
  return element("div", { className: "batch-part" },
    element("h3", { textContent: `Step ${number}: a batch of ${count} images${more}, ${correct} read right` }),
    list, losses);
}

function choicePart(layer, { unit, channel, side }) {
  const layerChoice = element("select", { id: "layer" }, ...layers.map(({ index, title }) =>
    element("option", { value: index, textContent: title, selected: index === layer.index })));
  layerChoice.onchange = () => {
    chosen = { layer: Number(layerChoice.value), unit: "" };
    ask();
  };
  const unitChoice = element("input", {
    id: "unit", type: "number", min: 1, max: layer.units, value: unit + 1,
  });
  unitChoice.onchange = () => {
    chosen.unit = Math.min(Math.max(Math.round(unitChoice.value) || 1, 1), layer.units) - 1;
    ask();
  };
  const what = side ? "kernel" : layer.kind === "OutputLayer" ? "class" : "unit";
  const which = side ? channel === 0 && layer.index === layers[0].index ? "" : `, channel ${channel + 1}`
    : layer.kind === "OutputLayer" ? ` (${classes[unit]})` : "";
  return element("p", { className: "choice" },
    element("label", {}, "layer ", layerChoice),
    element("label", {}, `${what} `, unitChoice, ` of ${layer.units}${which}`));
}

// Show w, rate, dw and the new w; one weight of them as an equation.
function weightsPart({ rate, weights }, layer) {
  const { places, side, old, gradient, new: after, bias } = weights;
  const digits = decimals(gradient.map((g) => rate * g));
  const [formula, section] = FORMULAS[layer.kind] ?? ["", "5. The update"];
  const largest = Math.max(...old.map(Math.abs), ...after.map(Math.abs));
  const steepest = Math.max(...gradient.map(Math.abs));
  const columns = side ?? 3;
  const place = (i) => side ? `row ${places[i][0] + 1}, column ${places[i][1] + 1}` : `input ${places[i][0] + 1}`;
  const grid = (name, values, scale, round) => element("figure", { className: "grid" },
    element("figcaption", { textContent: name }),
    gridOf(values, scale, round, columns, (cell, i) => {
      Object.assign(cell.dataset, {
        weight: old[i], gradient: gradient[i], rate, new: after[i],
      });
      cell.title = place(i);
    }));
  const sign = (text) => element("span", { className: "sign", textContent: text });
  const one = gradient.map(Math.abs).indexOf(steepest);
  return element("div", { className: "weights-part" },
    element("div", { className: "equation-of-grids" },
      grid("w, before", old, largest, digits), sign(`− ${shortNumber(rate)} ×`),
      grid("dw, the gradient", gradient, steepest, gradientDecimals(steepest)), sign("="),
      grid("w′, after", after, largest, digits)),
    element("p", { className: "equation" }, `For example, ${place(one)}: ${equation(old[one], rate, gradient[one], after[one], digits)}`),
    element("p", { className: "equation" }, `and the bias: ${equation(bias.old[0], rate, bias.gradient[0], bias.new[0], digits)}`),
    element("p", { className: "why" }, `${formula}. `, sectionLink(section)));
}

function equation(w, rate, dw, after, digits) {
  return `${number(w, digits)} − ${shortNumber(rate)} × ${number(dw, gradientDecimals(Math.abs(dw)), true)} = ${number(after, digits)}`;
}

function gridOf(values, scale, digits, columns, mark) {
  const rows = [];
  for (let i = 0; i < values.length; i += columns) {
    rows.push(element("tr", {}, ...values.slice(i, i + columns).map((value, j) => {
      const cell = element("td", { textContent: number(value, digits) });
      const colour = colourOf(scale ? value / scale : 0);
      cell.style.background = colour.css;
      cell.style.color = colour.text;
      mark(cell, i + j);
      return cell;
    })));
  }
  return element("table", {}, element("tbody", {}, ...rows));
}

// As many decimals as show the largest change with three digits.
const decimals = (changes) => {
  const largest = Math.max(...changes.map(Math.abs));
  return largest ? Math.min(Math.max(2 - Math.floor(Math.log10(largest)), 3), 8) : 4;
};
const gradientDecimals = (largest) => decimals([largest || 1]);
const shortNumber = (value) => String(Number(value.toPrecision(4)));
const number = (value, digits, inBrackets) => {
  const text = Math.abs(value).toFixed(digits);
  const isNegative = value < 0 && Number(text) !== 0;
  return isNegative ? (inBrackets ? `(−${text})` : `−${text}`) : text;
};

export function sectionLink(section) {
  return element("a", {
    href: `backprop.md#:~:text=${encodeURIComponent(section)}`,
    target: "_blank",
    textContent: `backprop.md: ${section}`,
  });
}
