// The training page: it asks the server for news twice a second and shows them.

import { chosenWeights, prepareArithmetic, sectionLink, showArithmetic } from "./arithmetic.js";
import { buildBars, showBars } from "./bars.js";
import { paintConfusion } from "./confusion.js";
import { paintCurves, runningMean } from "./curves.js";
import { $, element, isTyping, onColourScheme } from "./dom.js";
import { decode, decodeGreys, paintLayer, paintRamp } from "./maps.js";
import { pad } from "./pad.js";
import { buildSamples, showChosen, showSamples } from "./samples.js";

const EVERY_MS = 500; // between two requests for news
const SOON_MS = 60; // while a button waits for its effect
const TIMEOUT_MS = 15_000;
const PASSING = ["pausing", "stepping", "going on"]; // phases that end at once

let about = null; // what does not change
let state = null; // the newest answer of the server, with the newest curves and snapshot
let curves = null;
let snapshot = null;
let single = -1; // the number of the single step shown
let chosen = 0; // the sample whose maps are shown
let shown = -1; // the sample whose maps the newest snapshot has
let isStopped = false; // whether the button Stop was pressed here
let isLost = false; // whether the last request failed
let timer = 0;
let newest = 0; // the number of the newest request; an older one may answer later

// Asking the server --------------------------------------------------------------------------------

