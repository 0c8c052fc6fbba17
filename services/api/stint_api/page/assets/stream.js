// Server-Sent Events by `fetch`: unlike EventSource it tells the status, and a stream resumes behind its last event.
import { Refused, explained, foreign, send } from "./api.js";

const PAUSES = [250, 500, 1000, 2000, 5000];
export const SILENCE = 25_000; // the API sends something at least every 10 s
export const HIDDEN = 10_000;
const SLOW = 3000; // a browser has six connections for all windows, without HTTP/2
const GIVEN = "given to another window", LATELY = 10_000;
const FINAL = new Set([400, 401, 403, 404, 409]);

/** Splits text into events, however it is cut into pieces. `take(name, id, data)` gets each one. */
export function parser(take) {
  let rest = "";
  return (piece) => {
    const blocks = (rest + piece).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = {};
      for (const line of block.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (fields.data !== undefined) take(fields.event ?? "message", fields.id, fields.data);
    }
  };
}

/**
 * Follow a stream until `over` is true of an event or `close` is called.
 *
 * `on.event(name, data)` gets each event; `on.lost(since)` and `on.live()` tell of the connection; `on.ended(refused)`
 * that the API will not give more; `on.slow()` that there is no answer yet. `from` is the id of the last event that is
 * known. With `turns` (see turns.js) the connection is given to other windows from time to time, and `on.live` says so.
 */
export function follow(url, on, { over = () => false, from = "", turns = null } = {}) {
  let id = from, given = 0, tries = 0, lostAt = 0, stopped = false, aborter = null, wake = () => {}, hiding = 0;

  async function run() {
    while (!stopped) {
      try {
        await (turns ? turns.inTurn(once) : once());
      } catch (error) {
        if (error instanceof Refused && FINAL.has(error.status)) return stop(() => on.ended(error));
      }
      if (stopped) return;
      if (aborter?.signal.reason === GIVEN) continue;
      if (!document.hidden && !lostAt) on.lost((lostAt = Date.now()));
      const pause = PAUSES[Math.min(tries++, PAUSES.length - 1)] * (0.7 + 0.6 * Math.random());
      await new Promise((resolve) => { wake = resolve; if (!document.hidden) setTimeout(resolve, pause); });
    }
  }

  async function once() {
    aborter = new AbortController();
    if (stopped || document.hidden) return;
    const passing = turns && setInterval(pass, turns.TURN);
    const watch = guard(aborter), slow = setTimeout(() => on.slow?.(), SLOW);
    try {
      const headers = id ? { "Last-Event-ID": id } : {};
      const answer = await send(url, { headers, signal: aborter.signal });
      clearTimeout(slow);
      if (!answer.headers.get("content-type")?.startsWith("text/event-stream")) throw foreign();
      const feed = parser(heard), decoder = new TextDecoder(), reader = answer.body.getReader();
      lostAt = tries = 0;
      on.live(Date.now() - given < LATELY);
      for (;;) {
        const { done, value } = await reader.read();
        if (done || stopped) return;
        watch.heard();
        feed(decoder.decode(value, { stream: true }));
      }
    } finally {
      watch.stop();
      clearTimeout(slow);
      clearInterval(passing);
    }
  }

  /** Make room for another window that waits. */
  async function pass() {
    if (!(await turns.awaited())) return;
    given = Date.now();
    aborter.abort(GIVEN);
  }

  function heard(name, eventId, text) {
    if (stopped) return;
    const data = JSON.parse(text);
    if (name === "refused") return stop(() => explained(403, data.error).then(on.ended));
    on.event(name, data, eventId);
    if (eventId) id = eventId;
    if (over(name)) stop(() => {});
  }

  function stop(then) {
    if (stopped) return;
    stopped = true;
    aborter?.abort();
    document.removeEventListener("visibilitychange", seen);
    removeEventListener("online", retry);
    wake();
    then();
  }

  function seen() {
    clearTimeout(hiding);
    hiding = document.hidden ? setTimeout(() => aborter?.abort(), HIDDEN) : 0;
    if (!document.hidden) retry();
  }

  function retry() {
    tries = 0;
    wake();
  }

  document.addEventListener("visibilitychange", seen);
  addEventListener("online", retry);
  run();
  return { close: () => stop(() => {}) };
}

/** Breaks a connection off in which nothing has come for too long. */
function guard(aborter) {
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => aborter.abort(), SILENCE);
  };
  heard();
  return { heard, stop: () => clearTimeout(timer) };
}
