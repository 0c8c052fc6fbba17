// A table that is asked for again whenever a job changes, and from time to time.
import { call, newest } from "./api.js";
import { changes } from "./changes.js";
import { all, arrange, clone, one } from "./dom.js";
import { connection, fail, withdraw } from "./shell.js";

const BURST = 500;

/** Draw what `path` lists, or another `part` of its answer, with `render`: now, every so many milliseconds while it can be seen, and after changes. Returns what draws it at once. */
export function keep(path, render, every, part = ({ data }) => data) {
  const latest = newest();
  let asking = 0;

  async function load() {
    try {
      const found = await latest(call(path));
      if (!found) return;
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

/** A table with a row for each thing, by its name; the server has drawn some. `fill` shows a thing in its row. */
export function table(nameOf, fill) {
  const body = one("[data-rows]"), rows = new Map(all("tr", body).map((row) => [row.dataset.name, row]));

  function show(things) {
    const gone = new Set(rows.keys());
    for (const thing of things) {
      const name = nameOf(thing);
      gone.delete(name);
      if (!rows.has(name)) rows.set(name, one("tr", clone("t-row")));
      fill(rows.get(name), thing);
    }
    for (const name of gone) { rows.get(name).remove(); rows.delete(name); }
    // Rows do not move below a pointer or a focus.
    if (!body.matches(":hover, :focus-within") || gone.size || rows.size !== body.rows.length) arrange(body, things.map((thing) => rows.get(nameOf(thing))));
    one("[data-empty]").hidden = things.length > 0;
  }

  return { rows, show };
}
