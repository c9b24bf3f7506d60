// The viewer: one task's images, large, with everything that made them.

import { uploadPath } from "./api.js";
import { announce, find, imageElement, isSmall, pathOf } from "./dom.js";
import { finishedIds, loadMore, taskOf } from "./gallery.js";
import { duration, fileName, moment } from "./words.js";

const dialog = find("#viewer");
const shown = find("#viewer-image");
let task = null;
let index = 0;

const linkTo = (id) => `/?task=${id}`;
const hasId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Open a task. `push` makes the browser's Back close it again. */
async function open(id, { at = 0, push = true } = {}) {
  let opened;
  try {
    opened = await taskOf(id);
  } catch (refusal) {
    return announce(refusal.message);
  }
  if (opened.images.length === 0) return announce("This task has no images.");
  if (push) history.pushState({ viewing: id }, "", linkTo(id));
  show(opened, at);
  if (!dialog.open) dialog.showModal();
}

function show(opened, at) {
  task = opened;
  index = at < 0 ? task.images.length - 1 : at;
  const image = task.images[index];
  const { prompt } = task.params;
  shown.hidden = image.purged;
  if (image.purged) shown.removeAttribute("src");
  else Object.assign(shown, { src: pathOf(image), alt: prompt, width: image.width, height: image.height });
  shown.classList.toggle("small", isSmall(image));
  find("#viewer-prompt").textContent = prompt;
  showNotice(image);
  find("#viewer-facts").replaceChildren(...facts(image).flatMap(([name, value]) => fact(name, value)));
  find("#viewer-strip").replaceChildren(...strip());
  Object.assign(find("#viewer-download"), { href: pathOf(image), download: fileName(prompt, image), hidden: image.purged });
  find("#viewer-begin").hidden = image.purged;
  const ids = finishedIds();
  find(".previous", dialog).disabled = index === 0 && ids.indexOf(task.id) <= 0;
  find(".next", dialog).disabled = index === task.images.length - 1 && ids.at(-1) === task.id && find("#more").hidden;
}

function showNotice(image) {
  const notice = find("#viewer-notice");
  notice.textContent = image.purged
    ? "This image was purged: the server keeps images for a limited time."
    : image.flagged
      ? "The model’s safety checker replaced this image."
      : image.blank
        ? "This image is blank: values overflowed, which can happen in half precision."
        : "";
  notice.hidden = !notice.textContent;
}

function facts(image) {
  const { params, model, timings } = task;
  return [
    ["Negative prompt", params.negative_prompt],
    ["Source image", params.image && begun(params)],
    ["Strength", params.image && params.strength],
    ["Seed", image.seed],
    ["Steps", params.steps],
    ["Guidance scale", params.guidance_scale],
    ["Scheduler", params.scheduler],
    ["LoRAs", (params.loras ?? []).map(({ id, weight }) => `${id} × ${weight}`).join(", ")],
    ["Embeddings", (params.embeddings ?? []).join(", ")],
    ["Size", `${image.width} × ${image.height}`],
    ["Model", params.model_id],
    ["Revision", /^[0-9a-f]{40}$/.test(model.revision ?? "") ? model.revision.slice(0, 10) : null],
    ["Generation time", duration(timings)],
    ["Created", moment(task.finished_at)],
    ["Warnings", (task.warnings ?? []).map(({ message }) => message).join(" ")],
  ].filter(([, value]) => value != null && value !== "");
}

/** The thumbnail of the starting image; the server keeps uploads for a limited time. */
function begun({ image, mask }) {
  const layers = document.createElement("span");
  layers.className = "layers";
  for (const [name, id] of Object.entries({ image, mask })) {
    if (!id) continue;
    const layer = new Image();
    Object.assign(layer, { src: uploadPath(id), alt: name === "image" ? "Source image" : "" });
    layer.dataset.layer = name;
    layer.addEventListener("error", () => layers.replaceChildren("Image no longer available"));
    layers.append(layer);
  }
  return layers;
}

function fact(name, value) {
  const term = document.createElement("dt");
  const text = document.createElement("dd");
  term.textContent = name;
  text.append(value);
  return [term, text];
}

/** Thumbnails of the task's images, if there are several. */
function strip() {
  if (task.images.length === 1) return [];
  return task.images.map((image, at) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.at = at;
    if (at === index) button.setAttribute("aria-current", "true");
    button.append(imageElement(image, `Image ${at + 1}, seed ${image.seed}`));
    item.append(button);
    return item;
  });
}

/** Go to the next or previous image: within the task first, then on the wall. */
async function turn(by) {
  const at = index + by;
  if (at >= 0 && at < task.images.length) return show(task, at);
  const id = await neighbour(by);
  if (!id || !dialog.open) return undefined;
  history.replaceState({ viewing: id }, "", linkTo(id));
  return open(id, { at: by > 0 ? 0 : -1, push: false });
}

async function neighbour(by) {
  const place = finishedIds().indexOf(task.id);
  if (by < 0) return place > 0 ? finishedIds()[place - 1] : null;
  if (place + 1 >= finishedIds().length) await loadMore();
  return finishedIds()[place + 1];
}

function back() {
  // Closed by a button or a key: take the entry off the history that opening had put there.
  if (history.state?.viewing) history.back();
}

async function copyLink() {
  const label = find("#viewer-copy span");
  label.textContent = (await copied(location.origin + linkTo(task.id))) ? "Copied" : "Couldn’t copy";
  announce(label.textContent);
  setTimeout(() => (label.textContent = "Copy link"), 2000);
}

async function copied(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  // Plain HTTP on a private network has no clipboard API.
  const area = document.createElement("textarea");
  area.value = text;
  dialog.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** Wire the viewer; `useAgain(task, image)` and `beginWith(path)` fill the form. Return the function that opens a task. */
export function start({ useAgain, beginWith }) {
  find("#viewer-close").addEventListener("click", () => dialog.close());
  find("#viewer-copy").addEventListener("click", copyLink);
  find("#viewer-again").addEventListener("click", () => {
    const [used, image] = [task, task.images[index]];
    dialog.close();
    useAgain(used, image);
  });
  find("#viewer-begin").addEventListener("click", () => {
    dialog.close();
    beginWith(shown.getAttribute("src"));
  });
  dialog.addEventListener("close", back);
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target === dialog) dialog.close(); // beside its content
    else if (button?.dataset.turn) turn(Number(button.dataset.turn));
    else if (button?.dataset.at) show(task, Number(button.dataset.at));
  });
  // On the document: a button that had the focus may just have been switched off.
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!dialog.open || !by) return;
    event.preventDefault();
    turn(by);
  });
  addEventListener("popstate", ({ state }) => {
    if (state?.viewing) open(state.viewing, { push: false });
    else if (dialog.open) dialog.close();
  });
  openLinked();
  return open;
}

/** Open what `/?task=ID` names. */
function openLinked() {
  const id = new URLSearchParams(location.search).get("task");
  if (!id) return;
  if (history.state?.viewing === id) return open(id, { push: false }); // a reload
  history.replaceState(null, "", "/");
  if (hasId.test(id)) open(id.toLowerCase());
}
