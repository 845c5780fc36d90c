// The drawing page: it sends the drawing to the server and shows the answer: a digit, or a number of
// several, of which one is chosen. Its bars, its layers and its "why" are shown.
//
// The newest drawing is sent, one request at a time. What is drawn during a request is sent with the
// next one.

import { buildBars, showBars } from "./bars.js";
import { showBoxes } from "./boxes.js";
import { $, element, onColourScheme } from "./dom.js";
import { decode, decodeGreys, paintGreys, paintLayer, paintNumbers, paintRamp } from "./maps.js";
import { buildMistakes } from "./mistakes.js";
import { pad } from "./pad.js";
import { buildTeaching } from "./teach.js";

const CHECK_EVERY_MS = 1000; // between two checks of the server
const CHECK_TIMEOUT_MS = 5000;
const READ_TIMEOUT_MS = 60_000;

let network = ""; // the server's description of its network
let isWaiting = false; // whether there is a drawing that was not sent yet
let isAsking = false; // whether a request is running

let classes = [];
let layers = []; // the server's description of each layer, with its canvas and its numbers
let answer = null; // the answer shown, if any
let fault = ""; // the reason if there is no answer
let digit = null; // the chosen digit of the answer, if any
let chosen = null; // the class that "why" explains; null means the one that was read

// Asking the server --------------------------------------------------------------------------------

async function requestAnswer() {
  isWaiting = !pad.isEmpty();
  if (!isWaiting) showAnswer(null);
  announce();
  if (!isWaiting || isAsking || !network) return;
  isAsking = true;
  try {
    while (isWaiting) {
      isWaiting = false;
      const { drawing } = pad;
      const response = await fetch("read", {
        method: "POST", body: pad.file(), signal: AbortSignal.timeout(READ_TIMEOUT_MS),
      });
      const next = response.ok ? await response.json() : { fault: (await response.text()).trim() };
      if (drawing === pad.drawing) showAnswer(next); // not if it was undone or cleared meanwhile
    }
  } catch {
    showLostServer();
  }
  isAsking = false;
  announce();
}

// Check regularly whether the server responds and still has the same network.
async function checkServer() {
  try {
    const response = await fetch("network", { signal: AbortSignal.timeout(CHECK_TIMEOUT_MS) });
    if (!response.ok) throw new Error(response.statusText);
    const text = await response.text();
    const isNews = text !== network || !$("notice").hidden;
    $("notice").hidden = true;
    if (text !== network) buildNetwork(JSON.parse((network = text)));
    if (isNews) requestAnswer();
  } catch {
    showLostServer();
  }
  setTimeout(checkServer, CHECK_EVERY_MS);
}

function showLostServer() {
  const port = location.port || 80;
  $("notice").textContent = `The server does not respond. Start it again with --port ${port}.`;
  $("notice").hidden = false;
}

// Building the page for a network ------------------------------------------------------------------

function buildNetwork(about) {
  classes = about.classes;
  const origin = about.origin && `, trained on ${about.origin}`;
  $("origin").textContent = `${about.network}: ${about.parameters} weights${origin}`;
  $("answer").className = classes.every((name) => name.length === 1) ? "" : "name";
  buildBars(classes, explain);
  $("choice").replaceChildren($("choice").firstElementChild, ...classes.map(choice));
  layers = about.layers.map((layer, i) => withCanvas(layer, i === about.layers.length - 1));
  $("layers").replaceChildren(...layers.map(card));
  layers.forEach(({ canvas }) => resizeObserver.observe(canvas));
  paintRamp($("ramp"));
  buildMistakes(about, (k) => { chosen = k; });
  buildTeaching(about, { example, onKept, onRefusal: showRemark });
  showAnswer(null);
}

function choice(name, k) {
  const input = element("input", { type: "radio", name: "why", onchange: () => explain(k) });
  return element("label", {}, input, element("span", { textContent: name }));
}

