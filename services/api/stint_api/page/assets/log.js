// The view of lines: only those that can be seen are elements. Follows the end only for as long as one stays there.
import { framed, make, one } from "./dom.js";
import { Layout } from "./layout.js";
import { Palette } from "./paint.js";
import { Rows, extend, measured, rows } from "./row.js";

const SPARE = 10; // rows above and below what can be seen
const NEAR = 4; // px from the end
const NEAR_TOP = 100; // lines from the begin

const digits = ({ count }) => String(Math.max(1, count)).length;

export class Log extends EventTarget {
  shown = [];
  #layout = new Layout();
  #elements = new Map();
  #free = [];
  #seen = 0;
  #begin = null;
  #set = 0;
  #stream = "";
  #digits = 0;
  #matching = null;

  constructor(scroller, lines) {
    super();
    this.scroller = scroller;
    this.lines = lines;
    this.spacer = make("div", "", { class: "spacer" });
    scroller.append(this.spacer);
    this.settings = { palette: new Palette(scroller), columns: 0, origin: 0, term: null, marked: () => false, hit: () => false };
    this.rows = new Rows(this.settings);
    this.following = false;
    this.draw = framed(() => this.#draw());
    Object.assign(this, measured(scroller));
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    scroller.addEventListener("grown", (event) => this.#grown(event.detail));
    new ResizeObserver(() => this.#resized()).observe(scroller);
    document.addEventListener("theme", () => this.#themed());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#themed());
  }

  // --- which lines, and where ---

  /** To be called when lines were added, or let go. */
  update() {
    const { list } = this.lines;
    if (this.wrapped && this.#digits !== digits(this.lines)) return this.wrap(true);
    if (this.#seen && list[0] !== this.#begin) return this.#again();
    for (let i = this.#seen; i < list.length; i++) this.#add(list[i]);
    this.#grewLast();
    this.#seen = list.length;
    this.#begin = list[0];
    this.draw();
  }

  #add(line) {
    if (!this.#wanted(line)) return;
    this.shown.push(line);
    this.#layout.push(rows(line, this.settings.columns));
  }

  #wanted(line) {
    if (this.#stream && line.n && line.stream !== this.#stream) return false;
    return !this.#matching || Boolean(line.n && this.#matching(line));
  }

  /** Lines that were open may have become longer: the last ones, one for each stream. */
  #grewLast() {
    if (!this.settings.columns) return;
    for (let i = Math.max(0, this.shown.length - 64); i < this.shown.length; i++)
      if (this.shown[i].open) this.#layout.set(i, rows(this.shown[i], this.settings.columns));
  }

  /** Compute everything again. The line at the top stays there. */
  #again() {
    const row = this.scroller.scrollTop / this.height, at = this.#layout.at(Math.floor(row));
    const top = this.#layout.length ? this.shown[at] : null, within = top ? row - this.#layout.top(at) : 0;
    this.shown = [];
    this.#layout = new Layout();
    for (const line of this.lines.list) this.#add(line);
    this.#seen = this.lines.list.length;
    this.#begin = this.lines.list[0];
    for (const element of this.#elements.values()) element.remove();
    this.#elements.clear();
    this.#size();
    if (this.following) this.#toEnd();
    else if (top) this.#scrollTo((this.#layout.top(this.#placeOf(top)) + within) * this.height);
    this.draw();
  }

  #placeOf(line) {
    const n = line.n ?? 0;
    const place = this.shown.findIndex((other) => other === line || (other.n && other.n >= n && n));
    return Math.max(0, place);
  }

  only(stream) {
    this.#stream = stream;
    this.#again();
  }

  onlyMatching(test) {
    this.#matching = test;
    this.#again();
  }

  wrap(on) {
    this.scroller.classList.toggle("wrap", on);
    this.wrapped = on;
    this.settings.columns = on ? this.#columns() : 0;
    this.#again();
  }

  #columns() {
    this.#digits = digits(this.lines);
    const left = this.rows.left(this.spacer, this.#digits) - this.scroller.getBoundingClientRect().left;
    return Math.max(10, Math.floor((this.scroller.clientWidth - left - 16) / this.column));
  }

  #resized() {
    const { column, height } = measured(this.scroller); // others if the browser's font was changed
    if (height !== this.height) {
      Object.assign(this, { column, height });
      return this.wrap(Boolean(this.wrapped));
    }
    if (this.wrapped && this.#columns() !== this.settings.columns) return this.wrap(true);
    if (this.following) this.#toEnd();
    this.draw();
  }

  #themed() {
    this.settings.palette = new Palette(this.scroller);
    this.refresh();
  }

  #grown(line) {
    this.#layout.set(this.shown.indexOf(line), rows(line, this.settings.columns));
    this.refresh();
  }

  // --- drawing ---

  /** Draw again what is drawn. */
  refresh() {
    for (const element of this.#elements.values()) element.line = null;
    this.draw();
  }

  #size() {
    this.spacer.style.height = `${this.#layout.rows * this.height}px`;
  }

  #draw() {
    this.#size();
    if (this.following) this.#toEnd();
    const first = Math.floor(this.scroller.scrollTop / this.height) - SPARE;
    const last = first + Math.ceil(this.scroller.clientHeight / this.height) + 2 * SPARE;
    if (!this.shown.length) return this.#release(0, -1);
    const from = this.#layout.at(Math.max(0, first)), to = this.#layout.at(Math.max(0, last));
    this.#release(from, to);
    let before = null, top = this.#layout.top(from);
    for (let i = from; i <= to; i++) {
      before = this.#place(i, top, before);
      top += this.#layout.height(i);
    }
    if (from < NEAR_TOP && !this.following) this.dispatchEvent(new Event("top"));
  }

  #place(i, top, before) {
    const line = this.shown[i];
    let element = this.#elements.get(i);
    if (!element) {
      element = this.#free.pop() ?? this.rows.make();
      this.#elements.set(i, element);
      if (before) before.after(element);
      else this.spacer.prepend(element);
    }
    if (element.line !== line || element.drawnLength !== (line.text?.length ?? 0)) this.rows.fill(element, line);
    const place = `translateY(${top * this.height}px)`;
    if (element.style.transform !== place) element.style.transform = place;
    return element;
  }

  /** Elements out of sight are used again; but not those in which a selection begins or ends. */
  #release(from, to) {
    const { anchorNode, focusNode, isCollapsed } = getSelection();
    for (const [i, element] of this.#elements) {
      if (i >= from && i <= to) continue;
      if (!isCollapsed && (element.contains(anchorNode) || element.contains(focusNode))) continue;
      this.#elements.delete(i);
      element.remove();
      element.line = null;
      if (this.#free.length < 200) this.#free.push(element);
    }
  }

  /** The line that an element in the log belongs to. */
  lineOf(node) {
    return (node?.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.closest?.(".ln")?.line ?? null;
  }

  // --- scrolling ---

  follow(on) {
    if (this.following === on) return;
    this.following = on;
    if (on) this.#toEnd();
    this.dispatchEvent(new Event("follow"));
  }

  #toEnd() {
    this.#scrollTo(this.scroller.scrollHeight - this.scroller.clientHeight);
  }

  #scrollTo(top) {
    this.scroller.scrollTop = top;
    this.#set = this.scroller.scrollTop;
  }

  /** What code has set is no wish of the reader: compared by place, since events may be joined. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    if (Math.abs(scrollTop - this.#set) >= 1) this.follow(scrollHeight - clientHeight - scrollTop < NEAR);
    this.draw();
  }

  /** Show an entry in the middle, and stop following. */
  reveal(line) {
    const i = this.shown.indexOf(line);
    if (i < 0) return false;
    this.follow(false);
    this.#size();
    this.#scrollTo(Math.max(0, this.#layout.top(i) * this.height - this.scroller.clientHeight / 2));
    this.draw();
    return true;
  }

  /** Show what was searched for in the line that was revealed: it may be far to the right, or not drawn yet. */
  toHit(line, end) {
    if (!this.shown.includes(line)) return;
    if (extend(line, end)) this.#grown(line);
    requestAnimationFrame(() => one("mark.now", this.scroller)?.scrollIntoView({ block: "nearest", inline: "nearest" }));
  }

  toTop() {
    this.follow(false);
    this.#scrollTo(0);
    this.draw();
  }
}
