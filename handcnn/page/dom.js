// Shared by all scripts: find an element, make one, fit a canvas to the screen.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Clear a canvas and give it the resolution of the screen; return its context, scaled so that it
// counts in CSS pixels.
export function fitCanvas(canvas, width, height) {
  const [w, h] = [width, height].map((length) => Math.round(length * devicePixelRatio));
  const context = canvas.getContext("2d");
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  context.resetTransform();
  context.clearRect(0, 0, w, h);
  context.scale(devicePixelRatio, devicePixelRatio);
  return context;
}

// Call a function when the browser changes between light and dark.
export function onColourScheme(callback) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
}

// Return whether a key goes into a field, and is no shortcut.
export const isTyping = ({ target }) => target.matches?.("select, [type=number]") ?? false;
