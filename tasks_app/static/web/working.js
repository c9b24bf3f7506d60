// The tile of a task that is not done: its position in the queue, its bar, and the image as it forms.

import * as api from "./api.js";
import { announce, find, stamp } from "./dom.js";
import { inLine, phase } from "./words.js";

// The farther the run, the sharper its preview is shown.
const BLUR_PIXELS = 9;

export class Working {
  #task;
  #attempt = 0;
  #half = false;
  #paused = false;
  #position = null;

  /** Of `hooks`, `done(task)` is called on success, `ended()` on any other end, `again(task)` and `dismiss()` on clicks. */
  constructor(task, hooks) {
    this.#task = task;
    this.hooks = hooks;
    this.element = stamp("working");
    this.element.dataset.working = task.id;
    find(".prompt", this.element).textContent = task.params.prompt;
    this.#bar.setAttribute("aria-label", `Progress of “${task.params.prompt.slice(0, 80)}”`);
    this.#on("cancel", () => this.#cancel());
    this.#on("again", () => this.hooks.again(this.#task));
    this.#on("dismiss", () => this.hooks.dismiss());
    this.status(task);
    if (task.status === "running") this.progress({ attempt: task.attempt, ...task.progress });
  }

  get #bar() {
    return find(".bar", this.element);
  }

  #button(name) {
    return find(`[data-do=${name}]`, this.element);
  }

  #on(name, act) {
    this.#button(name).addEventListener("click", act);
  }

  #say(text) {
    find(".state p", this.element).textContent = text;
  }

  /** Show how full the bar is; null if unknown. */
  #fill(percent, text) {
    this.#bar.classList.toggle("vague", percent == null);
    find("span", this.#bar).style.setProperty("--done", (percent ?? 0) / 100);
    if (percent == null) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", percent);
    this.#bar.setAttribute("aria-valuetext", text);
    this.#say(text);
  }

  /** Take a status. Only a whole task says whether it is paused; a queue position that changes says that it isn't. */
  status({ status, queue_position: position, paused = this.#paused && position === this.#position }) {
    this.#paused = paused;
    this.#position = position;
    if (status === "queued") {
      this.#forgetPreviews();
      this.#half = false;
      this.#fill(0, inLine(position, paused));
    }
    // A reopened stream sends it again; the bar stays where it is.
    if (status === "running" && this.element.dataset.status !== "running") this.#fill(null, "Starting");
    this.element.dataset.status = status;
  }

  progress(data) {
    if (data.attempt < this.#attempt) return; // sent by a run that lost its task
    this.#attempt = data.attempt;
    this.element.dataset.status = "running";
    this.element.dataset.step = data.step;
    const share = data.phase === "loading" ? downloaded(data) : data.percent;
    this.#fill(share, phase(data));
    this.element.style.setProperty("--blur", `${Math.max(2, BLUR_PIXELS * (1 - data.percent / 100))}px`);
    if (data.percent >= 50 && data.phase === "denoising" && !this.#half) {
      this.#half = true;
      announce(`50 % done: ${this.#task.params.prompt.slice(0, 80)}`);
    }
  }

  /** Lay the new preview over the last one, once it can be painted. */
  async preview({ attempt, src, step }) {
    const image = new Image();
    image.className = "preview";
    image.alt = "";
    image.src = src;
    image.dataset.step = step;
    await image.decode();
    const box = find(".images", this.element);
    const older = box.querySelectorAll(".preview");
    const overtaken = [...older].some((one) => Number(one.dataset.step) > step);
    if (attempt < this.#attempt || overtaken) return;
    box.append(image);
    image.addEventListener("animationend", () => older.forEach((old) => old.remove()), { once: true });
  }

  #forgetPreviews() {
    this.element.querySelectorAll(".preview").forEach((old) => old.remove());
  }

  async #cancel() {
    const button = this.#button("cancel");
    button.textContent = "Canceling…"; // not switched off: it would lose the focus
    try {
      await api.cancel(this.#task.id);
    } catch (refusal) {
      button.textContent = "Cancel";
      this.#say(refusal.message);
      announce(refusal.message);
    }
  }

  /** Take the task's end: images replace this tile, an error stays in it. */
  done(task) {
    this.#task = task;
    if (task.status === "succeeded") this.hooks.done(task);
    else this.#end(task);
  }

  #end({ status, error }) {
    const text = status === "canceled" ? "Canceled" : `Failed. ${error.message}`;
    this.element.dataset.status = status;
    this.#bar.hidden = true;
    this.#say(text);
    const hadFocus = this.element.contains(document.activeElement);
    this.#button("cancel").hidden = true;
    this.#button("again").hidden = false;
    this.#button("dismiss").hidden = false;
    if (hadFocus) this.#button("dismiss").focus();
    announce(`${text}: ${this.#task.params.prompt.slice(0, 80)}`);
    this.hooks.ended();
  }
}

const downloaded = ({ bytes_done: done, bytes_total: total }) => (total ? Math.floor((100 * done) / total) : null);
