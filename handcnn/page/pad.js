// The drawing pad: strokes by mouse, finger, pen or keys; chosen, dropped and pasted pictures; undo.
//
// The drawing is a list of steps: strokes, pictures, clearings. A page that shows the pad sets
// `pad.onChange`, `pad.onStrokeEnd` and `pad.onRefusal` and asks for the drawing with `pad.file()`.
// Over the pad lies `pad.field`, as large as the picture in this file: what is placed there in per
// cent is placed on the drawing.
//
// A pad may be wider than high. Points count from its middle, in heights of the pad, so that a
// drawing keeps its shape when the pad gets another one.

import { $, element, fitCanvas, isTyping, onColourScheme } from "./dom.js";

const FILE_HEIGHT = 200; // of the drawing in its file, in pixels
const MAX_PICTURE_BYTES = 10_000_000;
const CLICK = 4; // CSS pixels: a pointer that moves less has clicked

const canvas = $("pad");
const steps = []; // {points: [[x, y], ...], pen, aspect (of the pad)}, {picture}, or {} (clear)
let stroke = null; // the stroke being drawn
let pointer = null; // the id of the finger, pen or mouse that draws it; null if keys draw it
let press = null; // where the pointer went down on something to click, and has not moved since

export const pad = {
  drawing: 0, // the number of the drawing; it changes when something is undone, cleared or replaced
  onChange() {},
  onStrokeEnd() {},
  onRefusal(sentence) {},
  field: element("div", { className: "field" }),
  // Return what a click at this place of the window does, or null if the pen draws a dot.
  clickAt: (x, y) => null,
  isEmpty: () => visibleSteps().length === 0,
  isDrawing: () => stroke !== null,
  file: drawingAsFile,
  clear,
  addPicture,
};

// Return the visible steps: a picture or a clearing hides what came before, a stroke a picture.
function visibleSteps() {
  const start = steps.findLastIndex((step) => !step.points);
  const strokes = steps.slice(start + 1);
  return strokes.length || start < 0 || !steps[start].picture ? strokes : [steps[start]];
}

// Return the width of the drawing, in heights: that of the pad, or of a wider one it was drawn on.
function aspect() {
  const now = canvas.clientWidth / canvas.clientHeight || 1;
  return Math.max(now, ...visibleSteps().map((step) => step.aspect ?? 0));
}

// Return how many CSS pixels a height of the drawing has on the pad, where all of it fits.
function heightOnPad() {
  return Math.min(canvas.clientHeight, canvas.clientWidth / aspect());
}

// Draw smooth lines: curves through the midpoints between points, with the points as controls.
// A height of the drawing has `scale` pixels.
function drawStrokes(context, middle, scale, colour) {
  context.strokeStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const { points, pen } of visibleSteps().filter((step) => step.points)) {
    const at = points.map(([x, y]) => [middle[0] + x * scale, middle[1] + y * scale]);
    const last = at.at(-1);
    context.lineWidth = pen * scale;
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

const HINT = $("hint").textContent;

function paintPad() {
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = fitCanvas(canvas, width, height);
  drawStrokes(context, [width / 2, height / 2], heightOnPad(), getComputedStyle(canvas).color);
  const [{ picture, image } = {}] = visibleSteps();
  let [w, h] = [aspect() * heightOnPad(), heightOnPad()];
  if (image) {
    const scale = Math.min(width / image.width, height / image.height);
    context.imageSmoothingEnabled = scale < 4; // beyond that, one should see the pixels
    [w, h] = [image.width * scale, image.height * scale];
    context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
  }
  const place = { left: width - w, top: height - h, width: 2 * w, height: 2 * h };
  for (const side in place) pad.field.style[side] = `${place[side] / 2}px`;
  const isUnseen = Boolean(picture && !image);
  $("hint").textContent = isUnseen ? "This browser cannot show the picture." : HINT;
  $("hint").hidden = !pad.isEmpty() && !isUnseen;
}

canvas.after(pad.field);
new ResizeObserver(paintPad).observe(canvas);
onColourScheme(paintPad);

const paper = new OffscreenCanvas(FILE_HEIGHT, FILE_HEIGHT);
const paperContext = paper.getContext("2d", { willReadFrequently: true });

// Return the drawing as a picture file: the picture itself, or the strokes, black on white, as PGM.
function drawingAsFile() {
  const [{ picture }] = visibleSteps();
  if (picture) return picture;
  const [width, height] = [Math.round(aspect() * FILE_HEIGHT), FILE_HEIGHT];
  if (paper.width !== width) paper.width = width;
  paperContext.fillStyle = "white";
  paperContext.fillRect(0, 0, width, height);
  drawStrokes(paperContext, [width / 2, height / 2], height, "black");
  const { data } = paperContext.getImageData(0, 0, width, height);
  const greys = new Uint8Array(width * height).map((_, i) => data[4 * i]);
  return new Blob([`P5 ${width} ${height} 255\n`, greys]);
}

// Changing the drawing -----------------------------------------------------------------------------

function showChange() {
  paintPad();
  pad.onChange();
}

function startStroke(point) {
  if (!visibleSteps()[0]?.points) pad.drawing += 1;
  stroke = { points: [point], pen: $("pen").value / 100, aspect: aspect() };
  steps.push(stroke);
  showChange();
}

function extendStroke(points) {
  stroke.points.push(...points);
  showChange();
}

function endStroke() {
  stroke = pointer = press = null;
  showCursor();
  pad.onStrokeEnd();
}

function changeSteps(change) {
  pad.drawing += 1;
  endStroke();
  change();
  showChange();
}

function undo() {
  changeSteps(() => steps.pop());
}

function clear() {
  if (!pad.isEmpty()) changeSteps(() => steps.push({}));
}

// Put a picture on the pad. Its bytes are kept, because its file may change or go.
async function addPicture(file) {
  if (!file) return pad.onRefusal("There is no picture in this.");
  if (file.size > MAX_PICTURE_BYTES) {
    return pad.onRefusal("This picture has more than 10 MB. Make it smaller.");
  }
  try {
    const picture = new Blob([await file.arrayBuffer()]);
    const image = await createImageBitmap(picture).catch(() => null); // the server reads more formats
    changeSteps(() => steps.push({ picture, image }));
  } catch {
    pad.onRefusal("The browser cannot read this file. Choose it again.");
  }
}

// Mouse, finger and pen ----------------------------------------------------------------------------

function positionOf(event) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const scale = heightOnPad();
  return [(event.clientX - left - width / 2) / scale, (event.clientY - top - height / 2) / scale];
}

