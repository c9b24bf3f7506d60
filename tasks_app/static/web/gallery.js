// The wall: tiles of finished tasks, as many as one scrolls to.

import * as api from "./api.js";
import { announce, find, findAll, imageElement, pathOf, stamp } from "./dom.js";
import { countImages } from "./words.js";

const SHOWN = 4;
const wall = find("#wall");
const more = find("#more");

/** Tasks as the API returned them, by id; those that came with the page are fetched when they are opened. */
const known = new Map();
let next = null;
let loading = false;

export const finishedIds = () => findAll(".tile[data-task]", wall).map((tile) => tile.dataset.task);
export const tileOf = (id) => find(`.tile[data-task="${id}"]`, wall);
export const showEmptiness = () => (find("#empty").hidden = wall.children.length > 0);

export async function taskOf(id) {
  if (!known.has(id)) known.set(id, await api.task(id));
  return known.get(id);
}

/** Make the tile of a finished task. */
export function tile(task, { large = false } = {}) {
  known.set(task.id, task);
  const made = stamp("tile");
  made.dataset.task = task.id;
  made.classList.toggle("large", large);
  const box = find(".images", made);
  box.dataset.count = task.images.length;
  box.replaceChildren(
    ...task.images.slice(0, SHOWN).map((image, at) => imageElement(image, at === 0 ? task.params.prompt : "", { large })),
  );
  find(".prompt", made).textContent = task.params.prompt;
  find("a", made).href = pathOf(task.images[0]);
  return made;
}

/** Put a tile first. */
export function prepend(element) {
  wall.prepend(element);
  showEmptiness();
}

/** Load the next page; true when something came. */
export async function loadMore() {
  if (loading || more.hidden) return false;
  loading = true;
  try {
    const fresh = await nextFresh();
    wall.append(...fresh.map(lazyTile));
    if (fresh.length) announce(`${countImages(fresh.length)} more`);
    return fresh.length > 0;
  } catch (refusal) {
    announce(refusal.message);
    find("button", more).textContent = "Couldn’t load more. Try again";
    return false;
  } finally {
    loading = false;
  }
}

/** Return the next tasks that the wall does not show; the first page came with the document. */
async function nextFresh() {
  let fresh = [];
  do {
    const page = await api.finished(next);
    next = page.next;
    more.hidden = !next;
    fresh = page.results.filter(({ id }) => !tileOf(id) && !find(`[data-working="${id}"]`, wall));
    page.results.forEach((task) => known.set(task.id, task));
  } while (fresh.length === 0 && next);
  return fresh;
}

function lazyTile(task) {
  const made = tile(task);
  findAll("img", made).forEach((image) => (image.loading = "lazy"));
  return made;
}

/** Load on when the end of the wall comes near; observing again shows whether it is still near. */
function observe() {
  const observer = new IntersectionObserver(
    async (entries) => {
      if (!entries.at(-1).isIntersecting || !(await loadMore())) return;
      observer.unobserve(more);
      observer.observe(more);
    },
    { rootMargin: "600px" },
  );
  observer.observe(more);
}

/** Wire the wall. `open(id)` opens a tile. */
export function start(open) {
  more.hidden = !("full" in more.dataset);
  find("button", more).addEventListener("click", async () => {
    const before = finishedIds().length;
    find("button", more).textContent = "Load more";
    if (await loadMore()) find("a", tileOf(finishedIds()[before])).focus();
  });
  observe();
  // By hand: with #wall in the address, the viewer's way back would take the focus off its tile.
  find(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    wall.focus();
  });
  wall.addEventListener("click", (event) => {
    const link = event.target.closest(".tile[data-task] a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link.closest(".tile").dataset.task);
  });
  wall.addEventListener("error", (event) => event.target.closest(".tile")?.classList.add("broken"), true);
}
