// Runs before the first paint, so that a chosen theme does not flash; modules would come too late.
{
  const KEY = "diffusers-handler:theme";
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off
    }
  };
  const keep = (theme) => {
    try {
      theme ? localStorage.setItem(KEY, theme) : localStorage.removeItem(KEY);
    } catch {
      // the choice lasts as long as the page
    }
  };
  const chosen = read();
  if (chosen) root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => button.setAttribute("aria-pressed", isDark());
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = isDark() ? "light" : "dark";
      // Back at what the system prefers, the page follows it again.
      const same = (next === "dark") === prefersDark.matches;
      keep(same ? null : next);
      if (same) delete root.dataset.theme;
      else root.dataset.theme = next;
      show();
    });
    prefersDark.addEventListener("change", show);
    show();
  });
}
