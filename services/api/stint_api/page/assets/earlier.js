// Chunks of output as the API tells them, and lines before those that are here.
import { Lines } from "./lines.js";
import { follow } from "./stream.js";
import { at } from "./words.js";

/** Add the chunk of an event to lines. */
export function addChunk(lines, { stream, data, at: time, line, continues, offset }) {
  lines.add(stream, decoded(data), { at: at(time), line, continues, offset });
}

function decoded(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

/** About `some` lines before line `n` of a job. Rejects if the API does not give them. */
export function before(path, n, some) {
  const lines = new Lines(Number.POSITIVE_INFINITY);
  return new Promise((resolve, reject) => {
    const stream = follow(`${path}/events?from_line=${Math.max(1, n - some)}`, {
      event(name, data) {
        if (name === "output") addChunk(lines, data);
        if (name !== "end" && !lines.isWhole(n)) return;
        stream.close();
        resolve(lines.list.filter((line) => line.n < n));
      },
      live() {},
      lost: () => { stream.close(); reject(new Error("The connection broke.")); },
      ended: reject,
    });
  });
}
