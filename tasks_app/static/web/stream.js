// One EventSource for all tasks that are followed. It is reopened when one joins, and closed after the last one.

import { eventsOf, task as fetchTask } from "./api.js";

// As many as the server lets one stream carry.
const MANY = 200;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
const KINDS = ["status", "progress", "preview", "done"];
const ENDED = ["succeeded", "failed", "canceled"];

export class Stream {
  #ids = new Set();
  #source = null;
  #timer = 0;
  #pause = FIRST_PAUSE;
  #tell;

  /** `tell(kind, data)` is called for every event; `gone` is a task that the service does not know. */
  constructor(tell) {
    this.#tell = tell;
  }

  follow(id) {
    this.#ids.add(id);
    this.#reopenAfter(0);
  }

  leave(id) {
    const carried = [...this.#ids].indexOf(id) < MANY;
    this.#ids.delete(id);
    if (this.#ids.size === 0) this.#close();
    else if (carried && this.#ids.size >= MANY) this.#reopenAfter(0);
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #reopenAfter(pause) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), pause);
  }

  #open() {
    this.#close();
    if (this.#ids.size === 0) return;
    const source = new EventSource(eventsOf([...this.#ids].slice(0, MANY)));
    this.#source = source;
    source.onopen = () => (this.#pause = FIRST_PAUSE);
    source.onerror = () => source.readyState === EventSource.CLOSED && this.#ask();
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.#hear(kind, JSON.parse(event.data)));
  }

  #hear(kind, data) {
    if (!this.#ids.has(data.task)) return;
    if (kind === "done") this.leave(data.task);
    this.#tell(kind, data);
  }

  /** The stream was refused: ask for each task, then try again. */
  async #ask() {
    await Promise.all([...this.#ids].map((id) => this.#askFor(id)));
    if (this.#ids.size === 0) return;
    this.#reopenAfter(this.#pause);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
  }

  async #askFor(id) {
    try {
      const task = await fetchTask(id);
      if (ENDED.includes(task.status)) return this.#hear("done", { task: id, ...task });
      this.#hear("status", { task: id, ...task });
      if (task.status === "running") this.#hear("progress", { task: id, attempt: task.attempt, ...task.progress });
    } catch (refusal) {
      if (refusal.status !== 404) return;
      this.leave(id);
      this.#tell("gone", { task: id });
    }
  }
}
