// Who did what, as the server has drawn it.
import { call } from "./api.js";
import { all, make, one, text } from "./dom.js";
import { asked, begin, connection, failed, filters } from "./shell.js";
import { at, clock } from "./words.js";

begin();
connection.live();
filters();
one("[data-export]").onclick = () => save().catch(failed);
for (const time of all("[data-rows] time")) text(time, `${day(at(time.dateTime))} ${clock(at(time.dateTime))}`);

/** Month and day on this machine, as its time of day. */
function day(ms) {
  const date = new Date(ms);
  return [date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

/** What is shown, as JSON lines. */
async function save() {
  const { data } = await call(`/v1/api/audit?${asked()}`);
  const url = URL.createObjectURL(new Blob([data.map((action) => JSON.stringify(action)).join("\n")], { type: "application/x-ndjson" }));
  make("a", "", { href: url, download: "stint-audit.jsonl" }).click();
  URL.revokeObjectURL(url);
}
