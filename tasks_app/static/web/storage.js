// What this browser remembers: the form's values, and which tasks are its own. Nothing breaks where storage is off.

const PREFIX = "diffusers-handler:";

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // switched off, or full
  }
}

export const formValues = () => read("form", {});
export const keepFormValues = (values) => write("form", values);

export const ownTasks = () => read("tasks", []);
export const keepTask = (id) => write("tasks", [...new Set([...ownTasks(), id])]);
export const forgetTask = (id) => write("tasks", ownTasks().filter((own) => own !== id));
