// A line of a terminal as runs of text with a style. What could deceive a reader is shown as a chip, or dropped.
import { DECEIVING } from "./words.js";

/** No style. A style is {bold, dim, italic, underline, strike, inverse, fg, bg}; a colour is 0 to 15 or [r, g, b]. */
export const PLAIN = Object.freeze({});

const ESC = "\\x1b";
const CSI = `${ESC}\\[([0-?]*)[ -/]*([@-~])`;
const STRINGS = `${ESC}\\][^\\x07\\x1b]{0,4096}(?:\\x07|${ESC}\\\\)?|${ESC}[PX^_][^\\x1b]{0,4096}(?:${ESC}\\\\)?`;
const OTHER = `${ESC}[ -/]+[0-~]|${ESC}[0-~]|\\x07`;
const HIDDEN = `[\\x00-\\x06\\x0b-\\x0c\\x0e-\\x1f\\x7f-\\x9f${DECEIVING}\\udc80-\\udcff]`;
const SPECIAL = new RegExp(`[\\x00-\\x1f\\x7f-\\x9f${DECEIVING}\\ud800-\\udfff]|\\p{M}{9}`, "u");
const TOKEN = new RegExp(`${CSI}|(${STRINGS}|${OTHER})|([\\r\\b\\t])|(${HIDDEN})|(\\p{M}{9,})|([^])`, "gu");
const ESCAPES = new RegExp(`${CSI}|${STRINGS}|${OTHER}`, "gu");
const MOVES = /[\r\b\t]|\x1b\[[0-9;]*[KGCD]/;
const REWRITES = /\r[^\r]|[\b]|\x1b\[[0-9;]*[KGCD]/;
const BACK = /[\r\b\x1b]/g; // what can move the cursor to the left
const MARKS = 8;
const WIDEST = 10_000;

/** Whether a line is nothing but its characters. */
export const simple = (text) => !SPECIAL.test(text);

/** The runs of a line: [{text, style, chip}]. `style` is that at its begin. */
export function runs(text, style = PLAIN) {
  if (simple(text)) return text ? [{ text, style, chip: false }] : [];
  return joined(new Screen(style).write(ended(text)).cells);
}

/** Whether a part of a line is written over, as progress bars do. */
export const rewrites = (text) => REWRITES.test(text);

/**
 * As `runs`, but of the first `most` characters of what a line that is written over shows now, and how many `more` there
 * are. The line remembers how far it was gone through, since such a line may grow for hours; and only so many cells as may
 * be drawn, since it may be megabytes.
 */
export function latest(line, most) {
  const { text, style } = line;
  if (!line.settled || line.settled.screen.widest < most) line.settled = { screen: new Screen(style, Math.max(WIDEST, most)), end: 0 };
  const { settled } = line;
  const end = Math.max(settled.end, ...["\r", "\b", "\x1b"].map((begin) => text.lastIndexOf(begin)));
  settled.screen.write(text.slice(settled.end, end));
  settled.end = end;
  const { cells, length } = settled.screen.copy().write(ended(text.slice(end)));
  return { parts: joined(cells.slice(0, most)), more: Math.max(0, length - most) };
}

function ended(text) {
  let end = text.length;
  while (text[end - 1] === "\r") end--;
  return text.slice(0, end);
}

function joined(cells) {
  const found = [];
  for (const cell of cells) {
    const last = found.at(-1);
    if (last && last.style === cell.style && !last.chip && !cell.chip) last.text += cell.text;
    else found.push({ ...cell });
  }
  return found;
}

/** What one reads, and searches in. */
export function plain(text) {
  if (simple(text)) return text;
  if (!MOVES.test(text)) return text.replace(ESCAPES, "");
  return new Screen(PLAIN).write(ended(text)).cells.map((cell) => cell.text).join("");
}

/** How many characters of a text, which is not written over, hold the first `read` ones that one reads. */
export function holding(text, read) {
  let end = read;
  for (const { 0: escape, index } of text.matchAll(ESCAPES)) {
    if (index >= end) break;
    end += escape.length;
  }
  return end;
}

/** The style after a line, and how many sequences of it are dropped. */
export function after(text, style) {
  if (!text.includes("\x1b") && !text.includes("\x07")) return { style, dropped: 0 };
  let dropped = 0;
  for (const [, parameters, final] of text.matchAll(ESCAPES)) {
    if (final === "m") style = styled(style, parameters);
    else if (!"KGCD".includes(final ?? "?")) dropped++;
  }
  return { style, dropped };
}

/** One row of cells with a cursor. Those beyond the `widest` are not kept, but for how many there are. */
class Screen {
  cells = [];
  length = 0;
  #at = 0;

  constructor(style, widest = Infinity) {
    this.style = style;
    this.widest = widest;
  }

  copy() {
    const made = new Screen(this.style, this.widest);
    made.cells = [...this.cells];
    made.length = this.length;
    made.#at = this.#at;
    return made;
  }

  write(text) {
    TOKEN.lastIndex = 0;
    for (let found = TOKEN.exec(text); found; found = TOKEN.exec(text)) {
      this.#token(found);
      if (this.#at > this.widest && this.#at === this.length) TOKEN.lastIndex = this.#beyond(text, TOKEN.lastIndex);
    }
    return this;
  }

  /** Pass over what is written behind the last cell. Returns where it ends. */
  #beyond(text, from) {
    BACK.lastIndex = from;
    const to = BACK.exec(text)?.index ?? text.length;
    this.length = this.#at += to - from;
    return to;
  }

  #token([whole, parameters, final, dropped, move, hidden, marks]) {
    if (final) this.#control(parameters, final);
    else if (move) this.#move(move);
    else if (hidden) this.#put(name(hidden), true);
    else if (marks) this.#marks(marks);
    else if (!dropped) this.#character(whole);
  }

  #put(text, chip = false) {
    while (this.cells.length < Math.min(this.#at, this.widest)) this.cells.push({ text: " ", style: PLAIN, chip: false });
    if (this.#at < this.widest) this.cells[this.#at] = { text, style: this.style, chip };
    this.length = Math.max(this.length, ++this.#at);
  }

  /** A mark stands on the character before it. */
  #character(text) {
    const before = this.cells[this.#at - 1];
    if (before && !before.chip && /^\p{M}$/u.test(text)) this.cells[this.#at - 1] = { ...before, text: before.text + text };
    else this.#put(text);
  }

  #marks(marks) {
    const points = [...marks];
    for (const mark of points.slice(0, MARKS)) this.#character(mark);
    this.#put(`+${points.length - MARKS}`, true);
  }

  #move(move) {
    if (move === "\r") this.#at = 0;
    else if (move === "\b") this.#at = Math.max(0, this.#at - 1);
    else for (let n = 8 - (this.#at % 8); n > 0; n--) this.#put(" ");
  }

  #control(parameters, final) {
    const n = Math.min(WIDEST, Number.parseInt(parameters, 10) || 0);
    if (final === "m") this.style = styled(this.style, parameters);
    else if (final === "C") this.#at = Math.min(WIDEST, this.#at + (n || 1));
    else if (final === "D") this.#at = Math.max(0, this.#at - (n || 1));
    else if (final === "G") this.#at = Math.max(0, (n || 1) - 1);
    else if (final === "K") this.#erase(n);
  }

  #erase(how) {
    const blank = { text: " ", style: PLAIN, chip: false };
    if (how === 1) return this.cells.fill(blank, 0, this.#at + 1);
    if (how > 2) return;
    this.length = how ? 0 : Math.min(this.length, this.#at);
    this.cells.length = Math.min(this.cells.length, this.length);
  }
}

/** How a hidden character is called: "U+202E", or "\xe9" for a byte that is not UTF-8. */
function name(char) {
  const point = char.codePointAt(0);
  if (point >= 0xdc80 && point <= 0xdcff) return `\\x${(point & 0xff).toString(16)}`;
  return `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
}

const SET = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const UNSET = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"], 39: ["fg"], 49: ["bg"] };

/** The style after `CSI parameters m`. */
function styled(style, parameters) {
  if (!/^[0-9;:]*$/.test(parameters)) return style;
  const parts = parameters.split(";");
  let now = { ...style };
  for (let i = 0; i < parts.length; i++) {
    const code = Number.parseInt(parts[i], 10) || 0;
    if (code === 0) now = {};
    else if (SET[code]) now[SET[code]] = parts[i] !== "4:0";
    else if (UNSET[code]) for (const key of UNSET[code]) delete now[key];
    else if (code === 38 || code === 48) i = extended(now, code === 38 ? "fg" : "bg", parts, i);
    else colour(now, code);
  }
  return Object.keys(now).length ? now : PLAIN;
}

function colour(style, code) {
  if (code >= 30 && code <= 37) style.fg = code - 30;
  else if (code >= 40 && code <= 47) style.bg = code - 40;
  else if (code >= 90 && code <= 97) style.fg = code - 82;
  else if (code >= 100 && code <= 107) style.bg = code - 92;
}

/** 38 and 48, with semicolons or colons. Returns the place of the last part that was read. */
function extended(style, key, parts, i) {
  const colons = parts[i].includes(":");
  const values = (colons ? parts[i].split(":") : parts.slice(i)).map((part) => Number.parseInt(part, 10) || 0);
  if (values[1] === 5) {
    style[key] = indexed(Math.min(255, values[2] ?? 0));
    return colons ? i : i + 2;
  }
  if (values[1] !== 2) return i;
  style[key] = (colons ? values.slice(-3) : values.slice(2, 5)).map((value) => Math.min(255, value));
  return colons ? i : i + 4;
}

/** One of 256 colours: the first 16 follow the theme. */
function indexed(n) {
  if (n < 16) return n;
  if (n >= 232) return Array(3).fill(8 + 10 * (n - 232));
  const level = (part) => (part ? 55 + 40 * part : 0);
  const cube = n - 16;
  return [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map(level);
}