async function fetchJson(path, options = {}) {
  const response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

async function update() {
  clearTimeout(timer);
  const request = ++newest;
  let isFirst = false; // then the snapshot may be an old one: nobody has looked for a while
  try {
    if (!about) await begin();
    const image = chosen;
    const [number, has] = [state?.number ?? -1, image === shown ? snapshot.number : -1];
    const next = await fetchJson(`state?number=${number}&snapshot=${has}&image=${image}`);
    if (request !== newest) return;
    isFirst = !state;
    $("notice").hidden = true;
    if (isLost && isStopped) return location.reload(); // it was resumed
    isLost = false;
    if (next.run !== about.run || next.number < (state?.number ?? 0)) return location.reload();
    if (next.single !== null && next.single !== single) {
      single = next.single;
      await showSingle(); // before the step counter tells that the step was taken
      if (request !== newest) return;
    }
    if (next.snapshot) shown = image;
    show(next);
  } catch {
    if (request !== newest) return;
    showLostServer();
  }
  timer = setTimeout(update, isFirst || PASSING.includes(state?.phase) ? SOON_MS : EVERY_MS);
}

async function begin() {
  const next = await fetchJson("training");
  about = next;
  $("origin").textContent = `${about.network}. ${about.data}.`;
  buildSamples(decodeGreys(about.images), about.labels, about.classes, choose);
  showChosen(chosen);
  buildBars(about.classes, () => {});
  prepareArithmetic(about, showSingle);
  paintRamp($("ramp"));
}

function showLostServer() {
  isLost = true;
  if (isStopped) return;
  $("notice").textContent = about
    ? `The training does not respond: it was stopped, or its window was closed. Go on with: ${about.resume}`
    : "The server does not respond.";
  $("notice").hidden = false;
}

async function send(path) {
  try {
    await fetchJson(path, { method: "POST" });
  } catch {
    showLostServer();
  }
  await update();
}

// Showing the news ---------------------------------------------------------------------------------

function show(next) {
  state = next;
  curves = next.curves ?? curves;
  if (next.snapshot) snapshot = next.snapshot;
  const { number, loss, history, paused, result } = state;
  $("epoch").textContent = `${state.epoch}/${about.epochs}`;
  $("step").textContent = number;
  $("loss").textContent = loss === null ? "–" : loss.toFixed(4);
  $("validation").textContent = history.length ? percent(history.at(-1)[4], 2) : "–";
  $("pace").textContent = state.pace ? Math.round(state.pace).toLocaleString("en") : "–";
  $("left").textContent = result ? "–" : duration(state.left);
  $("pause").ariaPressed = String(paused);
  enableButtons();
  setText("status", status());
  if (next.curves) paintAll();
  if (next.snapshot) showSnapshot();
  if (result && $("result").hidden) showResult(result);
  if (next.snapshot && !pad.isEmpty()) requestAnswer();
}

function enableButtons() {
  const isOver = isStopped || Boolean(state.result);
  $("pause").disabled = $("stop").disabled = isOver;
  $("one-step").disabled = isOver || !state.paused;
}

function setText(id, text) { // only news, so that a screen reader is not told twice
  if ($(id).textContent !== text) $(id).textContent = text;
}

function status() {
  const { number, phase, result } = state;
  if (isStopped) return `Stopping. Go on with: ${about.resume}`;
  if (result) return `The training is over: ${result.test} on the test, ${result.images} read right.`;
  if (phase === "paused") return `Paused after step ${number}. One step shows its arithmetic.`;
  if (PASSING.includes(phase)) return `${phase[0].toUpperCase()}${phase.slice(1)} …`;
  return number === about.epochs * about.steps ? "Testing and drawing the plots …" : "Training";
}

const percent = (share, digits) => `${(100 * share).toFixed(digits)} %`;

function duration(seconds) {
  if (!seconds) return "–";
  if (seconds < 100) return `${Math.ceil(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function points(values) { // [step, value] of each point of the curves
  const { stride, first, count } = curves;
  return values.map((value, i) => [first + Math.min((i + 1) * stride, count), value]);
}

function floats(text) {
  return [...new Float32Array(decode(text).buffer)];
}

function paintAll() {
  if (!curves) return;
  const losses = floats(curves.losses);
  const count = losses.length / 3;
  const [low, mean, high] = [0, 1, 2].map((i) => losses.slice(i * count, (i + 1) * count));
  const ofEpochs = (column) => state.history.map((row) => [row[0] * about.steps, row[column]]);
  const end = Math.max(state.number, 20);
  paintCurves($("loss-curve"), {
    end, limits: [0, 40], span: 0.2,
    format: (value, decimals) => value.toFixed(Math.max(decimals, 1)),
    bands: [{ low: points(low), high: points(high), colour: "--faint" }],
    lines: [{ values: points(runningMean(mean)), colour: "--training", width: 3 }],
    dots: [{ points: ofEpochs(3), colour: "--validation" }],
  });
  paintCurves($("accuracy-curve"), {
    end, limits: [0, 1], span: 0.1,
    format: (value, decimals) => `${(100 * value).toFixed(Math.max(decimals - 2, 0))} %`,
    bands: [],
    lines: [{ values: points(runningMean(floats(curves.accuracies))), colour: "--training", width: 3 }],
    dots: [
      { points: ofEpochs(2), colour: "--training", isRing: true },
      { points: ofEpochs(4), colour: "--validation" },
    ],
  });
  const last = state.history.at(-1);
  $("loss-curve").ariaLabel = `Loss over ${state.number} steps, now ${$("loss").textContent}`;
  $("accuracy-curve").ariaLabel = `Accuracy over ${state.number} steps` +
    (last ? `, on validation ${$("validation").textContent} after epoch ${last[0]}` : "");
}

function showSnapshot() {
  showSamples(snapshot);
  paintKernels();
  showConfusion();
  showChanges();
}

function paintKernels() {
  if (!snapshot?.kernels) return;
  const [count, side, , height, width] = snapshot.sizes;
  paintLayer({
    canvas: $("kernels"), count, height, width, side, size: count > 16 ? 1.1 : 1.7,
    numbers: decode(snapshot.maps), filters: decode(snapshot.kernels),
  });
}

function showConfusion() {
  $("confused").textContent = paintConfusion($("confusion"), snapshot.confusion, about.classes);
}

function showChanges() {
  const { changes } = snapshot;
  const largest = Math.max(...changes.map(({ gradient }) => gradient));
  $("changes").tBodies[0].replaceChildren(...about.layers.map(({ title }, i) => {
    const { weights, gradient, update: change } = changes[i] ?? {};
    const bar = element("span", { className: "size" });
    bar.style.setProperty("--share", changes.length ? share(gradient / largest) : 0);
    const cells = [weights, gradient, change].map((size) =>
      element("td", {}, element("span", { className: "number", textContent: short(size) })));
    cells[1].prepend(bar);
    const ratio = weights ? `${(100 * change / weights).toPrecision(2)} %` : "–";
    return element("tr", {}, element("th", { scope: "row", textContent: title }), ...cells,
      element("td", { textContent: ratio }));
  }));
}

// The length of a bar: a tenth of the size makes it a quarter shorter.
const share = (part) => (part > 0 ? Math.max(1 + Math.log10(part) / 4, 0.02) : 0);
const short = (size) => (size === undefined ? "–" : Number(size.toPrecision(2)).toString());

async function showSingle() {
  if (single < 0) return;
  try {
    showArithmetic(await fetchJson(`single-step?${chosenWeights()}`));
  } catch {
    showLostServer();
  }
}

function showResult(result) {
  $("test").textContent = `${result.test} on the test: ${result.images} read right`;
  $("best").textContent = `${result.best}. Everything is in ${about.folder}.`;
  $("plots").replaceChildren(...result.plots.map((name) => {
    const what = name.replace(".png", "").replaceAll("_", " ");
    return element("a", { href: name, target: "_blank" },
      element("img", { src: name, alt: `Plot of the run: ${what}` }));
  }));
  $("result").hidden = false;
}

function choose(i) {
  chosen = i;
  showChosen(i);
  update();
}

// The pad ------------------------------------------------------------------------------------------

let isWaiting = false; // whether there is a drawing, or a newer network, that was not asked about
let isAsking = false;

async function requestAnswer() {
  isWaiting = !pad.isEmpty();
  if (!isWaiting) showAnswer(null);
  if (!isWaiting || isAsking) return;
  isAsking = true;
  $("verdict").ariaBusy = "true";
  while (isWaiting) {
    isWaiting = false;
    const { drawing } = pad;
    try {
      const answer = await fetchJson("read", { method: "POST", body: pad.file() });
      if (drawing === pad.drawing && !pad.isEmpty()) showAnswer(answer);
    } catch (error) {
      if (drawing === pad.drawing) showAnswer(null, error.message);
    }
  }
  isAsking = false;
  $("verdict").ariaBusy = "false";
}

function showAnswer(answer, fault = "") {
  setText("answer", answer?.text ?? "");
  $("answer").className = $("answer").textContent.length > 2 ? "name" : "";
  setText("remark", fault || (answer ? answer.remark || `read after step ${answer.number}` : ""));
  if (!pad.isDrawing()) setText("announcement", fault || $("answer").textContent);
  showBars(answer);
}

// Buttons and keys ---------------------------------------------------------------------------------

function togglePause() {
  if (!$("pause").disabled) send(["training", "going on"].includes(state.phase) ? "pause" : "go-on");
}

function takeStep() {
  if ($("one-step").disabled) return;
  $("single-panel").scrollIntoView({ block: "nearest" });
  send("one-step");
}

$("pause").addEventListener("click", togglePause);
$("one-step").addEventListener("click", takeStep);
$("stop").addEventListener("click", () => {
  isStopped = true;
  setText("status", status());
  enableButtons();
  send("stop");
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event)) return;
  if (event.key.toLowerCase() === "p") togglePause();
  else if (event.key.toLowerCase() === "s") takeStep();
});

for (const link of document.querySelectorAll("a[data-section]")) {
  link.replaceWith(sectionLink(link.dataset.section));
}
pad.onChange = requestAnswer;
pad.onRefusal = (sentence) => setText("remark", sentence);
new ResizeObserver(() => {
  if (!state) return;
  paintAll();
  paintKernels();
  if (snapshot) showConfusion();
}).observe(document.querySelector("main"));
onColourScheme(() => {
  if (state) [paintAll, paintKernels, showConfusion].forEach((paint) => paint());
});
update();
