// What is known of a job, beside its output: title, phases, facts, history.
import { make, one, put, show, text } from "./dom.js";
import { part } from "./queue-name.js";
import { ago, at, bytes, clock, duration, kind, over, sentence, short, whole, word } from "./words.js";

/** The title and the sentence below it. */
export function title(job, lines, now) {
  const name = kind(job), heading = one("[data-status]");
  show(heading, name);
  heading.classList.remove("quiet");
  text(one("[data-for]"), length(job, now));
  text(one("[data-sentence]"), known(job, lines, now));
  const what = job.reason === "exit_code" ? `${word(name)}, exit code ${job.return_code}` : word(name);
  text(one("title"), `${what}: ${short(job._id)} in ${job.qname || "the unnamed queue"} · Stint`);
}

function length(job, now) {
  const started = at(job.started), ended = at(job.ended);
  if (job.status === "queued") return `for ${duration(now - at(job.submitted))}`;
  if (over(job)) return started ? `after ${duration(ended - started)}` : "";
  return `for ${duration(now - started)}`;
}

function known(job, lines, now) {
  const image = job.container_image.split("/").slice(-2).join("/");
  const where = [image, job.node_uuid && `on ${job.node_uuid}`].filter(Boolean).join(" ");
  if (over(job)) return [where, ago(now - at(job.ended))].filter(Boolean).join(", ") + ".";
  const last = lines.lastAt ? `Wrote output ${ago(now - lines.lastAt)}.` : "";
  const said = job.status === "running" && last ? last : sentence(job, now);
  return [where && `${where}.`, said && `${said.replace(/\.$/, "")}.`].filter(Boolean).join(" ");
}

const FACTS = [
  ["Queue", (job) => make("a", job.qname || "(no name)", { href: `/queues/${part(job.qname)}` })],
  ["Image", (job) => job.container_image && make("span", job.container_image, { class: "mono" })],
  ["Again", (job) => job.rerun_of && make("a", short(job.rerun_of), { href: `/jobs/${job.rerun_of}`, class: "mono", title: `A rerun of ${job.rerun_of}` })],
  ["By", (job) => job.submitted_by],
  ["Submitted", (job) => time(job.submitted)],
  ["Started", (job) => time(job.started)],
  ["Ended", (job) => time(job.ended)],
  ["Runner", (job) => job.node_uuid],
  ["Container", (job) => job.container_id && make("span", job.container_id.slice(0, 12), { class: "mono", title: job.container_id })],
  ["Exit code", (job) => (over(job) && job.container_id ? String(job.return_code) : "")],
  ["Reason", (job) => job.reason],
  ["Output", (job) => (over(job) ? bytes(job.output_bytes) : "")],
];

/** The list of facts, without those that are not known. */
export function facts(list, job) {
  const found = [];
  for (const [name, value] of FACTS) {
    const given = value(job);
    if (!given) continue;
    const data = make("dd");
    put(data, given);
    found.push(make("dt", name), data);
  }
  put(list, ...found);
}

function time(value) {
  const ms = at(value);
  return ms && make("time", clock(ms), { datetime: value, title: whole(ms) });
}

const by = (fact) => fact.by || "somebody who is not known";

const STORY = {
  submitted: (fact) => `Submitted by ${by(fact)}`,
  started: (fact) => `Claimed by ${fact.runner}`,
  launched: (fact) => `Container ${fact.container_id.slice(0, 12)} exists`,
  held: () => "Held: its runner is silent, and the queue waits",
  released: (fact) => `Released by ${by(fact)}`,
  kill_requested: (fact) => `Kill requested by ${by(fact)}`,
  rejected: () => "Rejected: the submission is malformed",
  deleted: (fact) => `Deleted by ${by(fact)}`,
  ended: (fact) => `Ended: ${word(fact.status).toLowerCase()}${fact.reason === "exit_code" ? `, exit code ${fact.return_code}` : ""}`,
};

/** One fact of the history, as it was stored. */
export function story(fact) {
  const item = make("li"), ms = at(fact.at);
  item.append(make("time", clock(ms, true), { datetime: fact.at, title: whole(ms) }));
  item.append(make("span", STORY[fact.kind]?.(fact) ?? fact.kind, fact.kind === "held" ? { class: "gap" } : {}));
  return item;
}

/** The phases as a bar: how long it waited, was prepared, ran, and since when it is held. */
export function phases(list, facts, job, now) {
  const when = (kind) => at(facts.get(kind)?.at);
  const ended = when("ended") || when("rejected") || when("deleted");
  const steps = [["Queued", when("submitted"), "wait"], ["Prepared", when("started"), "done"], [over(job) ? "Ran" : "Running", when("launched"), "done"]];
  if (kind(job) === "held") steps.push(["Held", when("held"), "held"]);
  const known = steps.filter(([, start]) => start);
  while (list.children.length > known.length) list.lastElementChild.remove();
  known.forEach(([name, start, how], i) => {
    const end = known[i + 1]?.[1] || ended || now;
    phase(list, i, name, how + last(i === known.length - 1, job, ended), end - start);
  });
}

function last(is, job, ended) {
  if (!is) return "";
  if (!ended) return kind(job) === "held" ? " g4" : " g4 now";
  return job.status === "success" ? " g4" : " g4 bad";
}

function phase(list, i, name, how, ms) {
  const item = list.children[i] ?? list.appendChild(make("li"));
  if (!item.children.length) item.append(make("b"), make("span"));
  item.className = how;
  text(item.firstElementChild, name);
  text(item.lastElementChild, duration(ms));
  item.style.setProperty("--g", Math.max(1, Math.log2(2 + ms / 100)).toFixed(1));
}

function ending(job, killedBy) {
  if (job.reason === "exit_code") return `The command ended with exit code ${job.return_code}.`;
  if (job.reason === "killed") return killedBy ? `${killedBy} killed it.` : "It was killed.";
  return job.error || `${sentence(job)}.`;
}

/** For an end that is no success: the sentence, and the last line on stderr with its link. */
export function verdict(job, line, killedBy) {
  const parts = [make("strong", ending(job, killedBy))];
  if (line) parts.push(" The last line on stderr: ", make("code", line));
  return parts;
}
