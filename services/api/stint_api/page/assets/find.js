// Search in all lines that are here, in slices, while more come in. Small letters match both, capital ones only capitals.
import { holding, plain, rewrites } from "./ansi.js";
import { one, text } from "./dom.js";
import { matches } from "./row.js";

const SLICE = 4; // ms

export class Find {
  /** `changed` is called when there is more to tell. */
  constructor(log, changed) {
    this.log = log;
    this.changed = changed;
    this.term = null;
    this.hits = [];
    this.at = null; // the line that one has gone to
    this.wish = 0; // where to go as soon as there is a hit
    this.next = 0;
    this.begin = null; // the first line when the search began with it
    this.whole = true;
  }

  /** The place of that line among the hits, -1 if it is none of them. */
  get now() {
    return this.hits.indexOf(this.at);
  }

  start(text) {
    this.term = text ? { text, exact: text !== text.toLowerCase() } : null;
    this.at = null;
    this.wish = 0;
    this.hits = [];
    this.begin = null;
    this.log.settings.term = this.term;
    this.log.settings.hit = (line) => this.at === line;
    this.log.refresh();
    this.more();
  }

  matches(line) {
    return !this.term || matches(plain(line.text), this.term).length > 0;
  }

  /**
   * Search in what has come meanwhile; from the first line if that is another one, since lines came before it or were let
   * go. The last line may still grow, and is looked at when it is whole.
   */
  more() {
    clearTimeout(this.timer);
    if (!this.term) return this.changed();
    const { list } = this.log.lines, until = performance.now() + SLICE;
    if (list[0] !== this.begin) [this.begin, this.hits, this.next] = [list[0], [], 0];
    while (this.next < list.length && performance.now() < until) {
      const line = list[this.next];
      if (line.open) break;
      if (line.n && this.matches(line)) this.hits.push(line);
      this.next++;
    }
    this.whole = this.next >= list.length || list[this.next].open;
    this.changed();
    if (this.wish) this.go(this.wish);
    if (!this.whole) this.timer = setTimeout(() => this.more());
  }

  /** How much of a line must be drawn so that its first hit is. */
  #endIn({ text }) {
    const end = matches(plain(text), this.term)[0] + this.term.text.length;
    return rewrites(text) ? end : holding(text, end);
  }

  /** Go to the next line with a hit, or with -1 to the one before. Where there is none yet, the search goes to its first. */
  go(step) {
    const { length } = this.hits, { now } = this, searching = !this.whole || this.log.lines.first > 1;
    this.wish = !length && searching ? step : 0;
    if (!length) return;
    this.at = this.hits[now < 0 ? (step < 0 ? length - 1 : 0) : (now + step + length) % length];
    this.log.reveal(this.at);
    this.log.refresh();
    this.log.toHit(this.at, this.#endIn(this.at));
    this.changed();
  }
}

/** Let one search in the lines of a `log`, by the field, and by the button that leaves only the lines with a hit; `whole` loads them all. Returns the search, to be told of more lines. */
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
