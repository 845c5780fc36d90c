// The page: it records the drawing, sends it to the server, and shows the answer.
//
// The drawing is a list of steps: strokes, pictures, clearings. Its newest state is sent, one
// request at a time. What is drawn during a request is sent with the next one.

const EXPORTED = 200; // side of the exported drawing, in pixels
const MOST_BYTES = 10_000_000; // of a picture
const CHECK = 1000; // milliseconds between two checks of the server
const CHECK_LIMIT = 5000; // milliseconds that a check may take
const READ_LIMIT = 60_000; // milliseconds that reading a picture may take

const $ = (id) => document.getElementById(id);
const pad = $("pad");

// Drawing -----------------------------------------------------------------------------------------

const steps = []; // {points: [[x, y], ...] with x, y from 0 to 1, width}, {picture}, or {} (clear)
let generation = 0; // number of the drawing; answers to earlier drawings are not shown
let stroke = null; // the stroke being drawn
let pointer = null; // the id of the finger, pen or mouse that draws it; null if keys draw it

// Return the visible steps: a picture or a clearing hides what came before, a stroke a picture.
function visible() {
  const start = steps.findLastIndex((step) => !step.points);
  const strokes = steps.slice(start + 1);
  return strokes.length || start < 0 || !steps[start].picture ? strokes : [steps[start]];
}

// Draw smooth lines: curves through the midpoints between points, with the points as controls.
function trace(context, side, colour) {
  context.strokeStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const { points, width } of visible().filter((step) => step.points)) {
    const at = points.map(([x, y]) => [x * side, y * side]);
    const last = at.at(-1);
    context.lineWidth = width * side;
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < at.length - 1; i++) {
      const [[x, y], [nextX, nextY]] = [at[i], at[i + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(last[0] + 0.01, last[1]); // a dot is a very short line
    context.stroke();
  }
}

function paint() {
  const side = pad.clientWidth;
  const context = resize(pad, side, side);
  trace(context, side, getComputedStyle(pad).color);
  const [{ picture, image } = {}] = visible();
  if (image) {
    const scale = side / Math.max(image.width, image.height);
    const [w, h] = [image.width * scale, image.height * scale];
    context.drawImage(image, (side - w) / 2, (side - h) / 2, w, h);
  }
  const isUnseen = Boolean(picture && !image);
  $("hint").textContent = isUnseen ? "This browser cannot show the picture." : HINT;
  $("hint").hidden = visible().length > 0 && !isUnseen;
}
const HINT = $("hint").textContent;

function change() {
  paint();
  ask();
}

function begin(point) {
  if (!visible()[0]?.points) generation += 1;
  stroke = { points: [point], width: $("pen").value / 100 };
  steps.push(stroke);
  change();
}

function go(points) {
  stroke.points.push(...points);
  change();
}

function end() {
  stroke = pointer = null;
  showPen();
  tell();
}

function turn(changeSteps) {
  generation += 1;
  end();
  changeSteps();
  change();
}

const undo = () => turn(() => steps.pop());
const clear = () => { if (visible().length) turn(() => steps.push({})); };

async function take(picture) {
  if (!picture) return say("There is no picture in this.");
  if (picture.size > MOST_BYTES) return say("This picture has more than 10 MB. Make it smaller.");
  const image = await createImageBitmap(picture).catch(() => null); // Pillow reads more formats
  turn(() => steps.push({ picture, image }));
}

function place(event) {
  const box = pad.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

pad.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  end();
  pointer = event.pointerId;
  pad.setPointerCapture(pointer);
  begin(place(event));
});
pad.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  go((events.length ? events : [event]).map(place));
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
  pad.addEventListener(name, (event) => { if (event.pointerId === pointer) end(); });
}

// Drawing by keys: arrows move a pen, space lowers or lifts it.
const pen = { x: 0.5, y: 0.3 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (share) => Math.min(Math.max(share, 0), 1);

pad.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (pointer !== null || (!arrow && event.key !== " ")) return;
  event.preventDefault();
  if (arrow) {
    const distance = event.shiftKey ? 0.01 : 0.04;
    pen.x = within(pen.x + arrow[0] * distance);
    pen.y = within(pen.y + arrow[1] * distance);
    if (stroke) go([[pen.x, pen.y]]);
  } else if (stroke) end();
  else begin([pen.x, pen.y]);
  showPen(true);
});
pad.addEventListener("blur", end);

