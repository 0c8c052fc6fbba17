// A job's output as numbered lines. Chunks come in the order in which they were stored; a line may be in several.
import { PLAIN, after, plain } from "./ansi.js";
import { Decoder } from "./utf8.js";

export const MOST = 200_000;
export const MOST_CHARACTERS = 64_000_000;
const LET_GO = 10_000;

/**
 * The lines of both streams. A line has a number from when it begins: the same for everybody, and after each resume.
 *
 * A line is {n, text, stream, at, style, open}; an entry without `n` is a note: {note, kind}.
 */
export class Lines {
  list = [];
  characters = 0;
  dropped = 0;
  /** Bytes that came, and those of the output before them. */
  bytes = 0;
  before = 0;
  /** The first line that is here, 0 before any chunk came. */
  first = 0;
  #next = 1;
  #streams = new Map();

  constructor(most = MOST, mostCharacters = MOST_CHARACTERS) {
    this.most = most;
    this.mostCharacters = mostCharacters;
  }

  /** Lines that have begun so far. */
  get count() {
    return this.#next - 1;
  }

  /** Whether each line before this one is whole. */
  isWhole(n) {
    return this.#next >= n && [...this.#streams.values()].every(({ line }) => !line || line.n >= n);
  }

  #stream(name) {
    let found = this.#streams.get(name);
    if (!found) this.#streams.set(name, (found = { decoder: new Decoder(), style: PLAIN, line: null }));
    return found;
  }

  /**
   * Add a chunk. `at` is when it was stored, in milliseconds; `line` the number of the first line that begins in it;
   * `continues` whether it begins within a line, which is left out if its begin is not here; `offset` the bytes before.
   */
  add(name, bytes, { at = 0, line = 0, continues = false, offset = 0 } = {}) {
    const stream = this.#stream(name);
    if (!this.first) [this.first, this.#next, this.before] = [line || 1, line || 1, offset];
    this.bytes += bytes.length;
    const begin = continues && !stream.line ? skipped(bytes) : 0;
    if (begin < 0) return;
    const parts = stream.decoder.decode(begin ? bytes.subarray(begin) : bytes).split("\n");
    const last = parts.length - 1;
    parts.forEach((part, i) => {
      const more = i < last;
      if (!part && !more && !(stream.decoder.pending && !stream.line)) return;
      this.#write(stream, name, part, at);
      if (more) this.#close(stream);
    });
    if (this.list.length > this.most + LET_GO || this.characters > this.mostCharacters) this.#letGo();
  }

  #write(stream, name, part, at) {
    if (!stream.line) {
      stream.line = { n: this.#next++, text: "", stream: name, at, style: stream.style, open: true };
      this.list.push(stream.line);
    }
    stream.line.text += part;
    this.characters += part.length;
  }

  #close(stream) {
    const { style, dropped } = after(stream.line.text, stream.style);
    stream.style = style;
    this.dropped += dropped;
    stream.line.open = false;
    stream.line = null;
  }

  /** Nothing more comes. */
  finish() {
    for (const [name, stream] of this.#streams) {
      const rest = stream.decoder.finish();
      if (rest) this.#write(stream, name, rest, 0);
      if (stream.line) this.#close(stream);
    }
  }

  /** Put lines before those that are here. */
  prepend(lines) {
    this.list.unshift(...lines);
    this.first = lines[0].n;
    for (const line of lines) this.characters += line.text.length;
  }

  /** A sentence between the lines. */
  note(note, kind) {
    this.list.push({ note, kind });
  }

  /** What is read least is let go first: the far end of what comes in at this one. Of few lines that are long, few. */
  #letGo() {
    const part = this.list.length >> 3;
    const out = this.list.splice(0, this.list.length > this.most ? Math.max(LET_GO, part) : part);
    for (const line of out) {
      this.characters -= line.text?.length ?? 0;
      if (line.n) this.first = line.n + 1;
    }
  }
}

/** Where the first line begins that begins in a chunk, -1 if none does. */
const skipped = (bytes) => bytes.indexOf(10) + 1 || -1;

/** The text of lines for the clipboard: without escapes, numbers and times. */
export const copied = (lines) => lines.filter((line) => line.n).map((line) => readable(line.text)).join("\n");

const readable = (text) => plain(text).replace(/[\udc80-\udcff]/gu, (char) => `\\x${(char.charCodeAt(0) & 0xff).toString(16)}`);
