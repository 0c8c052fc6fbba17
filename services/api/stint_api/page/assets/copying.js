// Copying from the output: what is selected is taken from the lines, since those out of sight have no elements.
import { copied } from "./lines.js";
import { copy, say } from "./shell.js";
import { count } from "./words.js";

/** Let an `Output` be copied from. Ctrl+A in the log means all lines, which `whole` loads; a selection ends following. */
export function copying({ scroller, log, lines }, whole) {
  let everything = false;
  const all = (on) => {
    everything = on;
    scroller.classList.toggle("everything", on);
    if (on) whole().then(() => say(`${lines.first > 1 ? "The last" : "All"} ${count(lines.count - Math.max(1, lines.first) + 1, "line")} selected`));
  };
  document.addEventListener("selectionchange", () => {
    const { anchorNode, isCollapsed } = getSelection();
    if (!isCollapsed && scroller.contains(anchorNode)) log.follow(false);
  });
  scroller.addEventListener("keydown", (event) => {
    if (event.key !== "a" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    all(true);
  });
  scroller.addEventListener("pointerdown", () => all(false));
  document.addEventListener("copy", (event) => {
    const wanted = everything && document.activeElement === scroller;
    if (wanted && lines.first > 1) {
      event.preventDefault();
      whole().then(() => copy(copied(lines.list), scroller));
      return;
    }
    const value = wanted ? copied(lines.list) : selected(log);
    if (value === null) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", value);
  });
}

/** The selected text if the selection covers several lines; null leaves it to the browser. */
function selected(log) {
  const selection = getSelection();
  if (selection.isCollapsed || !selection.rangeCount) return null;
  const range = selection.getRangeAt(0);
  const from = log.lineOf(range.startContainer), to = log.lineOf(range.endContainer);
  if (!from || !to || from === to) return null;
  const value = copied(log.shown.slice(log.shown.indexOf(from), log.shown.indexOf(to) + 1)).split("\n");
  value[value.length - 1] = value.at(-1).slice(0, offset(range.endContainer, range.endOffset));
  value[0] = value[0].slice(offset(range.startContainer, range.startOffset));
  return value.join("\n");
}

function offset(node, within) {
  const code = (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).closest("code");
  if (!code) return 0;
  const range = document.createRange();
  range.setStart(code, 0);
  range.setEnd(node, within);
  return range.toString().length;
}
