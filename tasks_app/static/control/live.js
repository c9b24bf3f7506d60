// Live tasks on a page of the admin: one event stream for all of them, and one way to bring a page up to date.

const RETRY_MS = 5000;

// Follow tasks until each has ended. `on` has functions of the data of `status`, `progress`, `preview` and `done`.
// When the stream can't be had (a task may have been deleted) `on.lost` is called after a while, or it is tried again.
// Returns a function that ends it.
export function follow(ids, on) {
  const open = new Set(ids);
  let source = null;
  let timer = null;

  const connect = () => {
    source = new EventSource(`/events?${new URLSearchParams([...open].map((id) => ["task", id]))}`);
    for (const name of ["status", "progress", "preview", "done"]) {
      source.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        if (name === "done") open.delete(data.task);
        if (!open.size) source.close();
        on[name]?.(data);
      });
    }
    // A browser comes back by itself, but not after an answer that was an error.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED && open.size) timer = setTimeout(on.lost ?? connect, RETRY_MS);
    });
  };

  if (open.size) connect();
  return () => {
    clearTimeout(timer);
    source?.close();
  };
}

// Show a progress event in the bar of its task.
export function showProgress(bar, data) {
  bar.setAttribute("aria-valuenow", data.percent);
  bar.classList.toggle("task-busy", data.phase !== "denoising");
  bar.querySelector(".task-bar > div").style.width = `${data.percent}%`;
  const [steps, phase] = bar.querySelectorAll(".task-steps span");
  steps.textContent = `${data.step}/${data.total_steps}`;
  phase.textContent = data.phase;
}

// Return the page as the server would render it now; null when it can't be had.
export async function fetchPage() {
  try {
    const answer = await fetch(location.href, { headers: { "X-Refresh": "1" } });
    if (!answer.ok || answer.redirected) return null;
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return null; // the next event or interval tries again
  }
}

// Show on this page what a fresh one says above all else: whether the queue is paused.
export function replaceBanner(page) {
  const fresh = page.getElementById("queue-banner");
  if (fresh) document.getElementById("queue-banner")?.replaceWith(fresh);
}

// Return a function that calls `work` soon, and never twice at the same time: calls in between count as one.
export function coalesced(work, pauseMs) {
  let wanted = false;
  let busy = false;
  const run = async () => {
    if (busy) return;
    busy = true;
    try {
      while (wanted) {
        wanted = false;
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
        await work();
      }
    } finally {
      busy = false;
    }
  };
  return () => {
    wanted = true;
    run();
  };
}
