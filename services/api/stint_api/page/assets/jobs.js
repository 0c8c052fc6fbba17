// The list of jobs: a page of it, kept up to date by the stream of changes. No row moves by itself.
import { call, meta, send } from "./api.js";
import { changes } from "./changes.js";
import { all, make, one, status, text } from "./dom.js";
import { NAMES, PAGE, address, asked, belongs, cursorIn, filters, parts } from "./jobs-query.js";
import { bind } from "./keys.js";
import { clocks, fill, row } from "./row-of-job.js";
import { attend, begin, connection, everySecond, fail, notice, now, say, withdraw } from "./shell.js";
import { count, duration } from "./words.js";

const KINDS = ["queued", "running", "held", "stopping", "failed", "notauthorised", "unknown", "success"];
const here = new URLSearchParams(location.search);
const given = filters(location.search), cursor = here.get("after") ?? "";
const rows = new Map(), fresh = new Map();
const body = one("[data-rows]");
let total = 0, counting = 0;

if (/^[0-9a-f]{24}$/i.test(given.q)) location.replace(`/jobs/${given.q.toLowerCase()}`);
begin();
attend();
fields();
keys();
selection();
everySecond(() => { for (const element of rows.values()) clocks(element, now()); });
load().then(listen, (refused) => refused.status !== 401 && fail(refused.message));

async function load() {
  const waiting = setTimeout(() => (one("[data-wait]").hidden = false), 200);
  try {
    const query = asked(given, now(), cursor);
    if (given.status !== "held") query.set("counts", 1);
    const answer = await send(`/v1/api/job?${query}`), page = await answer.json();
    total = page.total;
    show(page.data, cursorIn(answer.headers.get("link")));
    stale(page);
    tally(page.counts);
    withdraw("failure");
  } finally {
    clearTimeout(waiting);
    one("[data-wait]").hidden = true;
  }
}

function show(jobs, next) {
  fresh.clear();
  tellFresh();
  const known = new Map(rows);
  rows.clear();
  for (const job of jobs) {
    const element = known.get(job._id) ?? row(job);
    element.classList.remove("gone");
    fill(element, job);
    clocks(element, now());
    rows.set(job._id, element);
  }
  body.replaceChildren(...rows.values());
  foot(next);
  empty();
}

function foot(next) {
  const skipped = Number(here.get("at") ?? 0), shown = rows.size;
  const range = shown ? `${(skipped + 1).toLocaleString("en")} to ${(skipped + shown).toLocaleString("en")} of ${total.toLocaleString("en")}. ` : "";
  text(one("[data-range]"), `${range}Ended jobs stay for ${duration(1000 * Number(one("[data-retention]")?.dataset.retention ?? 21600))}.`);
  const older = one("[data-older]"), newest = one("[data-newest]");
  older.hidden = !next;
  older.href = address(given, { after: next, at: String(skipped + PAGE) });
  newest.hidden = !cursor;
  newest.href = address(given);
}

function empty() {
  const place = one("[data-empty]"), filtered = NAMES.some((name) => given[name]);
  place.hidden = rows.size > 0;
  if (rows.size) return;
  if (filtered) place.replaceChildren(make("h2", "No job matches"), make("p", "There may be others without these filters."), make("a", "Clear the filters", { class: "btn", href: "/jobs" }));
  else place.replaceChildren(make("h2", "No jobs yet"), make("p", "This starts one:"), make("code", "stint run --queue demo --image busybox -- echo hello"));
}

/** How old the list is, if that is more than a moment. */
function stale({ as_of: asOf, now: apiNow }) {
  withdraw("stale");
  const age = asOf && apiNow ? Date.parse(apiNow) - Date.parse(asOf) : 0;
  if (age > 10_000) notice("stale", "stopping", `This list is ${duration(age)} old. A single job is always up to date.`);
}

