// A table that is asked for again whenever a job changes, and from time to time.
import { call } from "./api.js";
import { changes } from "./changes.js";
import { connection, fail, withdraw } from "./shell.js";

const BURST = 500;
let asking = 0, asks = 0, shown = 0;

/** Draw what `path` lists, or another `part` of its answer, with `render`: now, every so many milliseconds while it can be seen, and after changes. Returns what draws it at once. */
export function keep(path, render, every, part = ({ data }) => data) {
  /** An answer that comes after the one to a later question is not shown. */
  async function load() {
    const mine = ++asks;
    try {
      const found = await call(path);
      if (mine < shown) return;
      shown = mine;
      render(part(found));
      withdraw("failure");
    } catch (refused) {
      if (refused.status !== 401 && refused.status) fail(refused.message);
    }
  }

  /** Changes come in bursts: one question for all of them. */
  function soon() {
    asking ||= setTimeout(() => { asking = 0; load(); }, BURST);
  }

  load().then(() => changes({ ...connection, event: soon, ended: connection.refused }));
  setInterval(() => document.hidden || soon(), every);
  return load;
}
