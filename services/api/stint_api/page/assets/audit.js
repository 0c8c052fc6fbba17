// Who did what, as the server has drawn it.
import { call, serverTime } from "./api.js";
import { all, make, one, text } from "./dom.js";
import { attend, begin, connection, failed, filters } from "./shell.js";
import { at, clock, whole } from "./words.js";

const body = one("[data-rows]");

begin();
attend();
connection.live();
filters();
one("[data-export]").onclick = () => save().catch(failed);
for (const time of all("time", body)) text(time, `${whole(at(time.dateTime)).slice(5, 10)} ${clock(at(time.dateTime))}`);

/** What is shown, as JSON lines. */
async function save() {
  const query = new URLSearchParams(body.dataset.query), { since } = body.dataset;
  if (since) query.set("since", new Date(serverTime() - 1000 * since).toISOString());
  const { data } = await call(`/v1/api/audit?${query}`);
  const url = URL.createObjectURL(new Blob([data.map((action) => JSON.stringify(action)).join("\n")], { type: "application/x-ndjson" }));
  make("a", "", { href: url, download: "stint-audit.jsonl" }).click();
  URL.revokeObjectURL(url);
}
