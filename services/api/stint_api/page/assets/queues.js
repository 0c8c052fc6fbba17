// The queues: what needs a person first, then those that are busy.
import { make, one, show, text } from "./dom.js";
import { attention, begin, everySecond, now } from "./shell.js";
import { keep, table } from "./live-table.js";
import { ended, running, state, steps, switcher, why } from "./queue-parts.js";
import { part } from "./queue-name.js";
import { count, duration } from "./words.js";

const ORDER = ["held", "norunner", "paused", "active", "idle"];
const { rows, show: list } = table(({ qname }) => qname, fill);
let loadedAt = 0;

begin({ attends: false }); // it shows itself which of the queues need a person
const load = keep("/v1/api/queue", render, 15_000);
everySecond(() => { if (loadedAt) for (const element of rows.values()) clocks(element); });

function render(queues) {
  loadedAt = now();
  const sorted = [...queues].sort((a, b) => ORDER.indexOf(state(a)) - ORDER.indexOf(state(b)) || b.depth - a.depth || (a.qname < b.qname ? -1 : 1));
  list(sorted);
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
  running(one(".c-n", element), queue, make("span", "Nothing runs", { class: "dim" }));
  text(one("b", element), String(queue.depth));
  text(one(".c-h", element), ended(queue));
  switcher(one(".c-a", element), queue, () => element.queue, load, "small");
  clocks(element);
}

function clocks(element) {
  const { queue } = element;
  text(one(".c-o", element), queue.depth ? duration(1000 * queue.oldest_wait + now() - loadedAt) : "none");
}

function summary(queues) {
  const running = queues.filter((queue) => queue.running).length, depth = queues.reduce((n, queue) => n + queue.depth, 0);
  const oldest = Math.max(0, ...queues.map((queue) => queue.oldest_wait));
  text(one("[data-sum]"), `${count(queues.length, "queue")}, ${running} running, ${depth} waiting.${depth ? ` The oldest has waited ${duration(1000 * oldest)}.` : ""}`);
}
