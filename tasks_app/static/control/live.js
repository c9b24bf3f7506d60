// Live tasks on a page of the admin: one event stream for all of them, and one way to bring a page up to date.

const RETRY_MS = 5000;

// Follow tasks until each has ended. `on` maps the names of events to functions of their data; `on.moved` is called
// when a task's status changed, so that the page can be fetched anew. Returns a function that ends it.
export function follow(ids, on) {
  const open = new Set(ids);
  let source = null;
  let timer = null;

  const connect = () => {
    const query = new URLSearchParams([...open].map((id) => ["task", id]));
    source = new EventSource(`/events?${query}`);
    for (const name of ["progress", "preview"]) {
      source.addEventListener(name, (event) => on[name]?.(JSON.parse(event.data)));
    }
    let first = new Set();
    source.addEventListener("status", (event) => {
      const data = JSON.parse(event.data);
      on.status?.(data);
      // The first one of each task says what the page shows already.
      if (first.has(data.task)) on.moved?.(data);
      first.add(data.task);
    });
    source.addEventListener("done", (event) => {
      const data = JSON.parse(event.data);
      open.delete(data.task);
      on.moved?.(data);
      if (!open.size) source.close();
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED && open.size) timer = setTimeout(connect, RETRY_MS);
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
  bar.classList.remove("task-queued");
  bar.classList.add("task-running");
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

// Return a function that calls `work` soon, and never twice at the same time: calls in between count as one.
export function coalesced(work, pauseMs) {
  let wanted = false;
  let busy = false;
  const run = async () => {
    if (busy) return;
    busy = true;
    while (wanted) {
      wanted = false;
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
      await work();
    }
    busy = false;
  };
  return () => {
    wanted = true;
    run();
  };
}
