// The list of jobs: a page of it, kept up to date by the stream of changes. No row moves by itself.
import { call, late, meta, newest } from "./api.js";
import { changes } from "./changes.js";
import { all, button, one, text } from "./dom.js";
import { bind } from "./keys.js";
import { adopt, clocks, fill } from "./row-of-job.js";
import { asked, begin, connection, everySecond, fail, failed, filters, notice, now, say, withdraw } from "./shell.js";
import { at, count } from "./words.js";

const here = new URLSearchParams(location.search);
const given = (name) => here.get(name)?.trim() ?? "";
const rows = new Map(), fresh = new Set(), loading = new Set();
const body = one("[data-rows]");
const latest = newest();
let counting = 0;

for (const element of all("tr", body)) rows.set(element.dataset.id, adopt(element));
begin();
filters();
keys();
selection();
one("[data-find]").value = given("q");
one("[data-new]").onclick = again;
everySecond(() => { for (const element of rows.values()) clocks(element, now()); });
if (body.dataset.mark) listen();
else load().catch(failed).then(listen);

/** Changes that come meanwhile may be newer than the answer: they are applied to it. */
async function load() {
  const { draw, list } = await late(import("./jobs-again.js")); // the first page is drawn by the server
  const meanwhile = [];
  loading.add(meanwhile);
  const found = await latest(list(asked())).finally(() => loading.delete(meanwhile));
  if (!found) return;
  draw(body, rows, found);
  withdraw("failure");
  fresh.clear();
  for (const change of meanwhile) apply(...change);
  tellFresh();
  body.dispatchEvent(new Event("change")); // there may be fewer that are selected
  tally(found.counts);
}

function kinds(counts) {
  const sum = Object.entries(counts).reduce((n, [name, of]) => (name === "held" ? n : n + of), 0);
  for (const link of all("[data-kinds] a")) {
    const name = link.className, n = name ? counts[name] ?? 0 : sum;
    text(one("b", link), n.toLocaleString("en"));
    link.hidden = name && !n && name !== given("status");
  }
}

// --- changes ---

function listen() {
  const event = (name, data) => (name === "hello" ? hello(data) : changed(data, name === "gone"));
  changes({ ...connection, event, ended: connection.refused }, body.dataset.mark);
}

/** After a gap that nobody can tell of, the page is read again. */
function hello(data) {
  if (data.gap) again();
  if (data.release === meta("release")) return;
  notice("release", "active", "Stint was updated. What you see is from before.", [button("Reload", () => location.reload())]);
}

function changed(job, gone) {
  if (given("queue") && job.qname !== given("queue").toLowerCase()) return;
  for (const meanwhile of loading) meanwhile.push([job, gone]);
  recount();
  apply(job, gone);
  tellFresh();
}

function apply(job, gone) {
  const element = rows.get(job._id);
  if (element) update(element, job, gone);
  else if (gone || !belongs(job)) fresh.delete(job._id);
  else if (!here.has("after") && !given("q") && !behind(job)) fresh.add(job._id);
}

/** Whether its place is on a later page. */
const behind = (job) => !one("[data-older]").hidden && at(job.submitted) < at([...rows.values()].at(-1)?.job.submitted);

/** Whether a job of the stream belongs to the list, as far as the page can tell without a search. */
function belongs(job) {
  const [status, queue, image, by] = ["status", "queue", "image", "by"].map(given);
  if (status === "held" ? !job.held : status && job.status !== status) return false;
  return (!queue || job.qname === queue.toLowerCase()) && job.container_image.includes(image) && (!by || job.submitted_by === by);
}

function update(element, job, gone) {
  const before = element.job.status;
  if (!gone) fill(element, job);
  element.classList.toggle("gone", gone || !belongs(job));
  clocks(element, now());
  if (!gone && before !== job.status) say(`Job ${element.job._id.slice(-8)}: ${one(".st", element).textContent}.`);
}

function tellFresh() {
  const button = one("[data-new]"), told = fresh.size ? count(fresh.size, "new job") : "";
  if (!told && document.activeElement === button) one("a.id", body)?.focus();
  button.hidden = !told;
  if (told && told !== button.textContent) say(told);
  text(button, told);
}

function again() {
  load().catch(failed);
}

/** The counts, not more often than every two seconds. */
function recount() {
  counting ||= setTimeout(() => { counting = 0; tally(); }, 2000);
}

/** How many jobs there are of each kind; `counts` are those that came with the list. */
async function tally(counts) {
  const ask = (name, value) => {
    const query = asked();
    for (const other of ["status", "held", "cursor", "counts"]) query.delete(other);
    query.set("limit", 1);
    query.set(name, value);
    return call(`/v1/api/job?${query}`);
  };
  const [page, held] = await Promise.all([counts ? { counts } : ask("counts", 1), ask("held", true)]).catch(() => []);
  if (page) kinds({ ...page.counts, held: held.total });
}

// --- selection, keys ---

function selection() {
  const chosen = () => all(".check:checked", body).map((box) => box.closest("tr").job), bar = one("[data-bulk]");
  const tell = () => {
    const n = chosen().length;
    if (!n && bar.contains(document.activeElement)) one("[data-select-all]").focus();
    bar.hidden = !n;
    text(one("[data-count]"), String(n));
    one("[data-select-all]").checked = n > 0 && n === rows.size;
  };
  const set = (on) => { for (const box of all(".check", body)) box.checked = on; tell(); };
  body.addEventListener("change", tell);
  one("[data-select-all]").onchange = (event) => set(event.target.checked);
  one("[data-clear]").onclick = () => set(false);
  const change = async (what) => {
    const { several } = await late(import("./actions.js")); // most who look at the list change nothing
    if (await several(chosen(), what, told)) set(false);
  };
  for (const what of ["kill", "delete"]) one(`[data-${what}]`).onclick = () => change(what).catch(failed);
}

function told(failures, n) {
  if (failures.length) fail(`${failures.length} of ${n} were refused. ${failures.join(" ")}`);
  else say(`Done for ${count(n, "job")}.`);
}

function keys() {
  const at = () => [...rows.values()].findIndex((element) => element.contains(document.activeElement) || element.classList.contains("at"));
  const move = (step) => {
    const list = [...rows.values()], i = Math.max(0, Math.min(list.length - 1, at() + step));
    for (const element of list) element.classList.remove("at");
    list[i]?.classList.add("at");
    one("a.id", list[i] ?? body)?.focus();
    list[i]?.scrollIntoView({ block: "nearest" });
  };
  const current = () => [...rows.values()][at()];
  bind("j", "Next job", () => move(1));
  bind("k", "Job before", () => move(-1));
  bind("o", "Open the job", () => current() && one("a.id", current()).click());
  bind("x", "Select the job", () => current() && one(".check", current()).click());
  bind("n", "Show new jobs", () => one("[data-new]").hidden || again());
  bind("]", "Older jobs", () => one("[data-older]").hidden || one("[data-older]").click());
  bind("[", "Newest jobs", () => one("[data-newest]").hidden || one("[data-newest]").click());
}
