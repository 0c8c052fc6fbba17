// The runners: those that are not heard first, then those that drain, then the others.
import { call } from "./api.js";
import { ask } from "./ask.js";
import { button, draw, exchange, make, one, put, show, text } from "./dom.js";
import { begin, everySecond, now } from "./shell.js";
import { keep, table } from "./live-table.js";
import { ago, at, clock, count, named, short } from "./words.js";

const SHAPES = { alive: "active", draining: "stopping", lost: "norunner" };
const ORDER = ["lost", "draining", "alive"];
const { rows, show: list } = table(({ runner }) => runner, fill);
let differ = false;

begin();
const load = keep("/v1/api/runner", render, 5_000);
everySecond(() => { for (const element of rows.values()) if (element.runner) clocks(element); });

function state(runner) {
  if (!runner.alive) return "lost";
  return runner.draining ? "draining" : "alive";
}

function render(runners) {
  const sorted = [...runners].sort((a, b) => ORDER.indexOf(state(a)) - ORDER.indexOf(state(b)) || (a.runner < b.runner ? -1 : 1));
  const alive = runners.filter((runner) => runner.alive), slots = alive.reduce((n, { capacity }) => n + capacity, 0), busy = alive.reduce((n, { running }) => n + running.length, 0);
  differ = new Set(alive.map(({ version }) => version)).size > 1;
  list(sorted);
  text(one("[data-sum]"), `${alive.length} alive, ${busy} of ${count(slots, "slot")} taken.`);
}

function fill(element, runner) {
  const name = state(runner), status = one(".st", element);
  element.runner = runner;
  text(one("strong", element), runner.runner);
  show(status, name);
  status.classList.toggle("quiet", name === "alive");
  draw(one("use", status), `s-${SHAPES[name]}`);
  text(one(".why", element), why(runner, name));
  slots(one(".c-l", element), runner);
  put(one(".c-n", element), ...jobs(runner));
  text(one(".c-e", element), runner.queues.join(", ") || "all");
  text(one(".c-v", element), differ ? `${runner.version} (they differ)` : runner.version);
  action(one(".c-a", element), runner, name);
  clocks(element);
}

function why(runner, name) {
  if (name === "lost") return "whether its containers live is not known";
  if (name === "draining") return runner.drained_by ? `asked by ${runner.drained_by}` : "it was told to stop";
  return at(runner.started) ? `since ${clock(at(runner.started))}` : "";
}

/** Slots as squares up to a dozen, and always in figures. */
function slots(place, { capacity, running, alive }) {
  const squares = capacity <= 12 && alive ? Array.from({ length: capacity }, (_, i) => make("span", "", { class: i < running.length ? "slot on" : "slot", "aria-hidden": "true" })) : [];
  put(place, ...squares, `${running.length} of ${capacity}`);
}

function jobs({ running }) {
  if (!running.length) return [make("span", "Nothing", { class: "dim" })];
  return running.slice(0, 6).flatMap((id, i) => [i ? " " : "", make("a", short(id), { class: "mono", href: `/jobs/${id}` })]).concat(running.length > 6 ? [` and ${running.length - 6} more`] : []);
}

function clocks(element) {
  text(one(".c-o", element), ago(now() - at(element.runner.last_seen)));
}

function action(place, runner, name) {
  if (place.dataset.state === name) return;
  place.dataset.state = name;
  if (name !== "alive") return exchange(place, []);
  const work = () => drain(place.closest("tr").runner).then((done) => done && load());
  place.replaceChildren(button("Drain…", work, "small", { "data-changes": "", "aria-label": named(`Drain… ${runner.runner}`) }));
}

const drain = (runner) => ask({
  title: `Drain ${runner.runner}?`,
  sentence: `It takes no more jobs. ${runner.running.length ? `${count(runner.running.length, "job goes on to its end", "jobs go on to their end")}, and then its process ends.` : "Its process ends."} Whoever started it may start it again.`,
  go: `Drain ${runner.runner}`,
  work: () => call(`/v1/api/runner/${encodeURIComponent(runner.runner)}/drain`, { method: "POST" }),
});
