// One job: what is known of it, and its output as it comes.
import { call, newest, serverTime } from "./api.js";
import { buttons } from "./actions.js";
import { exchange, framed, make, one, put, text } from "./dom.js";
import { facts, phases, story, title, verdict } from "./facts.js";
import { bind } from "./keys.js";
import { plain } from "./ansi.js";
import { Output } from "./output.js";
import { printing } from "./printing.js";
import { part } from "./queue-name.js";
import { begin, connected, connection, copy, everySecond, failed, now, notice, say, withdraw } from "./shell.js";
import { follow } from "./stream.js";
import * as turns from "./turns.js";
import { at, clock, kind, over, short, word } from "./words.js";

const BUDGET = 8; // ms of a frame for what has come
const id = one("main").dataset.job;
const path = `/v1/api/job/${encodeURIComponent(id)}`;
const known = new Map();
const waiting = [];
const latest = newest();
let job = null, output = null, lost = 0, shownStatus = "";

begin();
output = new Output(one("[data-log]"), path);
printing(output.log);
one("[data-copy-id]").onclick = (event) => copy(id, event.currentTarget);
bind("c", "Copy the job's id", () => one("[data-copy-id]")?.click());
everySecond(() => { if (job) look(); clocks(); });
const { fields } = one("main").dataset;
if (fields) { job = JSON.parse(fields); render(); listen(); } else load().then(listen, gone);

async function load() {
  const found = await latest(call(`${path}?output=false`));
  if (output.ended || !found) return;
  job = found;
  render();
}

function listen() {
  output.open(job);
  follow(`${path}/events${output.query}`, {
    event: (name, data) => { waiting.push([name, data]); pump(); },
    live: (inTurns) => { connection.live(inTurns); reconnected(); },
    lost: (since) => { lost ||= since; connection.lost(since); },
    slow: connection.slow,
    ended: (refused) => gone(refused),
  }, { over: (name) => name === "end", turns });
  setInterval(() => { if (job?.status === "queued" && connected() && !document.hidden) refresh(); }, 5000);
}

/** Take what has come, a part in each frame. */
const pump = framed(() => {
  const until = performance.now() + BUDGET;
  let n = 0;
  while (n < waiting.length && performance.now() < until) take(...waiting[n++]);
  waiting.splice(0, n);
  if (waiting.length) pump();
  else output.live = Boolean(job) && !over(job);
});

function take(name, data) {
  if (name === "output") output.add(data);
  else if (name === "fact") fact(data);
  else if (name === "end") end(data);
}

function fact(data) {
  if (known.has(data.kind)) return;
  if (!known.size) one("[data-history]").replaceChildren();
  known.set(data.kind, data);
  one("[data-history]").append(story(data));
  if (data.kind === "launched") output.origin(at(data.at));
  if (data.sequence > (job.sequence ?? 0) && data.kind !== "ended") refresh();
}

let asked = 0;
function refresh() {
  clearTimeout(asked);
  asked = setTimeout(() => { if (!output.ended) load().catch(() => {}); }, 100);
}

function end(data) {
  clearTimeout(asked);
  if (data.status === "deleted") {
    job = null;
    output.ended = true;
    document.title = "No such job · Stint";
    return gone({ status: 404 });
  }
  job = data;
  connection.ended();
  output.note(`${word(kind(job))}${job.reason === "exit_code" ? `, exit code ${job.return_code}` : ""}, at ${clock(at(job.ended))}.`, kind(job));
  output.finish(job);
  render();
}

/** Nothing was lost: the stream continues behind the last event that came, and the API leaves nothing out. */
function reconnected() {
  if (!lost) return;
  if (Date.now() - lost > 2000) output.note(`Not connected ${clock(serverTime(lost))} to ${clock(now())}. No output was lost.`, "stopping");
  lost = 0;
  refresh();
}

/** Nothing says that the runner of a held job came back. Its output is a sign of it, and the API then says since when. */
function look() {
  if (kind(job) === "held" && output.lastAt > at(job.held_since)) refresh();
}

function render() {
  facts(one("[data-facts]"), job);
  const link = one("[data-queue-link]");
  text(link, job.qname || "(no name)");
  link.href = `/queues/${part(job.qname)}`;
  const tail = one("[data-id]");
  put(tail, make("span", job._id.slice(0, -8), { class: "dim" }), short(job._id));
  one("[data-download]").download = `${job.qname.replace(/[^\w.-]+/g, "-") || "job"}-${short(job._id)}.log`;
  acts();
  told();
  output.foot(job);
  clocks();
}

/** A button for what can still be done stays the same one: it may have the focus, or be what a dialog goes back to. */
function acts() {
  const place = one("[data-acts]"), there = new Map([...place.children].map((button) => [button.textContent, button]));
  exchange(place, buttons(() => job, kept(), done).map((button) => there.get(button.textContent) ?? button));
}

/** Whether its payload is still there: it was kept, for so many seconds from the submission. */
function kept() {
  const submitted = known.get("submitted");
  return Boolean(submitted?.payload_kept) && now() - at(submitted.at) < 1000 * Number(one("main").dataset.keep);
}

function done(label, made) {
  withdraw("failure");
  if (label === "Delete…") location.assign("/jobs");
  else if (label === "Run again…") location.assign(`/jobs/${made}`);
  else load().catch(failed);
}

/** What stands above the phases, if a person should know it first. */
function told() {
  const name = kind(job);
  if (shownStatus && shownStatus !== name) say(`Job ${short(job._id)}: ${word(name)}.`);
  shownStatus = name;
  if (name === "held") {
    notice("verdict", "held", `${job.node_uuid} was lost while it ran this job. Whether its container lives is not known. The queue waits until the runner is back or somebody releases the job.`);
  } else if (job.back_since && !over(job)) {
    notice("verdict", "running", `This job was held at ${clock(at(job.held_since))}, when ${job.node_uuid} was lost. The runner was back at ${clock(at(job.back_since))} and continued the job. The queue waits until the job ends.`);
  } else if (over(job) && job.status !== "success") ended();
  else withdraw("verdict");
}

function ended() {
  const line = output.lines.list.findLast((one) => one.stream === "stderr" && one.text.trim());
  const told = verdict(job, line && plain(line.text).slice(0, 300), known.get("kill_requested")?.by);
  notice("verdict", job.status, told, line ? [make("a", `Line ${line.n.toLocaleString("en")}`, { class: "btn small", href: `#L${line.n}` })] : []);
}

function clocks() {
  if (!job) return;
  title(job, output, now());
  if (known.size) phases(one("[data-phases]"), known, job, now());
}

function gone(refused) {
  if (job) return connection.refused(refused);
  if (refused.status === 401) return;
  const absent = refused.status === 404 || refused.status === 400; // 400: it cannot be an id
  const why = "There is no job with this id. It may have been deleted, or was kept for as long as ended jobs are.";
  const parts = [make("h1", absent ? "No such job" : "This job cannot be shown"), make("p", absent ? why : refused.message)];
  one("main").replaceChildren(...parts);
  connection.stopped();
}