function showPen(byKeys = false) {
  $("cursor").hidden = !byKeys;
  $("cursor").classList.toggle("down", stroke !== null);
  $("cursor").style.left = `${100 * pen.x}%`;
  $("cursor").style.top = `${100 * pen.y}%`;
}

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) take(target.files[0]);
  target.value = ""; // so that the same picture can be chosen again
});

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (key === "z" && !event.altKey && !event.shiftKey) undo();
  else if (plain && key === "backspace") undo();
  else if (plain && ["c", "delete", "escape"].includes(key)) clear();
  else if (plain && /^[0-9]$/.test(key)) explain(Number(key));
  else return;
  event.preventDefault();
});

document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("paper").classList.add("target");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("paper").classList.remove("target");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("paper").classList.remove("target");
  take(event.dataTransfer.files[0]);
});

const resized = new ResizeObserver((entries) => {
  if (entries.some(({ target }) => target === pad)) paint();
  layers.filter(({ canvas }) => entries.some(({ target }) => target === canvas)).forEach(paintLayer);
});
resized.observe(pad);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  paint();
  paintLayers();
});

// Asking ------------------------------------------------------------------------------------------

let network = ""; // the server's description of its network
let waiting = false; // whether there is a drawing that was not sent yet
let asking = false; // whether a request is running

const paper = new OffscreenCanvas(EXPORTED, EXPORTED);
const exported = paper.getContext("2d", { willReadFrequently: true });

// Return the drawing as a picture file: the picture itself, or the strokes, black on white, as PGM.
function content() {
  const [{ picture }] = visible();
  if (picture) return picture;
  exported.fillStyle = "white";
  exported.fillRect(0, 0, EXPORTED, EXPORTED);
  trace(exported, EXPORTED, "black");
  const { data } = exported.getImageData(0, 0, EXPORTED, EXPORTED);
  const greys = new Uint8Array(EXPORTED * EXPORTED).map((_, i) => data[4 * i]);
  return new Blob([`P5 ${EXPORTED} ${EXPORTED} 255\n`, greys]);
}

async function ask() {
  waiting = visible().length > 0;
  if (!waiting) show(null);
  tell();
  if (!waiting || asking || !network) return;
  asking = true;
  try {
    while (waiting) {
      waiting = false;
      const asked = generation;
      const response = await fetch("read", {
        method: "POST", body: content(), signal: AbortSignal.timeout(READ_LIMIT),
      });
      const next = response.ok ? await response.json() : { fault: (await response.text()).trim() };
      if (asked === generation) show(next);
    }
  } catch {
    lose();
  }
  asking = false;
  tell();
}

// For screen readers: mark the answer as busy, and announce it when it has arrived.
function tell() {
  const isBusy = waiting || asking;
  $("verdict").ariaBusy = String(isBusy);
  if (isBusy || stroke) return;
  say(fault || answer?.remark);
  const said = answer ? `${classes[answer.answer]}, ${answer.percents[answer.answer]}` : fault;
  $("announcement").textContent = said;
}

function lose() {
  const port = location.port || 80;
  $("notice").textContent = `The server does not respond. Start it again: python draw.py --port ${port}`;
  $("notice").hidden = false;
}

// Check regularly whether the server responds and still has the same network.
async function check() {
  try {
    const response = await fetch("network", { signal: AbortSignal.timeout(CHECK_LIMIT) });
    if (!response.ok) throw new Error(response.statusText);
    const text = await response.text();
    const isNews = text !== network || !$("notice").hidden;
    $("notice").hidden = true;
    if (text !== network) build(JSON.parse((network = text)));
    if (isNews) ask();
  } catch {
    lose();
  }
  setTimeout(check, CHECK);
}

// Showing -----------------------------------------------------------------------------------------

// RdBu_r, the colours of a run's plots for signed values: blue, white for zero, red.
const STOPS = [
  "053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7",
  "fddbc7", "f4a582", "d6604d", "b2182b", "67001f",
].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

