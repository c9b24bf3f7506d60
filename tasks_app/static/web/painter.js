// A mask, painted over an image: white where it is regenerated, black where it is kept.

import { find } from "./dom.js";

const dialog = find("#painter");
const image = find("img", dialog);
const canvas = find("canvas", dialog);
const brush = find("input", dialog);
const pen = canvas.getContext("2d");
let painted = false;
let last = null;
let settle = () => {};

/** Let the user paint over an image. Return the mask as a PNG, null for none, undefined if they changed their mind. */
export function paint({ src, width, height }) {
  if (image.src !== src || canvas.width !== width || canvas.height !== height) {
    image.src = src;
    find(".easel", dialog).style.setProperty("--ratio", width / height);
    Object.assign(canvas, { width, height }); // which wipes it
    painted = false;
  }
  dialog.showModal();
  return new Promise((resolve) => (settle = resolve));
}

/** The place on the canvas that a pointer is at, in the image's pixels. */
function at({ clientX, clientY }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  return [((clientX - left) * canvas.width) / width, ((clientY - top) * canvas.height) / height];
}

function stroke(event) {
  const here = at(event);
  Object.assign(pen, { strokeStyle: "white", lineCap: "round", lineJoin: "round" });
  pen.lineWidth = Math.max(1, (Math.min(canvas.width, canvas.height) * brush.value) / 50);
  pen.beginPath();
  pen.moveTo(...(last ?? here));
  pen.lineTo(...here);
  pen.stroke();
  last = here;
  painted = true;
}

function wipe() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  painted = false;
}

async function onBlack() {
  if (!painted) return null;
  const whole = document.createElement("canvas");
  Object.assign(whole, { width: canvas.width, height: canvas.height });
  const context = whole.getContext("2d");
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(canvas, 0, 0);
  return new Promise((resolve) => whole.toBlob(resolve, "image/png"));
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  stroke(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (last && event.isPrimary && event.buttons) stroke(event);
});
const show = () => brush.style.setProperty("--at", (brush.value - brush.min) / (brush.max - brush.min));
brush.addEventListener("input", show);
show();
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
find("[data-do=clear]", dialog).addEventListener("click", wipe);
find("[data-do=cancel]", dialog).addEventListener("click", () => dialog.close());
find("[data-do=use]", dialog).addEventListener("click", async () => {
  settle(await onBlack());
  dialog.close();
});
dialog.addEventListener("close", () => {
  last = null;
  settle(undefined); // settled already, when the mask is used
});
