// The list of tasks: bars move by themselves, rows change and come without a reload, and what is chosen stays chosen.

import { coalesced, fetchPage, follow, replaceBanner, showProgress } from "./live.js";

const MOVING = ["thumbnail", "status", "progress", "worker", "duration"];
const NEWEST_EVERY_MS = 2000;

const form = () => document.getElementById("changelist-form");
const rows = (root) => [...root.querySelectorAll("[data-task]")].map((row) => row.dataset.task);
const bar = (id) => document.querySelector(`[data-live="${id}"]`);
const paused = new Map();
const saysPaused = () => document.getElementById("queue-banner").textContent.trim() !== "";
let followed = new Set();
let stop = () => {};

// One stream for all rows; a new one only when there are rows that it does not know.
function watch() {
  const open = [...form().querySelectorAll("[data-live]")].map((each) => each.dataset.live);
  if (followed.size && open.every((id) => followed.has(id))) return;
  stop();
  followed = new Set(open);
  stop = follow(open, {
    progress: (data) => bar(data.task) && showProgress(bar(data.task), data),
    status: (data) => {
      if (bar(data.task) && bar(data.task).dataset.status !== data.status) refresh();
      // The first word of a task is compared with what the page says, which may be older.
      const before = paused.has(data.task) || data.status !== "queued" ? paused.get(data.task) : saysPaused();
      if (before !== undefined && before !== data.paused) refresh();
      paused.set(data.task, data.paused);
    },
    done: () => refresh(),
    lost: () => {
      followed = new Set();
      refresh();
    },
  });
}

const refresh = coalesced(async () => {
  const page = await fetchPage();
  const fresh = page?.getElementById("changelist-form");
  if (!fresh) return;
  replaceBanner(page);
  const before = rows(form()).join();
  const chosen = form().querySelector("input.action-select:checked");
  if (before !== rows(fresh).join() && !chosen) {
    form().replaceWith(fresh);
    const boxes = form().querySelectorAll("tr input.action-select");
    if (boxes.length) window.Actions(boxes, { parent: form().closest(".result-list-wrapper") });
  } else {
    replaceCells(page);
  }
  watch();
}, 400);

function replaceCells(page) {
  for (const id of rows(form())) {
    for (const name of MOVING) {
      const fresh = page.getElementById(`${name}-${id}`);
      if (fresh) document.getElementById(`${name}-${id}`).replaceWith(fresh);
    }
  }
}

// The newest task of all says whether there is something new; only the list's first page shows what is new.
async function lookForNew() {
  const answer = await fetch("/task?limit=1").catch(() => null);
  if (!answer?.ok) return;
  const [newest] = (await answer.json()).results;
  const isNew = known === undefined ? newest && !rows(form()).includes(newest.id) : newest?.id !== known;
  if (isNew) refresh();
  known = newest?.id ?? null;
}

let known; // nothing until it was asked for, null while there is no task at all
watch();
const query = new URLSearchParams(location.search);
if (!["p", "before", "q"].some((name) => query.has(name))) {
  lookForNew();
  setInterval(() => document.hidden || lookForNew(), NEWEST_EVERY_MS);
}
