// The queues: what needs a person first, then those that are busy.
import { all, arrange, clone, make, one, put, show, text } from "./dom.js";
import { attention, begin, everySecond, now } from "./shell.js";
import { keep } from "./live-table.js";
import { part } from "./queue-name.js";
import { having, state, steps, switcher, why } from "./queue-parts.js";
import { count, duration, short } from "./words.js";

const rows = new Map(), body = one("[data-rows]");
const ORDER = ["held", "norunner", "paused", "active", "idle"];
let loadedAt = 0;

for (const element of all("tr", body)) rows.set(element.dataset.name, element);
begin();
const load = keep("/v1/api/queue", render, 15_000);
everySecond(() => { if (loadedAt) for (const element of rows.values()) clocks(element); });

function render(queues) {
  loadedAt = now();
  const sorted = [...queues].sort((a, b) => ORDER.indexOf(state(a)) - ORDER.indexOf(state(b)) || b.depth - a.depth || (a.qname < b.qname ? -1 : 1));
  const gone = new Set(rows.keys());
  for (const queue of sorted) {
    gone.delete(queue.qname);
    const element = rows.get(queue.qname) ?? one("tr", clone("t-row"));
    rows.set(queue.qname, element);
    fill(element, queue);
  }
  for (const name of gone) { rows.get(name).remove(); rows.delete(name); }
  // Rows do not move below a pointer or a focus.
  if (!body.matches(":hover, :focus-within") || gone.size || rows.size !== body.rows.length) arrange(body, sorted.map(({ qname }) => rows.get(qname)));
  one("[data-empty]").hidden = queues.length > 0;
  summary(queues);
  attention(queues);
  for (const queue of sorted) steps(queue, load);
}

function fill(element, queue) {
  const name = state(queue), link = one(".name", element), status = one(".st", element);
  element.queue = queue;
  link.href = `/queues/${part(queue.qname)}`;
  text(link, queue.qname || "(no name)");
  show(status, name);
  status.classList.toggle("quiet", name === "active" || name === "idle");
  text(one(".why", element), why(queue, name));
  const running = one(".c-n", element);
  if (queue.running) put(running, make("a", short(queue.running), { class: "mono", href: `/jobs/${queue.running}` }), having(queue));
  else put(running, make("span", "Nothing runs", { class: "dim" }));
  text(one("b", element), String(queue.depth));
  text(one(".c-h", element), queue.failed_last_hour ? `${queue.ended_last_hour}, ${queue.failed_last_hour} failed` : String(queue.ended_last_hour));
  actions(one(".c-a", element), queue);
  clocks(element);
}

function clocks(element) {
  const { queue } = element;
  text(one(".c-o", element), queue.depth ? duration(1000 * queue.oldest_wait + now() - loadedAt) : "none");
}

function actions(place, queue) {
  const state = String(Boolean(queue.paused));
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.replaceChildren(switcher(queue, () => place.closest("tr").queue, load, "small"));
}

function summary(queues) {
  const running = queues.filter((queue) => queue.running).length, depth = queues.reduce((n, queue) => n + queue.depth, 0);
  const oldest = Math.max(0, ...queues.map((queue) => queue.oldest_wait));
  text(one("[data-sum]"), `${count(queues.length, "queue")}, ${running} running, ${depth} waiting.${depth ? ` The oldest has waited ${duration(1000 * oldest)}.` : ""}`);
}