// Return a layer as maps.js draws it.
function withCanvas({ title, shape, text, kernels }, isLast) {
  const [count, height, width] = shape.length === 3 ? shape : [shape[0], 1, 1];
  const names = isLast ? classes : null;
  const canvas = element("canvas", { className: "maps" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Output of ${title} for the picture`);
  const filters = kernels && decode(kernels);
  const side = filters && Math.sqrt(filters.length / count);
  return { title, shape, text, count, height, width, names, canvas, filters, side };
}

function card({ title, shape, text, canvas }) {
  const heading = element("h3", { textContent: title },
    element("span", { className: "shape", textContent: shape.join(" × ") }));
  return element("li", {}, heading, element("p", { textContent: text }), canvas);
}

const resizeObserver = new ResizeObserver((entries) => {
  layers.filter(({ canvas }) => entries.some(({ target }) => target === canvas)).forEach(paintLayer);
});
onColourScheme(() => layers.forEach(paintLayer));

// Showing an answer --------------------------------------------------------------------------------

// Show an answer or a fault from the server; for null, show nothing.
function showAnswer(next) {
  answer = next?.fault ? null : next;
  fault = next?.fault ?? "";
  if (!next) chosen = null;
  showRemark(fault);
  const rows = answer?.text.split("\n") ?? [];
  $("answer").textContent = answer?.text ?? "";
  $("answer").style.setProperty("--length", Math.max(1, ...rows.map((row) => row.length)));
  $("answer").style.setProperty("--rows", Math.max(1, rows.length));
  $("certainty").textContent = answer ? answer.percent + (isNumber() ? " for all of it" : "") : "";
  showDigit(answer?.digits.at(-1));
}

function isNumber() {
  return answer?.digits.length > 1;
}

// Show one digit of the answer, and why; without one, nothing.
function showDigit(next) {
  digit = next ?? null;
  showBoxes(answer, answer?.digits.indexOf(digit), (i) => choose(answer.digits[i]));
  showBars(digit);
  showSeen();
  showWhy();
  layers.forEach((layer, i) => {
    layer.numbers = digit && decode(digit.layers[i]);
    paintLayer(layer);
  });
}

// Show a digit of a number. The server explains the last one; the others when they are chosen.
async function choose(next) {
  try {
    if (!next.layers) {
      const response = await fetch("explain", {
        method: "POST", body: decode(next.seen), signal: AbortSignal.timeout(READ_TIMEOUT_MS),
      });
      if (!response.ok) throw new Error(response.statusText);
      Object.assign(next, await response.json());
    }
    chosen = null;
    if (answer?.digits.includes(next)) showDigit(next); // not if the drawing has changed meanwhile
  } catch {
    showLostServer();
  }
}

// Return the picture that teaches: the drawing, or of a number the chosen digit as it was seen.
function example() {
  if (!digit || pad.isEmpty()) return null;
  return isNumber() ? new Blob(["P5 28 28 255\n", decode(digit.seen)]) : pad.file();
}

// Make room for the next drawing. A number stays: its other digits may be kept, too.
function onKept() {
  if (!isNumber()) pad.clear();
}

function showSeen() {
  paintGreys($("seen"), digit ? decodeGreys(digit.seen) : new Uint8Array(28 * 28));
}

function showWhy() {
  const k = chosen ?? digit?.answer;
  const not = digit && k !== digit.answer ? "not " : "";
  $("why-class").textContent = k === undefined ? "" : `${not}${classes[k]}?`;
  [...$("choice").querySelectorAll("input")].forEach((input, i) => { input.checked = i === k; });
  for (const [id, text] of [["votes", digit?.votes], ["gradient", digit?.gradients]]) {
    paintNumbers($(id), text && decode(text).subarray(k * 28 * 28, (k + 1) * 28 * 28));
  }
}

function explain(k) {
  if (k >= classes.length) return;
  chosen = k === digit?.answer ? null : k;
  showWhy();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !/^[0-9]$/.test(event.key)) return;
  explain(Number(event.key));
  event.preventDefault();
});

const EXPLANATION = "The network sees your digit cut out, centred and scaled to 28×28 pixels.";
const ADVICE = "Click a digit to see how the network reads it.";

// Show lines under the answer, or by default an explanation of the small picture.
function showRemark(remark) {
  const lines = (remark || (isNumber() ? ADVICE : EXPLANATION)).split("\n");
  const text = lines.map((line) => line[0].toUpperCase() + line.slice(1)).join("\n");
  $("remark").textContent = text.replace(/ ([\d.]+) %/g, "\u00a0$1\u00a0%"); // on one line with its digit
}

// For screen readers: mark the answer as busy, and announce it when it has arrived.
function announce() {
  const isBusy = isWaiting || isAsking;
  $("verdict").ariaBusy = String(isBusy);
  if (isBusy || pad.isDrawing()) return;
  showRemark(fault || answer?.remark);
  // The digits of a number one by one: it may be no quantity.
  const said = answer && (isNumber() ? [...answer.text].join(" ") : answer.text);
  $("announcement").textContent = answer ? `${said}, ${answer.percent}` : fault;
}

pad.onChange = requestAnswer;
pad.onStrokeEnd = announce;
pad.onRefusal = showRemark;
checkServer();
