// A form for a job, and beside it the command that submits the same job sealed.
import { call } from "./api.js";
import { all, clone, make, one, text } from "./dom.js";
import { dropped, picked } from "./content.js";
import { quote, split } from "./shell-words.js";
import { begin, connection, copy, fail, failed, withdraw } from "./shell.js";
import { pack } from "./tar.js";
import { bytes, count } from "./words.js";

const CONTENT_BYTES = 16 * 1024 * 1024;
const NOTHING = { files: [], folder: "", archive: null };
const form = one("[data-form]"), place = one("[data-drop]");
let content = NOTHING, packed = null, trouble = "", choices = 0, unanswered = null;

function add() {
  const element = clone("t-secret");
  one("button", element).onclick = () => { element.remove(); render(); one("[data-add-secret]").focus(); };
  one("[data-secrets]").append(element);
  return one("input", element);
}

const value = (name) => form.elements[name].value.trim();
const secrets = () => all(".pair-of").map((row) => [one("[data-name]", row).value.trim(), one("[data-path]", row).value.trim()]).filter(([name, path]) => name && path).map((pair) => pair.join("@"));

function render() {
  const words = split(form.elements.command.value);
  const told = words === null ? "A quote is not closed." : words.length ? `${words.length} words: ${words.map((word) => `‹${word}›`).join(" ")}` : "Split as a shell does. For pipes and variables, sh -c '…'.";
  text(one("[data-split]"), told);
  form.elements.command.setCustomValidity(words === null ? told : "");
  text(one("[data-size]"), said());
  one("[data-none]").hidden = content === NOTHING;
  text(one("[data-go]"), value("queue") ? `Submit to ${value("queue")}` : "Submit to the unnamed queue");
  const parts = line().split("\n");
  one("[data-line]").replaceChildren(...parts.flatMap((part, i) => (i < parts.length - 1 ? [part.slice(0, -1), make("i", "\\"), "\n"] : [part])));
}

/** The command that submits what the form says. */
function line() {
  const parts = ["stint run"];
  if (value("queue")) parts.push(`--queue ${quote(value("queue"))}`);
  parts.push(`--image ${quote(value("image") || "IMAGE")}`);
  for (const secret of secrets()) parts.push(`--secret ${quote(secret)}`);
  if (content !== NOTHING) parts.push(`--content ${named() ? quote(`./${named()}`) : "FOLDER"}`);
  for (const name of ["timeout", "memory", "on_lost"]) if (value(name)) parts.push(`--${name.replace("_", "-")} ${quote(value(name))}`);
  if (form.elements.mask_secrets.checked) parts.push("--mask-secrets");
  const words = split(form.elements.command.value) ?? [];
  if (words.length) parts.push(`-- ${words.map(quote).join(" ")}`);
  return parts.join(" \\\n  ");
}

async function submit() {
  withdraw("failure");
  if (content !== NOTHING && (trouble || !packed)) return fail(trouble ? `The content cannot be sent: ${trouble}.` : "The content is still being packed.");
  const button = one("[data-go]");
  button.disabled = true;
  try {
    location.assign(`/jobs/${await store(await job())}`);
  } catch (refused) {
    failed(refused);
    button.disabled = false;
  }
}

/** The new job's id. Fields whose last submission nobody answered for are sent as the same request, so that they are one job. */
async function store(fields) {
  const same = JSON.stringify(fields);
  if (unanswered?.same !== same) unanswered = { same, key: crypto.randomUUID(), secret: await call("/session/secret-id", { method: "POST" }) };
  const headers = { "Idempotency-Key": unanswered.key }, body = { ...fields, ...unanswered.secret };
  try {
    const { _id } = await call("/v1/api/job", { method: "POST", body, headers });
    unanswered = null;
    return _id;
  } catch (refused) {
    if (refused.status && refused.status < 500) unanswered = null;
    throw refused;
  }
}

async function job() {
  const fields = {
    qname: value("queue"),
    container_image: value("image"),
    run: split(form.elements.command.value),
    secret_refs: secrets(),
    timeout: Number(value("timeout")),
    memory: value("memory") || 0,
    on_lost: value("on_lost"),
    mask_secrets: form.elements.mask_secrets.checked,
  };
  if (packed) fields.content = `targz,${await base64(packed)}`;
  return fields;
}

/** What is chosen, and how large it is as it is sent. */
function said() {
  if (content === NOTHING) return "Drop a folder, files or a .tar.gz here.";
  const what = named() ? `${named()}${content.archive ? "" : `, ${count(content.files.length, "file")}`}` : count(content.files.length, "file");
  return `${what}: ${trouble || (packed ? `${bytes(packed.size)}${content.archive ? "" : " packed"}` : "being packed")}.`;
}

const named = () => content.folder || content.archive?.name;

/** Take what was chosen, and pack it now, so that its size is known. Of two choices the later one counts, also if it is read first. */
async function take(choosing) {
  const mine = ++choices;
  packed = null;
  trouble = "";
  try {
    const chosen = await choosing;
    if (mine !== choices) return;
    content = chosen;
    if (!chosen.files.length) throw new Error("there is no file in it");
    render();
    const made = chosen.archive ?? (await pack(chosen.files));
    if (mine !== choices) return;
    packed = made;
    if (packed.size > CONTENT_BYTES) trouble = `${bytes(packed.size)} packed, more than the 16 MiB that are accepted`;
  } catch (error) {
    if (mine !== choices) return;
    trouble = error.message || "it cannot be read";
  }
  render();
}

function takeNothing() {
  choices++;
  [content, packed, trouble] = [NOTHING, null, ""];
  render();
  one('[data-pick="files"]').focus();
}

function choosing() {
  for (const kind of ["files", "folder"]) {
    const input = one(`[data-input="${kind}"]`);
    one(`[data-pick="${kind}"]`).onclick = () => input.click();
    input.onchange = () => { if (input.files.length) take(picked(input.files)); };
  }
  one("[data-none]").onclick = takeNothing;
  const over = (on) => place.classList.toggle("over", on);
  place.ondragover = (event) => { event.preventDefault(); over(true); };
  place.ondragleave = () => over(false);
  place.ondrop = (event) => { event.preventDefault(); over(false); take(dropped(event.dataTransfer)); };
}

/** A file's content in base64. */
function base64(chosen) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(chosen);
  });
}

begin();
choosing();
connection.live();
one("[data-add-secret]").onclick = () => add().focus();
one("[data-copy]").onclick = (event) => copy(line(), event.currentTarget);
form.oninput = render;
form.onsubmit = (event) => { event.preventDefault(); submit(); };
form.elements.queue.value = new URLSearchParams(location.search).get("queue") ?? "";
render();
