// The curves of a training: loss and accuracy over its steps.

import { fitCanvas } from "./dom.js";

const MARGIN = { left: 52, right: 14, top: 10, bottom: 40 };
const RUN_IN = 0.03; // share of the steps that does not set the scale, since all begin badly

// Draw curves over the steps.
//
// A plot has `end`, the last step of the axis; `bands` {low, high, colour}, `lines` {values, colour}
// of points [step, value], and `dots` {points, colour, isRing}. `limits` bounds the values of the
// axis, which spans at least `span`; `format` writes one with so many decimals.
export function paintCurves(canvas, plot) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const context = fitCanvas(canvas, width, height);
  const style = getComputedStyle(canvas);
  const colourOf = (name) => style.getPropertyValue(name);
  const [low, high] = scale(plot);
  const inside = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
  const x = (step) => MARGIN.left + (inside.w * step) / plot.end;
  const y = (value) => MARGIN.top + inside.h * (1 - (value - low) / (high - low));

  context.font = `${style.fontSize} ${style.fontFamily}`;
  context.fillStyle = colourOf("--quiet");
  context.strokeStyle = colourOf("--line");
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  const marks = ticks(low, high, inside.h / 45);
  const decimals = Math.max(0, -Math.floor(Math.log10(marks[1] - marks[0]) + 1e-9));
  for (const tick of marks) {
    line(Math.round(y(tick)) + 0.5);
    context.fillText(plot.format(tick, decimals), MARGIN.left - 8, y(tick));
  }
  context.textAlign = "center";
  for (const tick of ticks(0, plot.end, inside.w / 90)) {
    context.fillText(tick.toLocaleString("en"), x(tick), height - MARGIN.bottom + 14);
  }
  context.textAlign = "right";
  context.fillText("steps", width - MARGIN.right, height - 9);

  context.beginPath();
  context.rect(MARGIN.left, 0, inside.w + MARGIN.right, height - MARGIN.bottom + 6);
  context.save();
  context.clip();
  for (const band of plot.bands) drawBand(band);
  for (const { values, colour, width: thickness } of plot.lines) {
    context.strokeStyle = colourOf(colour);
    context.lineWidth = thickness;
    context.lineJoin = "round";
    context.beginPath();
    for (const [step, value] of values) context.lineTo(x(step), y(value));
    context.stroke();
    if (values.length === 1) drawDot(...values[0], colour, 3); // a line of one point is invisible
  }
  for (const { points, colour, isRing } of plot.dots) {
    for (const point of points) drawDot(...point, colour, points.length > 40 ? 3 : 5, isRing);
  }
  context.restore();

  function drawDot(step, value, colour, radius, isRing) {
    context.strokeStyle = context.fillStyle = colourOf(colour);
    context.lineWidth = 2.5;
    context.beginPath();
    context.arc(x(step), y(value), radius, 0, 2 * Math.PI);
    if (isRing) context.stroke();
    else context.fill();
  }

  function line(at) {
    context.beginPath();
    context.moveTo(MARGIN.left, at);
    context.lineTo(width - MARGIN.right, at);
    context.stroke();
  }

  // A band between the smallest and the largest value of each point; for single steps, a line.
  function drawBand({ low: lows, high: highs, colour }) {
    context.strokeStyle = context.fillStyle = colourOf(colour);
    context.lineWidth = 1;
    context.beginPath();
    for (const [step, value] of highs) context.lineTo(x(step), y(value));
    for (const [step, value] of lows.toReversed()) context.lineTo(x(step), y(value));
    context.fill();
    context.stroke();
  }
}

// Return the limits of the axis: those of the lines and dots after the first steps.
function scale({ end, lines, dots, limits, span }) {
  const after = RUN_IN * end;
  const all = [...lines.map((line) => line.values), ...dots.map((dot) => dot.points)].flat();
  const later = all.filter(([step]) => step >= after);
  const values = (later.length > 2 ? later : all).map(([, value]) => value);
  if (!values.length) return limits;
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const pad = Math.max(0.12 * (most - least), (span - (most - least)) / 2);
  return [Math.max(least - pad, limits[0]), Math.min(most + pad, limits[1])];
}

// Return round numbers between two limits, about so many.
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 2);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(i * step);
  return found;
}

// Return the running mean of values over a window that grows with their number.
export function runningMean(values) {
  const window = Math.max(10, Math.round(values.length / 40));
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= window ? values[i - window] : 0);
    return sum / Math.min(i + 1, window);
  });
}
