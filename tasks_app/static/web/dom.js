// Small helpers around the document.

export const find = (selector, root = document) => root.querySelector(selector);
export const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Copy the content of a <template>; a mere clone would stay in the template's document, which loads no images. */
export function stamp(id) {
  return document.importNode(document.getElementById(id).content.firstElementChild, true);
}

/** Say something to people who listen to the page instead of looking at it. */
export function announce(text) {
  find("#news").textContent = text;
}

/** Images up to this side are enlarged with their pixels as squares. */
const SMALL = 128;

/** Make the <img> of a task's image, a thumbnail unless `large`; a placeholder for a purged one. */
export function imageElement(image, alt, { large = false } = {}) {
  if (image.purged) return standIn(alt);
  const img = new Image(image.width, image.height);
  img.src = large || isSmall(image) ? pathOf(image) : new URL(image.thumbnail_url).pathname;
  img.alt = alt;
  img.classList.toggle("small", isSmall(image));
  return img;
}

function standIn(alt) {
  const made = document.createElement("span");
  made.className = "purged";
  if (alt) made.setAttribute("role", "img");
  if (alt) made.setAttribute("aria-label", `${alt} (purged)`);
  return made;
}

export const isSmall = (image) => Math.max(image.width, image.height) <= SMALL;
/** The path alone: the host in a URL may be one behind a proxy. */
export const pathOf = (image) => new URL(image.url).pathname;
