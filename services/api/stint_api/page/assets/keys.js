// Keys of one letter. They can be switched off, and are off where one types, and while a dialog is open.
import { one } from "./dom.js";

export const bound = new Map();
let first = "";
export const off = () => document.cookie.includes("stint-keys=off");

/** `key` as `KeyboardEvent.key` names it; "g j" is one after the other. The table of keys is made of these. */
export function bind(key, words, work) {
  bound.set(key, { words, work });
}

addEventListener("keydown", (event) => {
  // A dialog that was just closed keeps the focus until the browser finds time to move it.
  const typing = one("dialog[open]") ?? event.target.closest?.(":is(input:not([type=checkbox]), select, textarea):not(dialog *)");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || off()) return;
  const found = bound.get(first ? `${first} ${event.key}` : event.key);
  first = !first && event.key === "g" ? "g" : "";
  if (!found) return;
  event.preventDefault();
  found.work(event);
});
