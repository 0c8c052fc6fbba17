// One line of output as an element.
import { latest, rewrites, runs, simple } from "./ansi.js";
import { clone, draw, make, one, text } from "./dom.js";
import { clock } from "./words.js";

const FIRST = 2_000; // characters of a long line that are drawn at first
const LONG = 4_000;
const MORE = 20_000;
const FAR = 200_000; // that are drawn further at once, if they are nothing but characters
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/** What is drawn of a line: its `parts`, and how many `more` characters there are. Of a progress bar it is the latest. */
function drawn(line) {
  const { text, style, shown = FIRST } = line;
  if (text.length <= LONG) return { parts: runs(text, style), more: 0 };
  if (rewrites(text)) return latest(line, shown);
  return { parts: runs(text.slice(0, shown), style), more: Math.max(0, text.length - shown) };
}

/** Let a long line be drawn up to `end`, or as far as it can be drawn soon. Returns whether that is more than before. */
export function extend(line, end) {
  const { text, shown = FIRST } = line;
  if (text.length <= LONG || end <= shown) return false;
  line.shown = Math.min(end, shown + (simple(text) ? FAR : MORE));
  return true;
}

/** How many rows a line takes if it is broken after so many columns. */
export function rows(line, columns) {
  if (!columns || !line.n) return 1;
  if (line.text.length <= columns / 2) return 1;
  const { parts, more } = drawn(line);
  let width = more ? 24 : 0;
  for (const run of parts) width += columnsOf(run);
  return Math.max(1, Math.ceil(width / columns));
}

function columnsOf(run) {
  if (run.chip) return run.text.length + 1;
  if (/^[\x20-\x7e]*$/.test(run.text)) return run.text.length;
  let width = 0;
  for (const char of run.text) width += WIDE.test(char) ? 2 : /\p{M}/u.test(char) ? 0 : 1;
  return width;
}

/** How wide a character is, and how high a row, in px. */
export function measured(scroller) {
  const probe = make("span", "0".repeat(100), { class: "probe" });
  scroller.append(probe);
  const column = probe.getBoundingClientRect().width / 100;
  const height = Number.parseFloat(getComputedStyle(scroller).lineHeight);
  probe.remove();
  return { column, height };
}

/** Draws lines with what the view is set to. */
export class Rows {
  /** `settings`: {palette, columns, origin, term, marked(n), hit(line)}. */
  constructor(settings) {
    this.settings = settings;
  }

  /** An element for any line. */
  make() {
    return clone("t-line");
  }

  /** Where the text of a line begins whose number has so many digits. */
  left(spacer, digits) {
    const line = this.make();
    this.fill(line, { n: "0".repeat(digits), text: "", stream: "stdout", style: {} });
    spacer.append(line);
    const { left } = line.children[3].getBoundingClientRect();
    line.remove();
    return left;
  }

  /** The element, with what there is to show of the line. */
  fill(element, line) {
    const { marked } = this.settings;
    element.line = line;
    element.drawnLength = line.text?.length ?? 0;
    element.className = line.n ? `ln${line.stream === "stderr" ? " err" : ""}${marked(line.n) ? " to" : ""}` : `ev ${line.kind}`;
    const [number, time, stream, code, note] = element.children;
    note.hidden = Boolean(line.n);
    for (const part of [number, time, stream, code]) part.hidden = !line.n;
    if (!line.n) return this.#note(element, line);
    number.dataset.n = line.n;
    text(time, this.#time(line));
    text(stream, line.stream === "stderr" ? "err" : "");
    code.replaceChildren(...this.#code(line));
    return element;
  }

  #note(element, line) {
    draw(one("use", element), `s-${line.kind}`);
    text(element.lastElementChild.lastElementChild, line.note);
    return element;
  }

  #time({ at }) {
    const { origin } = this.settings;
    if (!at) return "";
    if (!origin) return clock(at);
    const s = Math.max(0, at - origin) / 1000;
    return `${String(Math.floor(s / 60)).padStart(2, "0")}:${(Math.floor(s * 10) / 10 % 60).toFixed(1).padStart(4, "0")}`;
  }

  #code(line) {
    const { columns, term } = this.settings, { parts, more } = drawn(line);
    const found = [];
    let column = 0;
    for (const run of term ? split(parts, term) : parts) {
      let value = run.text;
      if (columns) [value, column] = broken(run, column, columns);
      found.push(this.#element(run, value, line));
    }
    if (more) found.push(this.#more(line, more));
    return found;
  }

  #element(run, value, line) {
    const name = run.hit ? "mark" : "span";
    const element = make(name, value);
    if (run.chip) element.className = "chip";
    else this.settings.palette.paint(element, run.style);
    if (run.hit && this.settings.hit(line)) element.classList.add("now");
    return element;
  }

  #more(line, more) {
    const button = make("button", `${more.toLocaleString("en")} more`, { type: "button", class: "chip" });
    button.onclick = () => {
      line.shown = (line.shown ?? FIRST) + MORE;
      button.dispatchEvent(new CustomEvent("grown", { bubbles: true, detail: line }));
    };
    return button;
  }
}

/** A run with line breaks after each `columns`, so that its height is what was computed, whatever the font. */
function broken(run, start, columns) {
  let out = "", column = start;
  for (const char of run.chip ? [run.text] : run.text) {
    const width = columnsOf({ text: char, chip: run.chip });
    if (column + width > columns && column) [out, column] = [`${out}\n`, 0];
    out += char;
    column += width;
  }
  return [out, column];
}

/** The runs, cut at what is searched for. */
function split(parts, term) {
  const whole = parts.map((run) => run.text).join("");
  const places = matches(whole, term);
  if (!places.length) return parts;
  const found = [];
  let offset = 0;
  for (const run of parts) {
    const end = offset + run.text.length;
    const cuts = [offset, ...places.flatMap((place) => [place, place + term.text.length]).filter((cut) => cut > offset && cut < end), end];
    for (let i = 1; i < cuts.length; i++) {
      const piece = run.text.slice(cuts[i - 1] - offset, cuts[i] - offset);
      const hit = places.some((place) => cuts[i - 1] >= place && cuts[i] <= place + term.text.length);
      if (piece) found.push({ ...run, text: piece, hit });
    }
    offset = end;
  }
  return found;
}

/** Where a term is in a text: {text, exact}, where only `exact` tells small letters from capital ones. */
export function matches(value, { text: wanted, exact }) {
  const where = exact ? value : value.toLowerCase(), what = exact ? wanted : wanted.toLowerCase();
  const found = [];
  for (let at = where.indexOf(what); at >= 0; at = where.indexOf(what, at + what.length)) found.push(at);
  return found;
}
