// How the classes are confused: a grid of counts, mistakes in red.

import { fitCanvas } from "./dom.js";
import { colourOf } from "./maps.js";

// Draw a matrix of counts, a row for each true class; return the worst confusions in words.
export function paintConfusion(canvas, matrix, classes) {
  const side = Math.min(canvas.clientWidth, canvas.clientHeight);
  const context = fitCanvas(canvas, canvas.clientWidth, canvas.clientHeight);
  if (!matrix.length) return "";
  const style = getComputedStyle(canvas);
  const cell = side / (classes.length + 1);
  const mistakes = matrix.flatMap((row, i) => row.map((count, j) => ({ count, i, j })))
    .filter(({ count, i, j }) => i !== j && count);
  const most = Math.max(...mistakes.map(({ count }) => count), 1);
  context.font = `${Math.min(0.5 * cell, 17)}px ${style.fontFamily}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  classes.forEach((name, k) => {
    context.fillStyle = style.getPropertyValue("--quiet");
    const short = name.length > 3 ? `${name.slice(0, 2)}…` : name;
    context.fillText(short, (k + 1.5) * cell, cell / 2, cell);
    context.fillText(short, cell / 2, (k + 1.5) * cell, cell);
  });
  matrix.forEach((row, i) => row.forEach((count, j) => {
    const [x, y] = [(j + 1) * cell, (i + 1) * cell];
    const colour = colourOf(count / most);
    const isRight = i === j;
    context.fillStyle = isRight || !count ? style.getPropertyValue("--track") : colour.css;
    context.fillRect(x + 1, y + 1, cell - 2, cell - 2);
    if (!count) return;
    context.fillStyle = isRight ? style.getPropertyValue("--quiet") : colour.text;
    context.fillText(count, x + cell / 2, y + cell / 2, cell - 3);
  }));
  const worst = mistakes.sort((a, b) => b.count - a.count).slice(0, 3);
  const text = worst.map(({ count, i, j }) => `${classes[i]} read as ${classes[j]}: ${count}`).join(", ");
  canvas.ariaLabel = text ? `Confusion matrix. Most often: ${text}` : "Confusion matrix without mistakes";
  return text && `Most often: ${text}`;
}
