// A task's page: its bar moves, its picture forms, and the page is brought up to date when its status changes.

import { coalesced, fetchPage, follow, showProgress } from "./live.js";

const page = () => document.getElementById("task-page");

const refresh = coalesced(async () => {
  // Never while somebody marks text to copy it.
  while (!getSelection().isCollapsed) await new Promise((resolve) => setTimeout(resolve, 500));
  const fresh = (await fetchPage())?.getElementById("task-page");
  if (fresh) page().replaceWith(fresh);
}, 300);

function showPreview(data) {
  const figure = document.getElementById("task-preview");
  if (!figure) return;
  const image = figure.querySelector("img");
  image.src = data.src;
  image.style.aspectRatio = `${data.width} / ${data.height}`;
  figure.hidden = false;
  figure.querySelector("figcaption").textContent = `step ${data.step} of ${data.total_steps}`;
}

function showRemaining(data) {
  const text = document.getElementById("task-remaining");
  if (!text) return;
  if (data.bytes_total) {
    text.textContent = `${(data.bytes_done / 1e6).toFixed(0)} of ${(data.bytes_total / 1e6).toFixed(0)} MB`;
  } else {
    text.textContent = data.eta_seconds == null ? "" : `about ${data.eta_seconds.toFixed(1)} s left`;
  }
}

const bar = () => page().querySelector(".task-progress");
const live = page().dataset.live;
if (live) {
  follow([live], {
    progress: (data) => {
      showProgress(bar(), data);
      showRemaining(data);
    },
    preview: showPreview,
    status: (data) => bar().dataset.status !== data.status && refresh(),
    done: refresh,
  });
}
