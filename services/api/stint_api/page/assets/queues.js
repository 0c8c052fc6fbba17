// The queues: what needs a person first, then those that are busy.
import { call } from "./api.js";
import { check, release } from "./actions.js";
import { clone, copy, draw, make, one, show, text } from "./dom.js";
import { ask, attention, begin, everySecond, fail, notice, say, withdraw } from "./shell.js";
import { keep } from "./live-table.js";
import { at, clock, count, duration, short } from "./words.js";

const rows = new Map();
const ORDER = ["held", "norunner", "paused", "active", "idle"];
let loadedAt = 0;

begin();
const load = keep("/v1/api/queue", render, 15_000);
everySecond(() => { for (const element of rows.values()) clocks(element); });

/** The name of a queue's state. */
function state(queue) {
  if (queue.held) return "held";
  if (!queue.served && queue.depth) return "norunner";
  if (queue.paused) return "paused";
  return queue.running ? "active" : "idle";
}

function render(queues) {
  loadedAt = Date.now();
  const sorted = [...queues].sort((a, b) => ORDER.indexOf(state(a)) - ORDER.indexOf(state(b)) || b.depth - a.depth || (a.qname < b.qname ? -1 : 1));
  const gone = new Set(rows.keys());
  for (const queue of sorted) {
    gone.delete(queue.qname);
    const element = rows.get(queue.qname) ?? one("tr", clone("t-row"));
    rows.set(queue.qname, element);
    fill(element, queue);
  }
  for (const name of gone) { rows.get(name).remove(); rows.delete(name); }
  if (!one("[data-rows]").matches(":hover, :focus-within") || gone.size || rows.size !== one("[data-rows]").rows?.length) order(sorted);
  one("[data-empty]").hidden = queues.length > 0;
  summary(queues);
  attention(queues);
  for (const queue of sorted) steps(queue);
}

/** Rows do not move below a pointer or a focus. */
function order(queues) {
  const body = one("[data-rows]");
  queues.forEach(({ qname }, i) => { if (body.children[i] !== rows.get(qname)) body.insertBefore(rows.get(qname), body.children[i] ?? null); });
}

function fill(element, queue) {
  const name = state(queue), link = one(".name", element), status = one(".st", element);
  element.queue = queue;
  link.href = `/jobs?queue=${encodeURIComponent(queue.qname)}`;
  text(link, queue.qname || "(no name)");
  show(status, name);
  status.classList.toggle("quiet", name === "active" || name === "idle");
  text(one(".why", element), why(queue, name));
  const running = one(".c-n", element);
  if (queue.running) running.replaceChildren(make("a", short(queue.running), { class: "mono", href: `/jobs/${queue.running}` }), queue.running_status === "stopping" ? " is stopping" : queue.held ? " on a runner that was lost" : "");
  else running.replaceChildren(make("span", "Nothing runs", { class: "dim" }));
  text(one("b", element), String(queue.depth));
  text(one(".c-h", element), queue.failed_last_hour ? `${queue.ended_last_hour}, ${queue.failed_last_hour} failed` : String(queue.ended_last_hour));
  actions(one(".c-a", element), queue, name);
  clocks(element);
}

function why(queue, name) {
  if (name === "held") return at(queue.held_since) ? `since ${clock(at(queue.held_since))}` : "";
  if (name === "norunner") return "no runner that is alive serves it";
  if (queue.paused) return `by ${queue.paused.who} at ${clock(at(queue.paused.at))}${queue.paused.reason ? `: “${queue.paused.reason}”` : ""}`;
  return "";
}

function clocks(element) {
  const { queue } = element;
  text(one(".c-o", element), queue.depth ? duration(1000 * queue.oldest_wait + Date.now() - loadedAt) : "none");
}

function actions(place, queue, name) {
  if (place.dataset.state === name + Boolean(queue.paused)) return;
  place.dataset.state = name + Boolean(queue.paused);
  const what = queue.paused ? "Resume" : "Pause…";
  const button = make("button", what, { type: "button", class: "btn small", "data-changes": "", "aria-label": `${what} ${queue.qname || "the unnamed queue"}` });
  button.onclick = () => (queue.paused ? resume : pause)(place.closest("tr").queue).then((done) => done && load());
  place.replaceChildren(button);
}

const path = (queue) => `/v1/api/queue/${token(queue.qname)}`;

/** A queue's name as a part of a path, whatever it contains: "=" and its base32. */
function token(name) {
  let bits = 0, value = 0, out = "";
  for (const byte of new TextEncoder().encode(name)) {
    value = ((value << 8) | byte) & 0xfffff;
    for (bits += 8; bits >= 5; bits -= 5) out += "abcdefghijklmnopqrstuvwxyz234567"[(value >> (bits - 5)) & 31];
  }
  if (bits) out += "abcdefghijklmnopqrstuvwxyz234567"[(value << (5 - bits)) & 31];
  return `=${out || "_"}`;
}

function pause(queue) {
  const label = make("label", "Why, for all who see the queue", { for: "reason" });
  const field = make("input", "", { type: "text", id: "reason", class: "in1", maxlength: "1000" });
  return ask({
    title: `Pause ${queue.qname || "the unnamed queue"}?`,
    sentence: queue.running ? "The job that runs goes on to its end. None starts after it." : "None of its jobs starts until it is resumed.",
    go: "Pause it",
    danger: false,
    more: [label, field],
    ready: () => field.value.trim() !== "",
    work: () => call(`${path(queue)}/pause`, { method: "POST", body: { reason: field.value.trim() } }),
  });
}

const resume = (queue) => ask({
  title: `Resume ${queue.qname || "the unnamed queue"}?`,
  sentence: queue.depth ? "Its next job starts at once, if a runner is free." : "Nothing waits in it.",
  go: "Resume it",
  danger: false,
  work: () => call(`${path(queue)}/resume`, { method: "POST" }),
});

function summary(queues) {
  const running = queues.filter((queue) => queue.running).length, depth = queues.reduce((n, queue) => n + queue.depth, 0);
  const oldest = Math.max(0, ...queues.map((queue) => queue.oldest_wait));
  text(one("[data-sum]"), `${count(queues.length, "queue")}, ${running} running, ${depth} waiting.${depth ? ` The oldest has waited ${duration(1000 * oldest)}.` : ""}`);
}

/** For a held queue: what happened, what to look at, what follows. */
function steps(queue) {
  const cause = `held ${queue.qname}`;
  if (!queue.held) return withdraw(cause);
  if (one(`[data-cause="${CSS.escape(cause)}"]`)) return;
  const element = clone("t-notice");
  element.dataset.cause = cause;
  element.classList.add("held");
  draw(one("use", element), "s-held");
  const story = one("p", element);
  story.append(make("strong", `${queue.qname || "The unnamed queue"} waits for a person. `), "The runner of ", make("a", short(queue.running), { href: `/jobs/${queue.running}`, class: "mono" }), " was lost, and this queue is set to wait. Nobody can say whether the job still runs. Look on its runner that the container is gone, then release the job: it ends as unknown, and the next one starts. If the runner comes back, the job goes on by itself.");
  const look = make("button", "Copy the check", { type: "button", class: "btn small", title: check(queue.running) });
  look.onclick = () => copy(check(queue.running), look);
  const give = make("button", "Release…", { type: "button", class: "btn small held", "data-changes": "" });
  give.onclick = () => call(`/v1/api/job/${queue.running}?output=false`).then(release).then((done) => done && (say("Released."), load()), (refused) => fail(refused.message));
  one(".acts", element).append(look, give);
  one("[data-notices]").append(element);
}
