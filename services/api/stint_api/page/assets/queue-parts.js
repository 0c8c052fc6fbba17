// What is told of a queue, and done with it, in the list of queues and on a queue's own page.
import { call } from "./api.js";
import { check, release } from "./actions.js";
import { ask } from "./ask.js";
import { button, exchange, make, put } from "./dom.js";
import { copy, failed, notice, noticesOf, say, withdraw } from "./shell.js";
import { nameOf, path } from "./queue-name.js";
import { at, clock, named, short } from "./words.js";

/** The name of a queue's state. */
export function state(queue) {
  if (queue.held) return "held";
  if (!queue.served && queue.depth) return "norunner";
  if (queue.paused) return "paused";
  return queue.running ? "active" : "idle";
}

/** When and why it was paused, as far as that is known. */
const since = ({ at: time, reason }) => `${at(time) ? ` at ${clock(at(time))}` : ""}${reason ? `: “${reason}”` : ""}`;

export function why(queue, name) {
  if (name === "held") return at(queue.held_since) ? `since ${clock(at(queue.held_since))}` : "";
  if (name === "norunner") return "no runner that is alive serves it";
  return queue.paused ? `by ${queue.paused.who || "somebody"}${since(queue.paused)}` : "";
}

/** Show the job that a runner has, and what is known of it, or `nothing`. */
export function running(place, queue, nothing) {
  if (!queue.running) return put(place, nothing);
  const more = queue.running_status === "stopping" ? " is stopping" : queue.held ? " on a runner that was lost" : "";
  put(place, make("a", short(queue.running), { class: "mono", href: `/jobs/${queue.running}` }), more);
}

/** How many of its jobs ended within an hour. */
export const ended = (queue) => (queue.failed_last_hour ? `${queue.ended_last_hour}, ${queue.failed_last_hour} failed` : String(queue.ended_last_hour));

/** Show the button that pauses or resumes it. `current` gives the queue as it is then, `done` is called afterwards. */
export function switcher(place, queue, current, done, how = "") {
  const state = String(Boolean(queue.paused));
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  const what = queue.paused ? "Resume" : "Pause…";
  const work = () => (queue.paused ? resume : pause)(current()).then((did) => did && done());
  exchange(place, [button(what, work, how, { "data-changes": "", "aria-label": named(`${what} ${nameOf(queue)}`) })]);
}

function pause(queue) {
  const label = make("label", "Why, for all who see the queue", { for: "reason" });
  const field = make("input", "", { type: "text", id: "reason", class: "in1", maxlength: "1000" });
  return ask({
    title: `Pause ${nameOf(queue)}?`,
    sentence: queue.running ? "The job that runs goes on to its end. None starts after it." : "None of its jobs starts until it is resumed.",
    go: "Pause it",
    danger: false,
    more: [label, field],
    ready: () => field.value.trim() !== "",
    work: () => call(`${path(queue.qname)}/pause`, { method: "POST", body: { reason: field.value.trim() } }),
  });
}

const resume = (queue) => ask({
  title: `Resume ${nameOf(queue)}?`,
  sentence: queue.depth ? "Its next job starts at once, if a runner is free." : "Nothing waits in it.",
  go: "Resume it",
  danger: false,
  work: () => call(`${path(queue.qname)}/resume`, { method: "POST" }),
});

/** For a held queue: what happened, what to look at, what follows. */
export function steps(queue, done) {
  const cause = `held ${queue.qname}`;
  if (!queue.held) return withdraw(cause);
  if (noticesOf(cause).length) return;
  const link = make("a", short(queue.running), { href: `/jobs/${queue.running}`, class: "mono" });
  const story = [make("strong", `${queue.qname || "The unnamed queue"} waits for a person. `), "The runner of ", link, " was lost, and this queue is set to wait. Nobody can say whether the job still runs. Look on its runner that the container is gone, then release the job: it ends as unknown, and the next one starts. If the runner comes back, the job goes on by itself."];
  const look = button("Copy the check", () => copy(check(queue.running), look), "small", { title: check(queue.running) });
  const give = () => call(`/v1/api/job/${queue.running}?output=false`).then(release).then((did) => did && (say("Released."), done()), failed);
  const acts = [look, button("Release…", give, "small held", { "data-changes": "" })];
  notice(cause, "held", story, acts, "append"); // those that are there do not move below a pointer
}

/** What a person should know of it who looks at it alone, besides a hold. */
export function told(queue) {
  if (!queue.paused) withdraw("paused");
  else notice("paused", "paused", `${queue.paused.who || "Somebody"} paused it${since(queue.paused)}. None of its jobs starts until somebody resumes it.`);
  if (queue.served) withdraw("norunner");
  else notice("norunner", "norunner", "No runner that is alive and takes jobs serves this queue. Its jobs wait until one does.", [make("a", "Runners", { class: "btn small", href: "/runners" })]);
}
