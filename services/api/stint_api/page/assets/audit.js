// Who did what, as the server has drawn it.
import { call } from "./api.js";
import { all, make, one, text } from "./dom.js";
import { asked, attend, begin, connection, failed, filters } from "./shell.js";
import { at, clock, whole } from "./words.js";

begin();
attend();
connection.live();
filters();
one("[data-export]").onclick = () => save().catch(failed);
for (const time of all("[data-rows] time")) text(time, `${whole(at(time.dateTime)).slice(5, 10)} ${clock(at(time.dateTime))}`);

/** What is shown, as JSON lines. */
async function save() {
  const { data } = await call(`/v1/api/audit?${asked()}`);
  const url = URL.createObjectURL(new Blob([data.map((action) => JSON.stringify(action)).join("\n")], { type: "application/x-ndjson" }));
  make("a", "", { href: url, download: "stint-audit.jsonl" }).click();
  URL.revokeObjectURL(url);
}