function kinds(counts) {
  const sum = KINDS.filter((name) => name !== "held").reduce((n, name) => n + (counts[name] ?? 0), 0);
  const link = (name, label, n) => {
    const element = make("a", "", { href: address(given, { status: name }), class: name });
    if (name) element.append(one("svg", status(name)));
    element.append(label, make("b", n.toLocaleString("en")));
    if (given.status === name) element.setAttribute("aria-current", "true");
    return element;
  };
  const shown = KINDS.filter((name) => counts[name] || given.status === name);
  one("[data-kinds]").replaceChildren(link("", "All", sum), ...shown.map((name) => link(name, status(name).textContent, counts[name] ?? 0)));
}

// --- changes ---

function listen() {
  changes({
    event: (name, data) => (name === "hello" ? hello(data) : changed(data, name === "gone")),
    live: connection.live,
    lost: connection.lost,
    slow: connection.slow,
    ended: (refused) => { if (refused.status !== 401) notice("refused", "notauthorised", refused.message); connection.stopped(); },
  });
}

/** After a gap that nobody can tell of, the page is read again. */
function hello(data) {
  if (data.gap) again();
  if (data.release !== meta("release")) updated();
}

function updated() {
  const reload = make("button", "Reload", { type: "button", class: "btn small" });
  reload.onclick = () => location.reload();
  notice("release", "active", "Stint was updated. What you see is from before.", [reload]);
}

function changed(job, gone) {
  const element = rows.get(job._id);
  if (given.queue && job.qname !== given.queue.toLowerCase()) return;
  recount();
  if (element) return update(element, job, gone);
  if (gone) fresh.delete(job._id);
  else if (!cursor && belongs(job, given)) fresh.set(job._id, job);
  tellFresh();
}

function update(element, job, gone) {
  const before = element.job.status;
  if (!gone) fill(element, job);
  element.classList.toggle("gone", gone || !belongs(job, { ...given, q: "" }));
  clocks(element, now());
  if (!gone && before !== job.status) say(`Job ${element.job._id.slice(-8)}: ${one(".st", element).textContent}.`);
}

function tellFresh() {
  const button = one("[data-new]");
  button.hidden = !fresh.size;
  if (!fresh.size) return;
  text(button, count(fresh.size, "new job"));
  say(count(fresh.size, "new job"));
}

function again() {
  load().catch((refused) => refused.status !== 401 && fail(refused.message));
}

/** The counts, not more often than every two seconds. */
function recount() {
  counting ||= setTimeout(() => { counting = 0; tally(); }, 2000);
}

/** How many jobs there are of each kind; `counts` are those that came with the list. */
async function tally(counts) {
  const query = new URLSearchParams({ ...parts(given, now()), limit: 1 });
  const ask = (more) => call(`/v1/api/job?${query}&${more}`);
  const [page, held] = await Promise.all([counts ? { counts } : ask("counts=1"), ask("held=true")]).catch(() => []);
  if (page) kinds({ ...page.counts, held: held.total });
}

// --- filters, selection, keys ---

function fields() {
  const form = one("[data-filters]");
  for (const name of NAMES) if (form.elements[name]) form.elements[name].value = given[name];
  one("[data-find]").value = given.q;
  if (given.q) form.append(make("input", "", { type: "hidden", name: "q", value: given.q }));
  one("[data-clear-filters]").hidden = !NAMES.some((name) => given[name]);
  form.onchange = () => location.assign(address(Object.fromEntries(new FormData(form))));
  form.onsubmit = (event) => { event.preventDefault(); form.onchange(); };
  one("[data-new]").onclick = again;
}

function selection() {
  const chosen = () => all(".check:checked", body).map((box) => box.closest("tr").job);
  const tell = () => {
    const n = chosen().length;
    one("[data-bulk]").hidden = !n;
    text(one("[data-count]"), String(n));
    one("[data-select-all]").checked = n > 0 && n === rows.size;
  };
  const set = (on) => { for (const box of all(".check", body)) box.checked = on; tell(); };
  body.addEventListener("change", tell);
  one("[data-select-all]").onchange = (event) => set(event.target.checked);
  one("[data-clear]").onclick = () => set(false);
  for (const what of ["kill", "delete"]) one(`[data-${what}]`).onclick = async () => {
    const { several } = await import("./actions.js"); // most who look at the list change nothing
    if (await several(chosen(), what, told)) set(false);
  };
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
