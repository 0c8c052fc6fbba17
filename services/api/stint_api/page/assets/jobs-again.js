// The list of jobs asked for again: when somebody wants the new ones, or changes may have been missed.
import { send } from "./api.js";
import { clone, one, text } from "./dom.js";
import { clocks, fill } from "./row-of-job.js";
import { notice, now, withdraw } from "./shell.js";
import { duration, short } from "./words.js";

/** Show in `body` what the API answers to `query`; `rows` are those that are there. Returns the counts that came with it. */
export async function again(body, rows, query) {
  const answer = await send(`/v1/api/job?${query}`), { data, total, counts, as_of: asOf, now: apiNow } = await answer.json();
  const known = new Map(rows);
  rows.clear();
  for (const job of data) {
    const element = known.get(job._id) ?? row(job);
    element.classList.remove("gone");
    fill(element, job);
    clocks(element, now());
    rows.set(job._id, element);
  }
  body.replaceChildren(...rows.values());
  one("[data-empty]").hidden = rows.size > 0;
  foot(rows.size, total, cursorOf(answer));
  stale(Date.parse(apiNow) - Date.parse(asOf));
  return counts;
}

/** The cursor in an answer's `Link`, "" without one. */
const cursorOf = (answer) => new URLSearchParams(/<\?([^>]*)>/.exec(answer.headers.get("link") ?? "")?.[1]).get("cursor") ?? "";

/** A row for a job. */
function row(job) {
  const element = one("tr", clone("t-row"));
  element.dataset.id = job._id;
  const link = one("a.id", element), time = one("time", element);
  link.href = `/jobs/${job._id}`;
  text(link, short(job._id));
  one(".check", element).ariaLabel = `Select ${short(job._id)}`;
  time.dateTime = time.title = job.submitted;
  return element;
}

function foot(shown, total, next) {
  const url = new URL(location), older = one("[data-older]"), skipped = Number(url.searchParams.get("at") ?? 0);
  const [first, last, all] = [skipped + 1, skipped + shown, total].map((n) => n.toLocaleString("en"));
  text(one("[data-range]"), shown ? `${first} to ${last} of ${all}. ` : "");
  older.hidden = !next;
  url.searchParams.set("after", next);
  url.searchParams.set("at", skipped + shown);
  older.href = url;
}

/** How old the list is, if that is more than a moment. */
function stale(age) {
  withdraw("stale");
  if (age > 10_000) notice("stale", "stopping", `This list is ${duration(age)} old. A single job is always up to date.`);
}
