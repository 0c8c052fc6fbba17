// The list of jobs asked for again: when somebody wants the new ones, or changes may have been missed.
import { send } from "./api.js";
import { arrange, clone, one, text } from "./dom.js";
import { clocks, fill } from "./row-of-job.js";
import { notice, now, withdraw } from "./shell.js";
import { duration, short } from "./words.js";

/** What the API answers to `query`. */
export async function list(query) {
  const answer = await send(`/v1/api/job?${query}`);
  return { ...(await answer.json()), next: cursorOf(answer) };
}

/** Show in `body` what `list` gave; `rows` are those that are there. */
export function draw(body, rows, { data, total, next, as_of: asOf, now: apiNow }) {
  const known = new Map(rows);
  rows.clear();
  for (const job of data) {
    const element = known.get(job._id) ?? row(job);
    element.classList.remove("gone");
    fill(element, job);
    clocks(element, now());
    rows.set(job._id, element);
  }
  arrange(body, [...rows.values()]);
  one("[data-empty]").hidden = rows.size > 0;
  foot(rows.size, total, next);
  stale(Date.parse(apiNow) - Date.parse(asOf));
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
