// Search in all lines that are here, in slices, while more come in. Small letters match both, capital ones only capitals.
import { plain } from "./ansi.js";
import { matches } from "./row.js";

const SLICE = 4; // ms

export class Find {
  /** `changed` is called when there is more to tell. */
  constructor(log, changed) {
    this.log = log;
    this.changed = changed;
    this.term = null;
    this.hits = [];
    this.now = -1;
    this.next = 0;
    this.whole = true;
  }

  start(text) {
    this.term = text ? { text, exact: text !== text.toLowerCase() } : null;
    this.hits = [];
    this.now = -1;
    this.next = 0;
    this.log.settings.term = this.term;
    this.log.settings.hit = (line) => this.hits[this.now] === line;
    this.log.refresh();
    this.more();
  }

  matches(line) {
    return !this.term || matches(plain(line.text), this.term).length > 0;
  }

  /** Search in what has come meanwhile. The last line may still grow, and is looked at when it is whole. */
  more() {
    clearTimeout(this.timer);
    if (!this.term) return this.changed();
    const { list } = this.log.lines, until = performance.now() + SLICE;
    while (this.next < list.length && performance.now() < until) {
      const line = list[this.next];
      if (line.open) break;
      if (line.n && this.matches(line)) this.hits.push(line);
      this.next++;
    }
    this.whole = this.next >= list.length || list[this.next].open;
    this.changed();
    if (!this.whole) this.timer = setTimeout(() => this.more());
  }

  /** Lines have come before those that were searched. */
  again() {
    if (!this.term) return;
    const now = this.hits[this.now];
    this.hits = [];
    this.next = 0;
    this.more();
    this.now = this.hits.indexOf(now);
  }

  /** Go to the next line with a hit, or with -1 to the one before. */
  go(step) {
    if (!this.hits.length) return null;
    this.now = (this.now + step + this.hits.length) % this.hits.length;
    const line = this.hits[this.now];
    this.log.reveal(line);
    this.log.refresh();
    this.changed();
    return line;
  }
}
