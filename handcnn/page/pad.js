// The drawing pad: strokes by mouse, finger, pen or keys; chosen, dropped and pasted pictures; undo.
//
// The drawing is a list of steps: strokes, pictures, clearings. A page that shows the pad sets
// `pad.onChange`, `pad.onStrokeEnd` and `pad.onRefusal` and asks for the drawing with `pad.file()`.

import { $, fitCanvas, onColourScheme } from "./dom.js";

const FILE_SIDE = 200; // of the drawing in its file, in pixels
const MAX_PICTURE_BYTES = 10_000_000;

const canvas = $("pad");
const steps = []; // {points: [[x, y], ...] with x, y from 0 to 1, width}, {picture}, or {} (clear)
let stroke = null; // the stroke being drawn
let pointer = null; // the id of the finger, pen or mouse that draws it; null if keys draw it

export const pad = {
  drawing: 0, // the number of the drawing; it changes when something is undone, cleared or replaced
  onChange() {},
  onStrokeEnd() {},
  onRefusal(sentence) {},
  isEmpty: () => visibleSteps().length === 0,
  isDrawing: () => stroke !== null,
  file: drawingAsFile,
};

// Return the visible steps: a picture or a clearing hides what came before, a stroke a picture.
function visibleSteps() {
  const start = steps.findLastIndex((step) => !step.points);
  const strokes = steps.slice(start + 1);
  return strokes.length || start < 0 || !steps[start].picture ? strokes : [steps[start]];
}

// Draw smooth lines: curves through the midpoints between points, with the points as controls.
function drawStrokes(context, side, colour) {
  context.strokeStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const { points, width } of visibleSteps().filter((step) => step.points)) {
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

const HINT = $("hint").textContent;

function paintPad() {
  const side = canvas.clientWidth;
  const context = fitCanvas(canvas, side, side);
  drawStrokes(context, side, getComputedStyle(canvas).color);
  const [{ picture, image } = {}] = visibleSteps();
  if (image) {
    const scale = side / Math.max(image.width, image.height);
    const [w, h] = [image.width * scale, image.height * scale];
    context.drawImage(image, (side - w) / 2, (side - h) / 2, w, h);
  }
  const isUnseen = Boolean(picture && !image);
  $("hint").textContent = isUnseen ? "This browser cannot show the picture." : HINT;
  $("hint").hidden = !pad.isEmpty() && !isUnseen;
}

new ResizeObserver(paintPad).observe(canvas);
onColourScheme(paintPad);

const paper = new OffscreenCanvas(FILE_SIDE, FILE_SIDE);
const paperContext = paper.getContext("2d", { willReadFrequently: true });

// Return the drawing as a picture file: the picture itself, or the strokes, black on white, as PGM.
function drawingAsFile() {
  const [{ picture }] = visibleSteps();
  if (picture) return picture;
  paperContext.fillStyle = "white";
  paperContext.fillRect(0, 0, FILE_SIDE, FILE_SIDE);
  drawStrokes(paperContext, FILE_SIDE, "black");
  const { data } = paperContext.getImageData(0, 0, FILE_SIDE, FILE_SIDE);
  const greys = new Uint8Array(FILE_SIDE * FILE_SIDE).map((_, i) => data[4 * i]);
  return new Blob([`P5 ${FILE_SIDE} ${FILE_SIDE} 255\n`, greys]);
}

// Changing the drawing -----------------------------------------------------------------------------

function showChange() {
  paintPad();
  pad.onChange();
}

function startStroke(point) {
  if (!visibleSteps()[0]?.points) pad.drawing += 1;
  stroke = { points: [point], width: $("pen").value / 100 };
  steps.push(stroke);
  showChange();
}

function extendStroke(points) {
  stroke.points.push(...points);
  showChange();
}

function endStroke() {
  stroke = pointer = null;
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
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

canvas.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  endStroke();
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  startStroke(positionOf(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  extendStroke((events.length ? events : [event]).map(positionOf));
});
for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
  canvas.addEventListener(name, (event) => { if (event.pointerId === pointer) endStroke(); });
}

// Keys: arrows move a cursor, space starts or ends a stroke ----------------------------------------

const cursor = { x: 0.5, y: 0.3 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const clamp = (share) => Math.min(Math.max(share, 0), 1);

canvas.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (pointer !== null || (!arrow && event.key !== " ")) return;
  event.preventDefault();
  if (arrow) {
    const distance = event.shiftKey ? 0.01 : 0.04;
    cursor.x = clamp(cursor.x + arrow[0] * distance);
    cursor.y = clamp(cursor.y + arrow[1] * distance);
    if (stroke) extendStroke([[cursor.x, cursor.y]]);
  } else if (stroke) endStroke();
  else startStroke([cursor.x, cursor.y]);
  showCursor(true);
});
canvas.addEventListener("blur", endStroke);

function showCursor(isMovedByKeys = false) {
  $("cursor").hidden = !isMovedByKeys;
  $("cursor").classList.toggle("down", stroke !== null);
  $("cursor").style.left = `${100 * cursor.x}%`;
  $("cursor").style.top = `${100 * cursor.y}%`;
}

// Buttons, shortcuts and pictures ------------------------------------------------------------------

$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) addPicture(target.files[0]);
  target.value = ""; // so that the same picture can be chosen again
});

document.addEventListener("keydown", (event) => {
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
