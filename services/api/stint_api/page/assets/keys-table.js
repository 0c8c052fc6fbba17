// The table of keys, and the switch for them.
import { button, make, one } from "./dom.js";
import { bound, off } from "./keys.js";

/** All keys, and the switch for them. */
export function showKeys() {
  if (one("#keys-title")) return; // asked for twice, before it was here
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
  const acts = make("div", "", { class: "acts" });
  acts.append(button("Close", () => dialog.close(), ""));
  dialog.append(make("h2", "Keys", { id: "keys-title" }), list, label, acts);
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
  one("button", dialog).focus();
}
