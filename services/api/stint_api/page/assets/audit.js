// Who did what: read from the facts, page by page.
import { cursorOf, send, serverTime } from "./api.js";
import { clone, make, one, text } from "./dom.js";
import { attend, begin, connection, fail } from "./shell.js";
import { at, clock, count, short, whole } from "./words.js";

const HOURS = { "1h": 1, "6h": 6, "24h": 24 };
const here = new URLSearchParams(location.search);
const DID = { submitted: "submitted", kill_requested: "asked to kill", deleted: "deleted", released: "released", paused: "paused", resumed: "resumed", drain_requested: "asked to drain" };
let shown = [];

begin();
attend();
const form = one("[data-filters]");
for (const name of ["queue", "by", "since"]) form.elements[name].value = here.get(name) ?? "";
form.onchange = () => form.requestSubmit();
form.onsubmit = (event) => { event.preventDefault(); location.assign(address(Object.fromEntries(new FormData(form)))); };
one("[data-export]").onclick = save;
load();

function address(given) {
  const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value));
  return query.size ? `/audit?${query}` : "/audit";
}

function asked() {
  const query = new URLSearchParams({ limit: 50 });
  const hours = HOURS[here.get("since")];
  if (hours) query.set("since", new Date(serverTime() - hours * 3_600_000).toISOString());
  for (const [name, value] of [["qname", here.get("queue")], ["who", here.get("by")], ["cursor", here.get("after")]]) if (value) query.set(name, value);
  return query;
}

async function load() {
  const waiting = setTimeout(() => (one("[data-wait]").hidden = false), 200);
  try {
    const answer = await send(`/v1/api/audit?${asked()}`), { data } = await answer.json();
    connection.live();
    shown = data;
    one("[data-rows]").replaceChildren(...data.map(row));
    foot(cursorOf(answer));
  } catch (refused) {
    if (refused.status !== 401) fail(refused.message);
  } finally {
    clearTimeout(waiting);
    one("[data-wait]").hidden = true;
  }
}

function row(action) {
  const element = one("tr", clone("t-row")), set = (name, value) => text(one(`.c-${name}`, element), value), ms = at(action.at), time = one("time", element);
  text(time, `${whole(ms).slice(5, 10)} ${clock(ms)}`);
  time.dateTime = action.at;
  time.title = whole(ms);
  set("b", action.who || action.nats_user || "not known");
  one(".c-b", element).title = [action.entity && `identity ${action.entity}`, action.accessor && `token accessor ${action.accessor}`, action.nats_user && `NATS user ${action.nats_user}`, action.claimed && `calls itself ${action.claimed}`].filter(Boolean).join(", ");
  set("d", DID[action.action] ?? action.action);
  one(".c-o", element).append(action.job ? make("a", short(action.job), { class: "mono", href: `/jobs/${action.job}` }) : action.runner || "the queue");
  one(".c-o", element).title = action.runner;
  set("q", action.runner ? "" : action.qname || "(no name)");
  set("f", action.from);
  const answer = action.reason ? `${action.answer}: ${action.reason}` : action.answer;
  set("a", action.proven === false ? `${answer}, unproven` : answer);
  one(".c-a", element).title = action.reason;
  if (action.proven === false) one(".c-a", element).title = "A direct publisher of the queue could have written this under another name: nobody has signed it.";
  return element;
}

function foot(next) {
  const older = one("[data-older]"), newest = one("[data-newest]"), given = Object.fromEntries(here), place = one("[data-empty]");
  text(one("[data-range]"), count(shown.length, "action"));
  older.hidden = !next;
  older.href = address({ ...given, after: next });
  newest.hidden = !here.has("after");
  newest.href = address({ ...given, after: "" });
  place.hidden = shown.length > 0;
  place.replaceChildren(make("h2", here.size ? "Nothing matches" : "Nobody did anything yet"), here.size ? make("a", "Clear the filters", { class: "btn", href: "/audit" }) : "");
}

/** What is shown, as JSON lines. */
function save() {
  const url = URL.createObjectURL(new Blob([shown.map((action) => JSON.stringify(action)).join("\n")], { type: "application/x-ndjson" }));
  const link = make("a", "", { href: url, download: "stint-audit.jsonl" });
  link.click();
  URL.revokeObjectURL(url);
}
