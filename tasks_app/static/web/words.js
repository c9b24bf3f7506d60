// How things are put into words.

export const countImages = (count) => (count === 1 ? "1 image" : `${count} images`);

/** "3 s left", "2 min left"; empty if unknown. */
export function left(seconds) {
  if (seconds == null) return "";
  if (seconds < 1) return "less than 1 s left";
  return seconds < 90 ? `${Math.round(seconds)} s left` : `${Math.round(seconds / 60)} min left`;
}

export function inLine(position, paused = false) {
  const place = position == null ? "Waiting" : position === 1 ? "Next up" : `#${position} in queue`;
  return paused ? `${place} · paused` : place;
}

const size = (bytes) => (bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);

/** The phase of a running task, and its progress. */
export function phase({ phase, step, total_steps, eta_seconds, bytes_done, bytes_total }) {
  if (phase === "loading") {
    return bytes_total ? `Downloading the model · ${size(bytes_done)} of ${size(bytes_total)}` : "Loading the model";
  }
  if (phase === "denoising") return [`Step ${step} of ${total_steps}`, left(eta_seconds)].filter(Boolean).join(" · ");
  return { decoding: "Decoding", saving: "Saving" }[phase] ?? "Starting";
}

export const duration = (timings) => {
  const seconds = Object.values(timings).reduce((sum, part) => sum + part, 0);
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
};

export const moment = (time) =>
  new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" }).format(new Date(time));

/** A file name that describes the image: a-red-house-42.png */
export function fileName(prompt, { seed, content_type: type }) {
  const slug = prompt.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);
  return `${slug || "image"}-${seed}.${type.split("/")[1]}`;
}
