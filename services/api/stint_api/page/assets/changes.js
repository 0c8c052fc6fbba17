// The changes of all jobs, by one stream for all windows of a session: one window reads it, and tells the others.
import { meta } from "./api.js";
import { HIDDEN, SILENCE, follow } from "./stream.js";

const BEAT = 10_000;

/** Hear of changes. `on` is as for `follow`; `hello` says with `gap` that changes may have been missed. */
export function changes(on) {
  const name = `stint changes ${meta("csrf")}`, channel = new BroadcastChannel(name);
  let id = "", told = null, joined = false, reading = false, leave = null, hiding = 0, silence = 0;

  const share = (message) => channel.postMessage(message);
  const state = (now) => ((told = now).since ? on.lost(now.since) : on.live());

  function event(kind, data, eventId) {
    if (eventId) id = eventId;
    on.event(kind, kind === "hello" ? { ...data, gap: joined && !data.resumed } : data);
    joined = true;
  }

  channel.onmessage = ({ data: message }) => {
    heard();
    if (message.ask) { if (reading && told) share({ state: told }); }
    else if (message.event) event(...message.event);
    else { state(message.state); joined ||= !message.state.since; }
  };

  /** The window that reads is heard from time to time, even if nothing changes. */
  function heard() {
    clearTimeout(silence);
    silence = setTimeout(() => reading || document.hidden || on.lost(Date.now()), SILENCE);
  }

  /** Read the stream until this window is hidden, or there is no more. */
  function read({ signal }) {
    return new Promise((done) => {
      const tell = (now) => { state(now); share({ state: now }); };
      const beat = setInterval(() => told && share({ state: told }), BEAT);
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
