// The pane with a job's output: its tools, links to lines, and what its foot says.
import { all, framed, one, text } from "./dom.js";
import { copying } from "./copying.js";
import { addChunk, before } from "./earlier.js";
import { searching } from "./find.js";
import { Lines, MOST, copied } from "./lines.js";
import { Log } from "./log.js";
import { bind } from "./keys.js";
import { copy, fail } from "./shell.js";
import { at as milliseconds, bytes, count, over } from "./words.js";

const SOME = 5_000; // lines that are loaded at a time

export class Output {
  lines = new Lines();
  lastAt = 0;
  #marked = [0, 0];
  #wanted = 0;
  #missed = 0;

  /** `path` is that of the job in the API. */
  constructor(root, path) {
    this.root = root;
    this.path = path;
    this.scroller = one(".lines", root);
    this.log = new Log(this.scroller, this.lines);
    this.log.settings.marked = (n) => n >= this.#marked[0] && n <= this.#marked[1];
    this.find = searching(root, this.log, () => this.#whole());
    this.update = framed(() => this.#update());
    this.log.addEventListener("follow", () => this.#tellFollow());
    this.log.addEventListener("top", () => this.#earlier(SOME));
    this.#tools();
    this.#links();
    copying(this, () => this.#whole());
    if (matchMedia("(max-width: 44.9375em)").matches) this.#wrap(true);
    this.scroller.classList.add("notime");
  }

  /** Where to begin: near the line in the address, else near the end. */
  get query() {
    return this.#wanted ? `?from_line=${Math.max(1, this.#wanted - SOME / 2)}` : `?tail=${SOME}`;
  }

  /** A chunk of output, as an event tells it. */
  add(chunk) {
    const before = this.lines.count, at = milliseconds(chunk.at);
    addChunk(this.lines, chunk);
    if (at) this.#timed(at);
    if (!this.log.following) this.#missed += this.lines.count - before;
    this.update();
  }

  #timed(at) {
    if (!this.lastAt) this.scroller.classList.toggle("notime", one("[data-times]", this.root).ariaPressed !== "true");
    this.lastAt = at;
  }

  /** Load lines before those that are here; one load at a time, which all who ask wait for. */
  #earlier(some) {
    const { lines } = this;
    if (lines.first <= 1 || lines.list.length >= MOST) return Promise.resolve();
    return (this.loading ??= this.#load(some).finally(() => { this.loading = null; }));
  }

  async #load(some) {
    const found = await before(this.path, this.lines.first, some).catch(() => []);
    if (found.length) {
      this.lines.prepend(found);
      this.log.update(); // first: the search may go to one of them
      this.find.more();
    }
    if (this.job) this.foot(this.job);
  }

  /** All lines, for searching and copying. */
  async #whole() {
    let first;
    do {
      ({ first } = this.lines);
      await this.#earlier(MOST / 4);
    } while (this.lines.first < first);
  }

  note(sentence, kind) {
    this.lines.note(sentence, kind);
    this.update();
  }

  /** Times count from here. */
  origin(ms) {
    if (this.log.settings.origin === ms) return;
    this.log.settings.origin = ms;
    this.log.refresh();
  }

  /** Where to begin to read: at the line in the address, at the end, or at the top, if that is here. */
  open(job) {
    this.log.follow(!over(job) && !this.#marked[0]);
  }

  /** Nothing more comes. */
  finish(job) {
    this.lines.finish();
    this.#update();
    if (!this.live && !this.#marked[0] && (job.status !== "success" || this.lines.first > 1)) this.log.follow(true);
    this.log.draw();
    requestAnimationFrame(() => this.log.follow(false));
    this.ended = true;
    this.#tellFollow();
    this.foot(job);
  }

  #update() {
    this.log.update();
    this.find.more();
    if (this.#wanted) this.#goToWanted();
    this.#tellNew();
    if (this.job) this.foot(this.job);
  }

  /** What the foot says: how much there is, and whether that is all. */
  foot(job) {
    this.job = job;
    const size = this.lines.before + this.lines.bytes, { first, count: last } = this.lines, set = (name, value) => text(one(`[data-${name}]`, this.root), value);
    const none = job.output_bytes ? "" : over(job) ? (job.container_id ? "It wrote nothing" : "No command ran") : "No output yet";
    set("lines", size ? count(last, "line") : none);
    set("bytes", size ? bytes(size) : "");
    set("masked", job.output_masked ? `${count(job.output_masked, "secret")} masked` : "");
    set("dropped", this.lines.dropped ? `${count(this.lines.dropped, "control sequence")} dropped` : "");
    set("gone", first > 1 ? `Here from line ${first.toLocaleString("en")}` : "");
    set("whole", this.#complete(job, size));
    this.scroller.ariaLabel = `Output, ${count(this.lines.count, "line")}`;
  }

  #complete(job, size) {
    if (!over(job)) return size ? "Whole so far" : "";
    if (job.output_truncated) return "Cut off at the limit";
    if (this.ended && size === job.output_bytes && job.output_complete) return "Whole";
    return this.ended ? "Not all of it is here" : "";
  }

  // --- tools ---

  #tools() {
    const follow = one("[data-follow]", this.root);
    follow.onclick = () => this.log.follow(!this.log.following);
    one("[data-new]", this.root).onclick = () => this.log.follow(true);
    one("[data-wrap]", this.root).onclick = () => this.#wrap(!this.log.wrapped);
    one("[data-times]", this.root).onclick = () => this.#times();
    one("[data-copy-all]", this.root).onclick = ({ currentTarget }) => this.#whole().then(() => this.#copy(currentTarget));
    for (const button of all("[data-stream]", this.root)) button.onclick = () => this.#only(button);
    bind("f", "Follow the output", () => follow.click());
    bind("w", "Wrap lines", () => this.#wrap(!this.log.wrapped));
    bind("t", "Show times", () => this.#times());
    bind("Home", "To the first line", () => this.#whole().then(() => this.log.toTop()));
    bind("End", "To the end", () => { this.log.follow(true); if (this.ended) this.log.follow(false); });
  }

  /** Copy all lines, or those that are here. */
  async #copy(button) {
    const { first, list } = this.lines;
    await copy(copied(list), button);
    if (first > 1) fail(`Only what is here was copied, from line ${first.toLocaleString("en")} on. The download has all.`);
  }

  #wrap(on) {
    this.log.wrap(on);
    one("[data-wrap]", this.root).ariaPressed = String(on);
  }

  #times() {
    const button = one("[data-times]", this.root), on = button.ariaPressed !== "true";
    button.ariaPressed = String(on);
    this.scroller.classList.toggle("notime", !on || !this.lastAt);
    if (this.log.wrapped) this.log.wrap(true);
  }

  #only(button) {
    for (const other of all("[data-stream]", this.root)) other.ariaPressed = String(other === button);
    this.log.only(button.dataset.stream);
    one("[data-download]", this.root).search = button.dataset.stream && `?stream=${button.dataset.stream}`;
  }

  #tellFollow() {
    const button = one("[data-follow]", this.root);
    button.ariaPressed = String(this.log.following);
    button.hidden = Boolean(this.ended);
    if (this.log.following) this.#missed = 0;
    this.#tellNew();
  }

  #tellNew() {
    const pill = one("[data-new]", this.root);
    pill.hidden = this.log.following || !this.#missed || !this.live;
    text(pill, count(this.#missed, "new line"));
  }

  // --- links to lines ---

  #links() {
    this.scroller.addEventListener("click", (event) => {
      const line = event.target.matches(".ln > i") && this.log.lineOf(event.target);
      if (line) this.#mark(event.shiftKey && this.#marked[0] ? [this.#marked[0], line.n] : [line.n, line.n]);
    });
    addEventListener("hashchange", () => this.#readHash());
    bind("l", "Copy the link to the line", () => copy(location.href, one("[data-copy-all]", this.root)));
    this.#readHash();
  }

  #mark(range) {
    this.#marked = range.sort((a, b) => a - b);
    const [from, to] = this.#marked;
    history.replaceState(null, "", to > from ? `#L${from}-L${to}` : `#L${from}`);
    this.log.follow(false);
    this.log.refresh();
  }

  #readHash() {
    const found = /^#L(\d{1,9})(?:-L?(\d{1,9}))?$/.exec(location.hash);
    if (!found) return;
    this.#marked = [Number(found[1]), Number(found[2] ?? found[1])].sort((a, b) => a - b);
    if (this.lines.first > this.#marked[0]) return location.reload();
    this.#wanted = this.#marked[0];
    this.log.refresh();
    this.#goToWanted();
  }

  #goToWanted() {
    const line = this.lines.list.find(({ n }) => n === this.#wanted);
    if (line && this.log.reveal(line)) this.#wanted = 0;
  }
}
