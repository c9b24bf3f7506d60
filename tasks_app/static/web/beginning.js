// The starting image of a task: chosen, dropped or pasted, and a mask that was painted over it.

import * as api from "./api.js";
import { announce, find, findAll } from "./dom.js";
import { paint } from "./painter.js";

// What POST /upload takes.
const TYPES = ["image/png", "image/jpeg", "image/webp"];
const [SHORTEST, LONGEST] = [32, 2048];

export class Beginning {
  #box = find("#begin");
  #image = find("#image");
  #mask = find("#mask");
  #add = find("#image-add");
  #shown = find("[data-layer=image]");
  #over = find("[data-layer=mask]");
  #taking = Promise.resolve(true);
  #turn = 0;
  #types = null;
  #hooks;

  /** Of `hooks`, `tell(name, message)` shows what is wrong with a field, `area()` is how many pixels the model draws. */
  constructor(form, hooks) {
    this.#hooks = hooks;
    const file = find("#image-file");
    this.#add.addEventListener("click", () => file.click());
    file.addEventListener("input", (event) => event.stopPropagation()); // the form listens to the fields themselves
    file.addEventListener("change", () => {
      const [chosen] = file.files;
      file.value = ""; // so that the same one can be chosen again
      if (chosen) this.take(() => chosen);
    });
    find("[data-do=remove]", this.#box).addEventListener("click", () => this.#remove());
    find("#mask-add").addEventListener("click", () => this.#maskOver());
    form.addEventListener("dragover", (event) => this.#canTake(event.dataTransfer) && event.preventDefault());
    form.addEventListener("drop", (event) => this.#takeFrom(event, event.dataTransfer));
    addEventListener("paste", (event) => isText(event) || this.#takeFrom(event, event.clipboardData));
    this.#shown.addEventListener("load", () => this.#measure());
    this.#shown.addEventListener("error", () => this.#gone());
  }

  /** The type of a task with what the form has. */
  get type() {
    if (!this.#image.value || !this.#can("image-to-image")) return "text-to-image";
    return this.#mask.value && this.#can("inpainting") ? "inpainting" : "image-to-image";
  }

  /** Wait for an image that is being uploaded; false if it was rejected. */
  get settled() {
    return this.#taking;
  }

  /** Offer what the model supports; null if unknown. */
  offer(types) {
    this.#types = types;
    this.#show();
  }

  /** Ignore the result of an upload that is still running. */
  forget() {
    this.#turn += 1;
  }

  /** Use the image that `read` returns or promises as the starting image. */
  take(read) {
    return this.#keepWaiting(this.#send("image", async () => fitted(await read(), this.#hooks.area())));
  }

  #show() {
    this.#box.hidden = !this.#can("image-to-image");
    const [image, mask] = [this.#image.value, this.#mask.value];
    const begun = this.type !== "text-to-image";
    for (const one of findAll("[data-begun]", this.#box)) one.hidden = !begun;
    find("#size").hidden = begun; // the image's
    this.#add.className = begun ? "quiet" : "button";
    this.#label();
    find("#mask-add").hidden = !begun || !this.#can("inpainting");
    find("#mask-add").textContent = mask ? "Redo mask" : "Paint a mask";
    display(this.#shown, image);
    display(this.#over, this.type === "inpainting" ? mask : "");
  }

  #label() {
    this.#add.textContent = this.type === "text-to-image" ? "Upload, drop or paste an image" : "Replace image";
  }

  #can(type) {
    return this.#types === null || this.#types.includes(type);
  }

  #canTake(data) {
    const busy = this.#box.hidden || document.querySelector("dialog[open]");
    return !busy && [...(data?.items ?? [])].some(isImage);
  }

  #takeFrom(event, data) {
    if (!this.#canTake(data)) return;
    event.preventDefault();
    const file = [...data.items].find(isImage).getAsFile();
    this.take(() => file);
  }

  #keepWaiting(sending) {
    this.#taking = sending;
    return sending.finally(() => {
      if (this.#taking === sending) this.#taking = Promise.resolve(true);
    });
  }

  /** Send what `read` promises for a field. What is chosen later goes before it, whichever comes first. */
  async #send(name, read) {
    this.forget();
    const turn = this.#turn;
    this.#hooks.tell(name, "");
    this.#add.textContent = "Uploading…";
    announce("Uploading the image.");
    try {
      const { id } = await api.upload(await read());
      if (turn !== this.#turn) return true;
      if (name === "image") this.#set(id, "");
      else this.#set(this.#image.value, id);
      announce(name === "image" ? "Starting image set." : "Mask set.");
      return true;
    } catch (refusal) {
      if (!(refusal instanceof api.Refusal)) throw refusal;
      if (turn !== this.#turn) return true;
      this.#hooks.tell(name, refusal.message);
      announce(refusal.message);
      return false;
    } finally {
      if (turn === this.#turn) this.#label();
    }
  }

  #set(image, mask) {
    [this.#image.value, this.#mask.value] = [image, mask];
    this.#show();
    this.#image.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #remove() {
    this.forget();
    this.#set("", "");
    this.#add.focus();
  }

  async #maskOver() {
    const image = this.#image.value;
    const isLoaded = await this.#shown.decode().then(
      () => true,
      () => false,
    );
    if (!isLoaded) return;
    const { src, naturalWidth: width, naturalHeight: height } = this.#shown;
    const mask = await paint({ src, width, height });
    if (image !== this.#image.value) return;
    if (mask === null) this.#set(image, "");
    else if (mask) await this.#keepWaiting(this.#send("mask", () => mask));
  }

  #measure() {
    const { naturalWidth: width, naturalHeight: height } = this.#shown;
    find(".begun .hint", this.#box).textContent = `${width - (width % 8)} × ${height - (height % 8)}`;
  }

  /** The server keeps uploads for a while only. */
  #gone() {
    if (!this.#image.value) return;
    const message = "The image has expired or can’t be loaded. Upload it again.";
    this.#set("", "");
    this.#hooks.tell("image", message);
    announce(message);
  }
}

/** Whether a paste is text; some programs put an image beside it. */
const isText = ({ target, clipboardData }) =>
  Boolean(target.closest?.("textarea, input")) && clipboardData.types.includes("text/plain");
const isImage = ({ kind, type }) => kind === "file" && type.startsWith("image/");

function display(img, id) {
  img.hidden = !id;
  const src = id && api.uploadPath(id);
  if (!id) img.removeAttribute("src");
  else if (img.getAttribute("src") !== src) img.src = src;
}

/** Return an image of a type that the server accepts, scaled down if it has more pixels than the model generates. */
async function fitted(file, area) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return file; // the server says what is wrong with it
  }
  const { width, height } = bitmap;
  const least = Math.min(1, SHORTEST / Math.min(width, height));
  const scale = Math.max(least, Math.min(1, Math.sqrt(area / (width * height)), LONGEST / Math.max(width, height)));
  if (scale === 1 && TYPES.includes(file.type)) return file;
  const scaled = (side) => Math.max(Math.min(side, SHORTEST), Math.floor(side * scale));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: scaled(width), height: scaled(height) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