// The colour of each number from -127 to 127, as a pixel.
const COLOURS = Uint32Array.from({ length: 255 }, (_, i) => {
  const place = (i / 254) * (STOPS.length - 1);
  const low = Math.min(Math.floor(place), STOPS.length - 2);
  const between = (c, j) => Math.round(c + (place - low) * (STOPS[low + 1][j] - c));
  const [r, g, b] = STOPS[low].map(between);
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
});

const GAP = 7; // pixels between the tiles of a layer

let classes = [];
let layers = []; // the server's description of each layer, with its canvas and its numbers
let answer = null; // the answer shown, if any
let fault = ""; // the reason if there is no answer
let chosen = null; // the class that "why" explains; null means the answer

function bytes(text) {
  const raw = atob(text);
  const numbers = new Int8Array(raw.length);
  for (let i = 0; i < raw.length; i++) numbers[i] = raw.charCodeAt(i);
  return numbers;
}

// Return signed numbers as the pixels of an image.
function coloured(numbers, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = COLOURS[numbers[i] + 127];
  return image;
}

// Colour a canvas with signed numbers; without numbers, clear it.
function colour(canvas, numbers) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  if (numbers) context.putImageData(coloured(numbers, width, height), 0, 0);
  else context.clearRect(0, 0, width, height);
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Build the bars and the layers of a network.
function build(about) {
  classes = about.classes;
  const origin = about.origin && `trained on ${about.origin}`;
  $("origin").textContent = [`${about.parameters} weights`, origin].filter(Boolean).join(", ");
  $("bars").replaceChildren(...classes.map(bar));
  $("choice").replaceChildren($("choice").firstElementChild, ...classes.map(choice));
  $("answer").className = classes.every((name) => name.length === 1) ? "" : "name";
  layers = about.layers.map((layer, i) => describe(layer, i === about.layers.length - 1));
  $("layers").replaceChildren(...layers.map(card));
  layers.forEach(({ canvas }) => resized.observe(canvas));
  colour($("ramp"), Int8Array.from({ length: 255 }, (_, i) => i - 127));
  chosen = null;
  show(null);
}

function bar(name, k) {
  const track = element("span", { className: "track" }, element("span", { className: "fill" }));
  const value = element("span", { className: "percent" });
  return element("li", { onclick: () => explain(k) },
    element("span", { textContent: name }),
    element("span", { className: "bar", id: `p${k}` }, track, value));
}

function choice(name, k) {
  const input = element("input", { type: "radio", name: "why", onchange: () => explain(k) });
  return element("label", {}, input, element("span", { textContent: name }));
}

