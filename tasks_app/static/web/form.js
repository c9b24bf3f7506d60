// The form: values in and out, what this browser remembers of them, and errors at their fields.

import { addOns } from "./addons.js";
import { Beginning } from "./beginning.js";
import { announce, find, findAll } from "./dom.js";
import { formValues, keepFormValues } from "./storage.js";

const form = find("#composer");
const refusal = find("#refusal");
const inputs = findAll("[name]", form);
const input = (name) => inputs.find((one) => one.name === name);
const isNumber = (one) => one.type === "number";
const lists = addOns(form);
const beginning = new Beginning(form, { tell: (name, message) => tell(input(name), message), area });
/** What a starting image replaces, and what only applies with one. */
const [SIZE, BEGUN] = [
  ["width", "height"],
  ["image", "mask", "strength"],
];
/** What people use to change a field. */
const control = (one) => find(`#${one.id}-add`) ?? one;

/** Return the body of `POST /task`; what was left empty is left to the server. */
export function body() {
  const type = beginning.type;
  const unused = { "text-to-image": BEGUN, "image-to-image": [...SIZE, "mask"], inpainting: SIZE }[type];
  const filled = inputs.filter((one) => one.value !== "" && !unused.includes(one.name));
  const { priority = 0, ...params } = Object.fromEntries(
    filled.map((one) => [one.name, valueOf(one)]),
  );
  return { task_type: type, priority, params };
}

function valueOf(one) {
  if ("json" in one.dataset) return JSON.parse(one.value);
  return isNumber(one) ? Number(one.value) : one.value;
}

/** Write values into the form; null empties a field. A model that isn't offered leaves the choice as it is. */
export function fill(values) {
  beginning.forget();
  for (const one of inputs.filter((one) => one.name in values)) {
    const value = written(values[one.name]);
    if (one.tagName !== "SELECT" || [...one.options].some((option) => option.value === value)) one.value = value;
  }
  lists.forEach((list) => list.show());
  follow();
  keep();
}

function written(value) {
  if (Array.isArray(value)) return value.length ? JSON.stringify(value) : "";
  return String(value ?? "");
}

const keep = () => keepFormValues(Object.fromEntries(inputs.map((one) => [one.name, one.value])));

/** Let what an empty field stands for and the schedulers follow the model, and let sliders follow their fields. */
function follow() {
  const model = input("model_id").selectedOptions[0].dataset;
  offer(JSON.parse(model.schedulers));
  beginning.offer(JSON.parse(model.types));
  const defaults = JSON.parse(model.defaults);
  for (const one of findAll("[data-default]", form)) one.placeholder = defaults[one.name] ?? one.dataset.default;
  for (const slider of findAll("[data-slides]", form)) {
    const { value: entered, placeholder } = input(slider.dataset.slides);
    slider.value = entered || placeholder;
    const { min, max, value } = slider;
    slider.style.setProperty("--at", (value - min) / (max - min));
  }
}

/** How many pixels the model generates by default; a million if unknown. */
function area() {
  const model = input("model_id").selectedOptions[0].dataset;
  const { width, height } = JSON.parse(model.defaults);
  const own = width && height ? width * height : (JSON.parse(model.area) ?? 2 ** 20);
  return Math.min(Number(find("#begin").dataset.maxPixels), own);
}

/** Offer the schedulers that the model takes; all if unknown. */
function offer(names) {
  const choice = input("scheduler");
  for (const option of choice.options) {
    option.disabled = Boolean(names && option.value && !names.includes(option.value));
    option.hidden = option.disabled;
  }
  if (choice.selectedOptions[0].disabled) choice.value = "";
}

/** Take last time's errors away. */
function clear() {
  refusal.hidden = true;
  inputs.forEach((one) => tell(one, ""));
}

function tell(one, message) {
  const line = find(`#${one.id}-error`);
  line.textContent = message;
  line.hidden = !message;
  if (message) control(one).setAttribute("aria-invalid", "true");
  else control(one).removeAttribute("aria-invalid");
}

/** Show why the service refused, each error at its field; the first one gets the focus. */
export function showRefusal({ message, retryable, fields }) {
  const wrong = fields.map((field) => [input(nameIn(field.path)), field]).filter(([one]) => one);
  const elsewhere = fields.length - wrong.length;
  wrong.forEach(([one, field]) => tell(one, field.message));
  if (wrong.length) focusFirst(wrong.map(([one]) => one));
  if (!wrong.length || elsewhere) {
    find("p", refusal).textContent = message;
    find("button", refusal).hidden = !retryable;
    refusal.hidden = false;
  } else announce(wrong.length === 1 ? "1 field needs attention." : `${wrong.length} fields need attention.`);
}

/** The field that a path leads to, or into. */
const nameIn = (path) => path.replace(/^params\./, "").split(".")[0];

function focusFirst(wrong) {
  const first = inputs.find((one) => wrong.includes(one));
  for (let box = first.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  control(first).focus();
}

/** What browsers keep from us: letters in a number's field. */
function misspelled() {
  return findAll("[type=number]", form)
    .filter((one) => one.validity.badInput && !one.closest("[hidden]"))
    .map((one) => ({ path: one.name || one.closest("[data-addons]").dataset.addons, message: "Must be a number." }));
}

/** Wire the form; `generate(body)` is called for every submission that can be sent. */
export function start(generate) {
  form.noValidate = true; // one judge, the service, and one way to show what it says
  fill(formValues());
  if (matchMedia("(max-width: 56rem)").matches) find("#settings").open = false;
  find("[type=submit]", form).disabled = false;
  form.addEventListener("input", (event) => {
    const { slides } = event.target.dataset;
    if (slides) input(slides).value = event.target.value;
    tell(input(slides ?? event.target.name), "");
    follow();
    keep();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!(await beginning.settled)) return; // not without the image that the user chose
    clear();
    const fields = misspelled();
    if (fields.length) showRefusal({ message: "", retryable: false, fields });
    else generate(body());
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  find("button", refusal).addEventListener("click", () => form.requestSubmit());
}

/** Use the image that `read` promises as the starting image. */
export async function beginWith(read) {
  clear();
  const refused = { message: "This model can’t start from an image. Choose another model.", retryable: false, fields: [] };
  if (find("#begin").hidden) showRefusal(refused);
  else await beginning.take(read);
}

export function focusPrompt() {
  input("prompt").focus();
}
