// Bytes to text. A byte that is not UTF-8 becomes a lone surrogate, U+DC80 to U+DCFF, so that nothing is lost or hidden.

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const length = (byte) => (byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 0);

/** Decodes one stream, however it is cut: a character may be split between two pieces. */
export class Decoder {
  #rest = new Uint8Array(0);

  /** Whether a character has begun that is not whole yet. */
  get pending() {
    return this.#rest.length > 0;
  }

  decode(piece) {
    let bytes = piece;
    if (this.#rest.length) {
      bytes = new Uint8Array(this.#rest.length + piece.length);
      bytes.set(this.#rest);
      bytes.set(piece, this.#rest.length);
    }
    const end = bytes.length - begun(bytes);
    this.#rest = bytes.slice(end);
    const whole = bytes.subarray(0, end);
    try {
      return strict.decode(whole);
    } catch {
      return lenient(whole);
    }
  }

  /** What is left when nothing more comes. */
  finish() {
    const rest = lenient(this.#rest);
    this.#rest = new Uint8Array(0);
    return rest;
  }
}

/** How many bytes at the end are a character that has only begun. */
function begun(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) return length(byte) > back ? back : 0;
  }
  return 0;
}

function lenient(bytes) {
  const parts = [];
  for (let i = 0; i < bytes.length; ) {
    const size = bytes[i] < 0x80 ? 1 : length(bytes[i]);
    const point = size ? codePoint(bytes, i, size) : -1;
    parts.push(point < 0 ? String.fromCharCode(0xdc00 + bytes[i]) : String.fromCodePoint(point));
    i += point < 0 ? 1 : size;
  }
  return parts.join("");
}

const LEAST = [0, 0, 0x80, 0x800, 0x10000];

function codePoint(bytes, start, size) {
  if (size === 1) return bytes[start];
  let point = bytes[start] & (0x7f >> size);
  for (let i = start + 1; i < start + size; i++) {
    if ((bytes[i] & 0xc0) !== 0x80) return -1;
    point = (point << 6) | (bytes[i] & 0x3f);
  }
  const surrogate = point >= 0xd800 && point <= 0xdfff;
  return point < LEAST[size] || surrogate || point > 0x10ffff ? -1 : point;
}
