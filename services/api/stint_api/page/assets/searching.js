// The field that searches in the output, and the button that leaves only the lines with a hit.
import { one, text } from "./dom.js";
import { Find } from "./find.js";

/** Let one search in the lines of a `log`; `whole` loads them all. Returns the search, to be told of more lines. */
export function searching(root, log, whole) {
  const field = one("[data-find-output]", root), only = one("[data-matching]", root);
  const find = new Find(log, tell);
  let timer = 0;

  function tell() {
    const { hits, now, term } = find, all = find.whole && log.lines.first <= 1, n = hits.length.toLocaleString("en");
    const found = now < 0 ? `${n} found` : `${(now + 1).toLocaleString("en")} of ${n}`;
    text(one("[data-hits]", root), term ? `${found}${all ? "" : " …"}` : "");
  }

  function onlyMatching(on) {
    const before = only.ariaPressed === "true";
    only.ariaPressed = String(on);
    if (on || before) log.onlyMatching(on ? (line) => find.matches(line) : null);
  }

  function search() {
    timer = clearTimeout(timer);
    find.start(field.value);
    if (field.value) whole();
    only.hidden = !field.value;
    onlyMatching(false);
  }

  field.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(search, 80);
  };
  field.onkeydown = (event) => {
    if (event.key === "Enter") {
      if (timer) search(); // it was pressed right after the text
      find.go(event.shiftKey ? -1 : 1);
    }
    if (event.key === "Escape") { field.value = ""; field.oninput(); log.scroller.focus(); }
  };
  only.onclick = () => onlyMatching(only.ariaPressed !== "true");
  addEventListener("keydown", (event) => {
    if (event.key !== "f" || !(event.ctrlKey || event.metaKey) || document.activeElement === field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  return find;
}
