// The service's API. Every failure is thrown as a Refusal with a message for the user.

/** What every request carries; the token is there for those who are signed in. */
const TOKEN = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
const HEADERS = { Accept: "application/json", ...(TOKEN && { "X-CSRFToken": TOKEN }) };

const AWAY = "The server can’t be reached. Check your connection, then try again.";
const BROKEN = "The server failed to answer. Please try again in a moment.";

export class Refusal extends Error {
  constructor(status, { message, retryable = false, fields = [] }) {
    super(message);
    this.status = status;
    this.retryable = retryable;
    this.fields = fields;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...HEADERS, ...options.headers } });
  } catch {
    throw new Refusal(0, { message: AWAY, retryable: true });
  }
  // A proxy's error page is not JSON.
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  throw new Refusal(answer.status, body?.error ?? { message: BROKEN, retryable: true });
}

/** Return an image's file. A script may not be able to read one in a bucket. */
export async function bytes(path) {
  const image = await fetch(path)
    .then((answer) => answer.ok && answer.blob())
    .catch(() => null);
  if (image) return image;
  throw new Refusal(0, { message: "This image can’t be loaded from here. Download it, then upload the file." });
}

const post = (path, body) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const submit = (body) => post("/task", body);
export const upload = (image) =>
  ask("/upload", { method: "POST", headers: { "Content-Type": image.type }, body: image });
export const uploadPath = (id) => `/upload/${id}`;
export const cancel = (id) => post(`/task/${id}/cancel`, {});
export const task = (id) => ask(`/task/${id}`);

/** Return a page of finished tasks; `next` of one page is the address of the following one. */
export function finished(next) {
  const { pathname, search } = new URL(next ?? "/task?status=succeeded&limit=24", location.origin);
  return ask(pathname + search);
}

/** Return the address of the single stream with the events of all these tasks. */
export const eventsOf = (ids) => `/events?${ids.map((id) => `task=${id}`).join("&")}`;
