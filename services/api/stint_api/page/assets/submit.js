// A form for a job, and beside it the command that submits the same job sealed.
import { call } from "./api.js";
import { all, clone, copy, make, one, text } from "./dom.js";
import { quote, split } from "./shell-words.js";
import { attend, begin, connection, fail, withdraw } from "./shell.js";
import { bytes } from "./words.js";

const LARGEST = 16 * 1024 * 1024;
const form = one("[data-form]");

function add() {
  const element = clone("t-secret");
  one("button", element).onclick = () => { element.remove(); render(); };
  one("[data-secrets]").append(element);
  return one("input", element);
}

const value = (name) => form.elements[name].value.trim();
const file = () => form.elements.content.files[0];
const secrets = () => all(".pair-of").map((row) => [one("[data-name]", row).value.trim(), one("[data-path]", row).value.trim()]).filter(([name, path]) => name && path).map((pair) => pair.join("@"));

function render() {
  const words = split(form.elements.command.value), chosen = file();
  const told = words === null ? "A quote is not closed." : words.length ? `${words.length} words: ${words.map((word) => `‹${word}›`).join(" ")}` : "Split as a shell does. For pipes and variables, sh -c '…'.";
  text(one("[data-split]"), told);
  form.elements.command.setCustomValidity(words === null ? told : "");
  if (chosen) text(one("[data-size]"), `${bytes(chosen.size)}${chosen.size > LARGEST ? ", more than the 16 MiB that are accepted" : ""}`);
  form.elements.content.setCustomValidity(chosen && chosen.size > LARGEST ? "At most 16 MiB." : "");
  text(one("[data-go]"), value("queue") ? `Submit to ${value("queue")}` : "Submit to the unnamed queue");
  const parts = line().split("\n");
  one("[data-line]").replaceChildren(...parts.flatMap((part, i) => (i < parts.length - 1 ? [part.slice(0, -1), make("i", "\\"), "\n"] : [part])));
}

/** What `stint run` has no option for stays out of the line. */
function line() {
  const parts = ["stint run"];
  if (value("queue")) parts.push(`--queue ${quote(value("queue"))}`);
  parts.push(`--image ${quote(value("image") || "IMAGE")}`);
  for (const secret of secrets()) parts.push(`--secret ${quote(secret)}`);
  if (file()) parts.push(`--content ${quote(`./${file().name}`)}`);
  const words = split(form.elements.command.value) ?? [];
  if (words.length) parts.push(`-- ${words.map(quote).join(" ")}`);
  return parts.join(" \\\n  ");
}

async function submit() {
  withdraw("failure");
  const button = one("[data-go]");
  button.disabled = true;
  try {
    const { wrap_secret_id } = await call("/session/secret-id", { method: "POST" });
    const { _id } = await call("/v1/api/job", { method: "POST", body: { ...(await job()), wrap_secret_id } });
    location.assign(`/jobs/${_id}`);
  } catch (refused) {
    fail(refused.message);
    button.disabled = false;
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
  if (file()) fields.content = `targz,${await base64(file())}`;
  return fields;
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
attend();
connection.live();
one("[data-add-secret]").onclick = () => add().focus();
one("[data-copy]").onclick = (event) => copy(line(), event.currentTarget);
form.oninput = render;
form.onsubmit = (event) => { event.preventDefault(); submit(); };
form.elements.queue.value = new URLSearchParams(location.search).get("queue") ?? "";
render();
