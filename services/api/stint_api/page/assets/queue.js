// One queue: its state, what runs, who is next, and its last hour.
import { chart } from "./chart.js";
import { all, make, one, put, show, text } from "./dom.js";
import { keep } from "./live-table.js";
import { ended, running, state, steps, switcher, told } from "./queue-parts.js";
import { begin, everySecond, now } from "./shell.js";
import { ago, at, clock, count, duration, short } from "./words.js";

const SHOWN = 20;
const path = `/v1/api/queue/${one("main").dataset.queue}`;
let queue = null, loadedAt = 0;

begin();
const load = keep(`${path}?last_hour=true`, render, 15_000, (queue) => queue);
everySecond(() => queue && clocks());

function render(found) {
  const name = state(found), heading = one("[data-status]");
  queue = found;
  loadedAt = now();
  show(heading, name);
  heading.classList.remove("quiet");
  for (const place of all("[data-name], [data-crumb]")) text(place, queue.qname || "(no name)");
  text(one("title"), `${queue.qname || "The unnamed queue"}: ${heading.textContent} · Stint`);
  one("[data-jobs]").search = `?queue=${encodeURIComponent(queue.qname)}`;
  switcher(one("[data-acts]"), queue, () => queue, load);
  steps(queue, load);
  told(queue);
  facts();
  waiting();
  hour(queue.last_hour);
  clocks();
}

function facts() {
  running(one("[data-running]"), queue, "Nothing runs");
  text(one("[data-depth]"), String(queue.depth));
  text(one("[data-ended]"), ended(queue));
  text(one("[data-served]"), queue.served ? "Yes" : "By none that is alive and takes jobs");
}

function clocks() {
  text(one("[data-oldest]"), queue.depth ? duration(1000 * queue.oldest_wait + now() - loadedAt) : "Nothing waits");
  text(one("[data-contact]"), queue.running && at(queue.last_contact) ? ago(now() - at(queue.last_contact)) : "Nothing runs");
}

function waiting() {
  const list = one("[data-waiting]"), ids = queue.waiting.slice(0, SHOWN);
  one("[data-none]").hidden = ids.length > 0;
  put(list, ...ids.map((id) => {
    const item = make("li");
    item.append(make("a", short(id), { class: "mono", href: `/jobs/${id}` }));
    return item;
  }));
  text(one("[data-more]"), queue.depth > ids.length ? `and ${count(queue.depth - ids.length, "job")} behind them` : "");
}

function hour({ since, depth, busy, longest_wait: waits, ended: all, failed }) {
  const from = at(since), known = depth.filter((value) => value !== null);
  const figure = (name) => one(`[data-chart="${name}"]`);
  chart(figure("depth"), { values: depth, since: from, say: (n) => count(n, "job waits", "jobs wait"), sum: `now ${queue.depth}, at most ${Math.max(0, ...known)}.` });
  chart(figure("busy"), { values: busy, since: from, most: 60, say: share, sum: `${share(sum(busy), known.length)} of the time.` });
  chart(figure("waits"), { values: none(waits, depth), since: from, say: (n) => (n ? `a job waited ${duration(1000 * n)}` : "no job was claimed"), sum: waits.some((n) => n !== null) ? `at most ${duration(1000 * Math.max(...waits))}.` : "no job was claimed." });
  chart(figure("ended"), { values: all, bad: failed, since: from, say: (n, bad = 0) => `${count(n, "job")} ended${bad ? `, ${bad} failed` : ""}`, sum: `${sum(all)}${sum(failed) ? `, ${sum(failed)} failed` : ""}; at most ${Math.max(0, ...all)} a minute.` });
  const unknown = depth.length - known.length;
  text(one("[data-known]"), unknown ? `Not known before ${clock(from + 60_000 * unknown).slice(0, 5)}: ended jobs are not kept for so long.` : "By the jobs that are kept; deleted ones are not counted.");
}

const sum = (values) => values.reduce((all, value) => all + (value ?? 0), 0);
const share = (seconds, minutes = 1) => `${minutes ? Math.round((100 * seconds) / (60 * minutes)) : 0} %`;
/** No claim in a minute is a wait of nothing; a minute of which nothing is known stays unknown. */
const none = (waits, depth) => waits.map((value, i) => (depth[i] === null ? null : value ?? 0));