// Return a layer as it is drawn: a number of maps and their size. A unit is a map of one pixel.
function describe({ title, shape, text, kernels }, isLast) {
  const [count, height, width] = shape.length === 3 ? shape : [shape[0], 1, 1];
  const names = isLast ? classes : null;
  const canvas = element("canvas", { className: "maps" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Output of ${title} for the picture`);
  const side = kernels && Math.sqrt(bytes(kernels).length / count);
  const filters = kernels && sheet(bytes(kernels), side, side * count);
  return { title, shape, text, count, height, width, names, canvas, filters, side };
}

function card({ title, shape, text, canvas }) {
  const heading = element("h3", { textContent: title },
    element("span", { className: "shape", textContent: shape.join(" × ") }));
  return element("li", {}, heading, element("p", { textContent: text }), canvas);
}

// Return maps, one below the other, on an offscreen canvas.
function sheet(numbers, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(coloured(numbers, width, height), 0, 0);
  return canvas;
}

// Return the smallest legible width of a map, a unit or a name.
function least({ width, names }) {
  if (names?.some((name) => name.length > 2)) return 70;
  return width === 1 ? 22 : width > 10 ? 42 : 34;
}

// Draw a layer: rows of tiles, each with its filter above and its name below, if it has them.
// All tiles are on one canvas, because hundreds of small canvases make the page slow.
function paintLayer(layer) {
  const { canvas, numbers, count, height, width, names, filters, side } = layer;
  const room = canvas.clientWidth - 2; // for the lines around the outer tiles
  const zoom = room > 500 ? 1.35 : 1;
  const columns = Math.max(1, Math.floor((room + GAP) / (zoom * least(layer) + GAP)));
  const tile = (room + GAP) / columns - GAP;
  const small = 0.4 * tile; // a filter
  const above = filters ? small + 4 : 0;
  const pitch = above + tile + (names ? 20 : 0) + GAP;
  const rows = Math.ceil(count / columns);
  canvas.style.height = `${rows * pitch}px`;
  const context = resize(canvas, room + 2, rows * pitch);
  const style = getComputedStyle(canvas);
  context.imageSmoothingEnabled = false;
  context.strokeStyle = style.getPropertyValue("--line");
  context.font = `14px ${style.fontFamily}`;
  context.textAlign = "center";
  const maps = numbers && sheet(numbers, width, height * count);
  for (let f = 0; f < count; f++) {
    const x = 1 + (f % columns) * (tile + GAP);
    const y = 1 + Math.floor(f / columns) * pitch;
    if (filters) put(filters, side, side, f, x, y, small);
    put(maps, width, height, f, x, y + above, tile);
    context.fillStyle = style.color;
    if (names) context.fillText(names[f], x + tile / 2, y + tile + 15, tile);
  }

  // Draw map f of a sheet in a frame, on whole pixels of the screen.
  function put(source, w, h, f, ...place) {
    const scale = devicePixelRatio;
    const [x, y, s] = place.map((length) => Math.round(length * scale) / scale);
    const line = 1 / scale;
    context.lineWidth = line;
    context.fillStyle = style.getPropertyValue("--track");
    if (source) context.drawImage(source, 0, f * h, w, h, x, y, s, s);
    else context.fillRect(x, y, s, s);
    context.strokeRect(x - line / 2, y - line / 2, s + line, s + line);
  }
}

// Clear a canvas and give it the resolution of the screen; return its context, scaled so that it
// counts in CSS pixels.
function resize(canvas, width, height) {
  const [w, h] = [width, height].map((length) => Math.round(length * devicePixelRatio));
  const context = canvas.getContext("2d");
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  context.resetTransform();
  context.clearRect(0, 0, w, h);
  context.scale(devicePixelRatio, devicePixelRatio);
  return context;
}

// Show an answer or a fault from the server; for null, show nothing.
function show(next) {
  answer = next?.fault ? null : next;
  fault = next?.fault ?? "";
  if (!next) chosen = null;
  say(fault);
  $("answer").textContent = answer ? classes[answer.answer] : "";
  $("certainty").textContent = answer ? answer.percents[answer.answer] : "";
  classes.forEach((_, k) => {
    const [track, value] = $(`p${k}`).children;
    track.firstChild.style.transform = `scaleX(${answer ? answer.probabilities[k] : 0})`;
    value.textContent = answer ? answer.percents[k] : "";
    $(`p${k}`).parentElement.classList.toggle("best", k === answer?.answer);
  });
  showSeen();
  showWhy();
  layers.forEach((layer, i) => { layer.numbers = answer && bytes(answer.layers[i]); });
  paintLayers();
}

function paintLayers() {
  layers.forEach(paintLayer);
}

function showSeen() {
  const image = new ImageData(28, 28);
  const greys = answer ? new Uint8Array(bytes(answer.seen).buffer) : new Uint8Array(28 * 28);
  greys.forEach((grey, i) => image.data.set([grey, grey, grey, 255], 4 * i));
  $("seen").getContext("2d").putImageData(image, 0, 0);
}

function showWhy() {
  const k = chosen ?? answer?.answer;
  const not = answer && k !== answer.answer ? "not " : "";
  $("why-class").textContent = k === undefined ? "" : `${not}${classes[k]}?`;
  [...$("choice").querySelectorAll("input")].forEach((input, i) => { input.checked = i === k; });
  for (const [id, text] of [["votes", answer?.votes], ["gradient", answer?.gradients]]) {
    colour($(id), text && bytes(text).subarray(k * 28 * 28, (k + 1) * 28 * 28));
  }
}

function explain(k) {
  if (k >= classes.length) return;
  chosen = k === answer?.answer ? null : k;
  showWhy();
}

const EXPLANATION = "The network sees your digit cut out, centred and scaled to 28×28 pixels.";

// Show a sentence under the answer, or by default an explanation of the small picture.
function say(sentence) {
  $("remark").textContent = sentence ? sentence[0].toUpperCase() + sentence.slice(1) : EXPLANATION;
}

check();
