// The changes of all jobs, by one stream for all windows of a session: one window reads it, and tells the others.
import { meta } from "./api.js";
import { HIDDEN, SILENCE, follow } from "./stream.js";

const BEAT = 10_000;

/**
 * Hear of changes. `on` is as for `follow`; `hello` says with `gap` that changes may have been missed. `mark` is the id
 * behind which they are wanted, if that is known.
 */
export function changes(on, mark = "") {
  const name = `stint changes ${meta("csrf")}`, channel = new BroadcastChannel(name);
  let id = mark, told = null, joined = false, reading = false, leave = null, hiding = 0, silence = 0;

  const share = (message) => channel.postMessage(message);
  const state = (now) => ((told = now).since ? on.lost(now.since) : on.live());

  function event(kind, data, eventId) {
    if (eventId) id = eventId;
    on.event(kind, kind === "hello" ? { ...data, gap: !data.resumed } : data);
    joined = true;
  }

  channel.onmessage = ({ data: message }) => {
    heard();
    if (message.ask) { if (reading && told) share({ state: told, id }); }
    else if (message.event) { if (message.event[0] !== "hello") join(""); event(...message.event); }
    else { state(message.state); message.state.since || join(message.id); }
  };

  /** Another window reads, and has told the others up to this event. */
  function join(read) {
    if (!joined && (!mark || read !== mark)) on.event("hello", { gap: true, release: meta("release") });
    joined = true;
  }

  /** The window that reads is heard from time to time, even if nothing changes. */
  function heard() {
    clearTimeout(silence);
    silence = setTimeout(() => reading || document.hidden || on.lost(Date.now()), SILENCE);
  }

  /** Read the stream until this window is hidden, or there is no more. */
  function read({ signal }) {
    return new Promise((done) => {
      const tell = (now) => { state(now); share({ state: now, id }); };
      const beat = setInterval(() => told && share({ state: told, id }), BEAT);
      const end = () => { clearInterval(beat); reading = false; done(); };
      reading = true;
      const stream = follow("/v1/api/events", {
        event: (...heard) => { event(...heard); share({ event: heard }); },
        live: () => tell({}),
        lost: (since) => tell({ since }),
        slow: on.slow,
        ended: (refused) => { channel.close(); end(); on.ended(refused); },
      }, { from: id });
      signal.addEventListener("abort", () => { stream.close(); end(); });
    });
  }

  /** Read as soon as no other window does. */
  function wait() {
    if (leave) return;
    const { signal } = (leave = new AbortController());
    navigator.locks.request(name, { signal }, () => signal.aborted || read({ signal })).catch((error) => { if (!signal.aborted) throw error; });
  }

  function seen() {
    clearTimeout(hiding);
    if (!document.hidden) return wait();
    hiding = setTimeout(() => { leave?.abort(); leave = null; }, HIDDEN);
  }

  document.addEventListener("visibilitychange", seen);
  share({ ask: true });
  heard();
  seen();
}
