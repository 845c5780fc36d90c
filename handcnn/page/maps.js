// Signed numbers as colours: the maps, units and filters of a layer, and the pictures of "why".
//
// The server scales signed numbers to whole ones from -127 to 127 and sends them as base64.

import { fitCanvas } from "./dom.js";

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

// Return the colour of a number from -1 to 1 for CSS, and that of legible text on it: the contrast
// (WCAG 2) of one of black and white is always at least 4.5.
export function colourOf(number) {
  const pixel = COLOURS[Math.round(127 * Math.min(Math.max(number, -1), 1)) + 127];
  const [r, g, b] = [0, 8, 16].map((shift) => (pixel >> shift) & 255);
  const [R, G, B] = [r, g, b].map((part) => (part / 255) ** 2.2);
  const luminance = 0.2126 * R + 0.7152 * G + 0.0722 * B;
  return { css: `rgb(${r} ${g} ${b})`, text: luminance < 0.18 ? "#fff" : "#000" };
}

const GAP = 7; // CSS pixels between the maps of a layer

// Return the numbers in a base64 text from the server.
export function decode(text) {
  const raw = atob(text);
  const numbers = new Int8Array(raw.length);
  for (let i = 0; i < raw.length; i++) numbers[i] = raw.charCodeAt(i);
  return numbers;
}

// Return the bytes in a base64 text from the server.
export function decodeGreys(text) {
  return new Uint8Array(decode(text).buffer);
}

// Paint a canvas with greys from 0 to 255.
export function paintGreys(canvas, greys) {
  const image = new ImageData(canvas.width, canvas.height);
  greys.forEach((grey, i) => image.data.set([grey, grey, grey, 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function coloured(numbers, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = COLOURS[numbers[i] + 127];
  return image;
}

// Colour a canvas with signed numbers; without numbers, clear it.
export function paintNumbers(canvas, numbers) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  if (numbers) context.putImageData(coloured(numbers, width, height), 0, 0);
  else context.clearRect(0, 0, width, height);
}

// Colour a canvas of 255 pixels with all colours, from -127 to 127.
export function paintRamp(canvas) {
  paintNumbers(canvas, Int8Array.from({ length: 255 }, (_, i) => i - 127));
}

// Return maps, one below the other, on an offscreen canvas.
function stack(numbers, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(coloured(numbers, width, height), 0, 0);
  return canvas;
}

// Return the smallest legible width of a map, a unit or a name.
function smallestWidth({ width, names }) {
  if (names?.some((name) => name.length > 2)) return 70;
  return width === 1 ? 22 : width > 10 ? 42 : 34;
}

// Draw a layer: rows of maps, each with its filter above and its name below, if it has them.
//
// A layer is {canvas, count, height, width}: `count` maps of a size. A unit is a map of one pixel.
// It may have `numbers` (without them, empty frames are drawn), `names`, and `filters` of a `side`.
// `size` enlarges the maps. All are on one canvas, because hundreds of small canvases make the page
// slow.
export function paintLayer({ canvas, count, height, width, numbers, names, filters, side, size = 1 }) {
  const room = canvas.clientWidth - 2; // for the lines around the outer maps
  const zoom = size * (room > 500 ? 1.35 : 1);
  const pitch = zoom * smallestWidth({ width, names }) + GAP;
  const columns = Math.max(1, Math.floor((room + GAP) / pitch));
  const mapSide = (room + GAP) / columns - GAP;
  const filterSide = 0.4 * mapSide;
  const above = filters ? filterSide + 4 : 0;
  const rowHeight = above + mapSide + (names ? 20 : 0) + GAP;
  const rows = Math.ceil(count / columns);
  canvas.style.height = `${rows * rowHeight}px`;
  const context = fitCanvas(canvas, room + 2, rows * rowHeight);
  const style = getComputedStyle(canvas);
  context.imageSmoothingEnabled = false;
  context.strokeStyle = style.getPropertyValue("--line");
  context.font = `14px ${style.fontFamily}`;
  context.textAlign = "center";
  const filterStack = filters && stack(filters, side, side * count);
  const mapStack = numbers && stack(numbers, width, height * count);
  for (let f = 0; f < count; f++) {
    const x = 1 + (f % columns) * (mapSide + GAP);
    const y = 1 + Math.floor(f / columns) * rowHeight;
    if (filters) drawMap(filterStack, side, side, f, x, y, filterSide);
    drawMap(mapStack, width, height, f, x, y + above, mapSide);
    context.fillStyle = style.color;
    if (names) context.fillText(names[f], x + mapSide / 2, y + mapSide + 15, mapSide);
  }

  // Draw map f of a stack in a frame, on whole pixels of the screen.
  function drawMap(source, w, h, f, ...place) {
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
