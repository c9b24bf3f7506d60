// Pages about workers and models: what is marked comes anew every few seconds, and the rest of the page stays as it is.

import { fetchPage } from "./live.js";

const EVERY_MS = 3000;
const TABLE = "#result_list";

// Of a list the table alone is replaced, for what holds it scrolls; whoever came to a link by keyboard stays there.
function replace(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const tables = [old.querySelector(TABLE), fresh.querySelector(TABLE)];
  const [from, to] = tables.every(Boolean) ? tables : [old, fresh];
  from.replaceWith(to);
  const links = focused ? [...to.querySelectorAll("a")] : [];
  links.find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

async function refresh() {
  if (document.hidden || !getSelection().isCollapsed) return;
  const page = await fetchPage();
  for (const old of document.querySelectorAll("[data-refresh]")) {
    const fresh = page?.getElementById(old.id);
    // Never under a button of the mouse: the click would go nowhere.
    if (fresh && !old.querySelector(":active")) replace(old, fresh);
  }
}

setInterval(refresh, EVERY_MS);
