// How things are put into words.

const endings = { one: "st", two: "nd", few: "rd", other: "th" };
const rules = new Intl.PluralRules("en", { type: "ordinal" });

export const ordinal = (number) => number + endings[rules.select(number)];
export const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

/** 3 s left, 2 min left; nothing while nobody knows. */
export function left(seconds) {
  if (seconds == null) return "";
  if (seconds < 1) return "almost there";
  return seconds < 90 ? `${Math.round(seconds)} s left` : `${Math.round(seconds / 60)} min left`;
}

export function inLine(position, paused = false) {
  const place = position == null ? "Waiting" : position === 1 ? "Next in line" : `${ordinal(position)} in line`;
  return paused ? `${place} · paused` : place;
}

const size = (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** What a running task is busy with, and how far it is. */
export function phase({ phase, step, total_steps, eta_seconds, bytes_done, bytes_total }) {
  if (phase === "loading") {
    return bytes_total ? `Downloading the model · ${size(bytes_done)} of ${size(bytes_total)}` : "Loading the model";
  }
  if (phase === "denoising") return [`Step ${step} of ${total_steps}`, left(eta_seconds)].filter(Boolean).join(" · ");
  return { decoding: "Finishing the picture", saving: "Saving" }[phase] ?? "Starting";
}

export const duration = (timings) => {
  const seconds = Object.values(timings).reduce((sum, part) => sum + part, 0);
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
};

export const moment = (time) =>
  new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));

/** A file name that tells the picture: a-red-house-42.png */
export function fileName(prompt, { seed, content_type: type }) {
  const slug = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${slug || "picture"}-${seed}.${type.split("/")[1]}`;
}