canvas.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  endStroke();
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  const click = pad.clickAt(event.clientX, event.clientY);
  if (click) press = { click, event };
  else startStroke(positionOf(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  if (press) {
    const { clientX, clientY } = press.event;
    if (Math.hypot(event.clientX - clientX, event.clientY - clientY) < CLICK) return;
    startStroke(positionOf(press.event));
    press = null;
  }
  const events = event.getCoalescedEvents?.() ?? [];
  extendStroke((events.length ? events : [event]).map(positionOf));
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
  canvas.addEventListener(name, (event) => {
    if (event.pointerId !== pointer) return;
    const click = name === "pointerup" ? press?.click : null;
    endStroke();
    click?.();
  });
}

// Keys: arrows move a cursor, space starts or ends a stroke ----------------------------------------

const cursor = { x: 0, y: -0.2 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const within = (place, side) => Math.min(Math.max(place, -side / 2), side / 2);

canvas.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (pointer !== null || (!arrow && event.key !== " ")) return;
  event.preventDefault();
  if (arrow) {
    const distance = event.shiftKey ? 0.01 : 0.04;
    cursor.x = within(cursor.x + arrow[0] * distance, aspect());
    cursor.y = within(cursor.y + arrow[1] * distance, 1);
    if (stroke) extendStroke([[cursor.x, cursor.y]]);
  } else if (stroke) endStroke();
  else startStroke([cursor.x, cursor.y]);
  showCursor(true);
});
canvas.addEventListener("blur", endStroke);

function showCursor(isMovedByKeys = false) {
  $("cursor").hidden = !isMovedByKeys;
  $("cursor").classList.toggle("down", stroke !== null);
  $("cursor").style.left = `calc(50% + ${cursor.x * heightOnPad()}px)`;
  $("cursor").style.top = `calc(50% + ${cursor.y * heightOnPad()}px)`;
}

// Buttons, shortcuts and pictures ------------------------------------------------------------------

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) addPicture(target.files[0]);
  target.value = ""; // so that the same picture can be chosen again
});

document.addEventListener("keydown", (event) => {
  if (isTyping(event)) return;
  const key = event.key.toLowerCase();
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (key === "z" && !event.altKey && !event.shiftKey) undo();
  else if (isPlain && key === "backspace") undo();
  else if (isPlain && ["c", "delete", "escape"].includes(key)) clear();
  else return;
  event.preventDefault();
});

document.addEventListener("paste", (event) => addPicture(event.clipboardData.files[0]));
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
  addPicture(event.dataTransfer.files[0]);
});
