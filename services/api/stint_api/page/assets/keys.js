// Keys of one letter. They can be switched off, and are off where one types.
import { make, one } from "./dom.js";

const bound = new Map();
let first = "";
const off = () => document.cookie.includes("stint-keys=off");

/** `key` as `KeyboardEvent.key` names it; "g j" is one after the other. The table of keys is made of these. */
export function bind(key, words, work) {
  bound.set(key, { words, work });
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || off()) return;
  const found = bound.get(first ? `${first} ${event.key}` : event.key);
  first = !first && event.key === "g" ? "g" : "";
  if (!found) return;
  event.preventDefault();
  found.work(event);
});

/** All keys, and the switch for them. */
export function showKeys() {
  const dialog = make("dialog", "", { class: "dlg", "aria-labelledby": "keys-title" });
  const list = make("dl", "", { class: "facts keys" });
  for (const [key, { words }] of bound) {
    const term = make("dt");
    term.append(...key.split(" ").map((part) => make("kbd", part)));
    list.append(term, make("dd", words));
  }
  const label = make("label"), box = make("input", "", { type: "checkbox" });
  box.checked = !off();
  box.onchange = () => (document.cookie = `stint-keys=${box.checked ? "on" : "off"}; Path=/; SameSite=Strict; Max-Age=31536000`);
  label.append(box, make("span", "Keys of one letter"));
  const acts = make("div", "", { class: "acts" }), close = make("button", "Close", { type: "button", class: "btn" });
  close.onclick = () => dialog.close();
  acts.append(close);
  dialog.append(make("h2", "Keys", { id: "keys-title" }), list, label, acts);
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
  one("button", dialog).focus();
}
