// The page: form, wall, viewer and stream, wired together.

import * as api from "./api.js";
import { announce, find, findAll } from "./dom.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import { forgetTask, keepTask, ownTasks } from "./storage.js";
import { Stream } from "./stream.js";
import * as viewer from "./viewer.js";
import { countImages, inLine } from "./words.js";
import { Working } from "./working.js";

const working = new Map();

const stream = new Stream((kind, data) => {
  const tile = working.get(data.task);
  if (kind === "gone") drop(data.task);
  else if (kind === "done") tile?.done(data);
  else tile?.[kind](data);
});

/** Show a task that isn't done, and follow it. */
function follow(task) {
  const tile = new Working(task, {
    done: finish,
    ended: () => forgetTask(task.id),
    again: repeat,
    dismiss: () => drop(task.id, { andFocus: true }),
  });
  working.set(task.id, tile);
  gallery.prepend(tile.element);
  stream.follow(task.id);
  return tile.element;
}

/** Put the finished tile where the working one is; the last preview fades out over it. */
async function finish(task) {
  const { element } = working.get(task.id);
  const tile = gallery.tile(task, { large: true });
  // Decoded first, so that nothing flashes.
  await Promise.allSettled(findAll("img", tile).map((image) => image.decode()));
  const hadFocus = element.contains(document.activeElement);
  const preview = find(".preview:last-child", element);
  if (preview) {
    preview.className = "leaving";
    preview.addEventListener("animationend", () => preview.remove(), { once: true });
    find(".images", tile).append(preview);
  }
  element.replaceWith(tile);
  if (hadFocus) find("a", tile).focus();
  working.delete(task.id);
  forgetTask(task.id);
  announce(`Finished: ${countImages(task.images.length)} of ${task.params.prompt.slice(0, 80)}`);
}

function drop(id, { andFocus = false } = {}) {
  working.get(id)?.element.remove();
  working.delete(id);
  forgetTask(id);
  gallery.showEmptiness();
  if (andFocus) form.focusPrompt();
}

let sending = false;

async function generate(body) {
  if (sending) return; // a double click
  sending = true;
  try {
    const task = await api.submit(body);
    keepTask(task.id);
    follow(task).scrollIntoView({ block: "nearest" });
    announce(`Queued. ${inLine(task.queue_position, task.paused)}.`);
  } catch (refusal) {
    form.showRefusal(refusal);
  } finally {
    sending = false;
  }
}

function repeat({ id, task_type, priority, params }) {
  drop(id, { andFocus: true });
  return generate({ task_type, priority, params });
}

function useAgain({ params, priority }, image) {
  const begun = { image: null, mask: null, strength: null };
  form.fill({ ...begun, ...params, priority, seed: image.seed });
  form.focusPrompt();
  announce("Settings copied to the form.");
}

/** Use an image of the wall as the starting image. */
function beginWith(path) {
  form.focusPrompt();
  return form.beginWith(() => api.bytes(path));
}

/** Take up the tasks that this browser asked for before; the newest goes first on the wall. */
async function resume() {
  const tasks = await Promise.all(ownTasks().map(remembered));
  tasks.filter(Boolean).forEach(follow);
}

async function remembered(id) {
  if (gallery.tileOf(id)) return forgetTask(id);
  try {
    return await api.task(id);
  } catch (refusal) {
    return refusal.status === 404 && forgetTask(id);
  }
}

form.start(generate);
gallery.start(viewer.start({ useAgain, beginWith }));
resume();
