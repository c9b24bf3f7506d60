// LoRAs and embeddings: names that are added one by one, each with its weight if it has one.

import { find, findAll, stamp } from "./dom.js";

class AddOns {
  #box;
  #value;
  #choice;

  constructor(box) {
    this.#box = box;
    this.#value = find("[data-json]", box);
    this.#choice = find("select", box);
    box.addEventListener("input", (event) => this.#changed(event));
    box.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) this.#remove(button.closest("li"));
    });
  }

  /** Show what the field's value names: a list of names, or of objects of `id` and `weight`. */
  show() {
    const chosen = JSON.parse(this.#value.value || "[]");
    find("ul", this.#box).replaceChildren(...chosen.map((one) => this.#row(one)));
    this.#offer();
  }

  get #weighted() {
    return "default" in this.#box.dataset;
  }

  get #rows() {
    return findAll("li", this.#box);
  }

  #changed(event) {
    if (event.target === this.#value) return;
    event.stopPropagation(); // the form listens to the field itself
    if (event.target === this.#choice) this.#add();
    this.#keep();
  }

  #add() {
    const { value } = this.#choice;
    find("ul", this.#box).append(this.#row(this.#weighted ? { id: value, weight: this.#box.dataset.default } : value));
  }

  #remove(row) {
    row.remove();
    this.#keep();
    this.#choice.focus();
  }

  #row(one) {
    const row = stamp("addon");
    const { min, max, default: placeholder } = this.#box.dataset;
    const [name, weight] = this.#weighted ? [one.id, one.weight] : [one];
    row.dataset.name = name;
    find("span", row).textContent = name;
    find("button", row).setAttribute("aria-label", `Remove ${name}`);
    const input = find("input", row);
    if (!this.#weighted) input.remove();
    else Object.assign(input, { min, max, placeholder, value: weight ?? "", ariaLabel: `Weight of ${name}` });
    return row;
  }

  /** Write the rows into the field. A weight that is left empty is left to the server. */
  #keep() {
    const chosen = this.#rows.map((row) => {
      const id = row.dataset.name;
      const weight = find("input", row)?.value;
      if (!this.#weighted) return id;
      return weight ? { id, weight: Number(weight) } : { id };
    });
    this.#value.value = chosen.length ? JSON.stringify(chosen) : "";
    this.#offer();
    this.#value.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Offer what isn't chosen yet. Where there is nothing to choose and nothing chosen, there is no field. */
  #offer() {
    const chosen = this.#rows.map((row) => row.dataset.name);
    for (const option of this.#choice.options) option.hidden = option.disabled = chosen.includes(option.value);
    this.#choice.value = "";
    this.#box.hidden = this.#choice.options.length === 1 && chosen.length === 0;
  }
}

export const addOns = (root) => findAll("[data-addons]", root).map((box) => new AddOns(box));
