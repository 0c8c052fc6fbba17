// What every view has: connection, notices, questions, keys, the account.
import { all, button, clone, draw, make, one, put, text } from "./dom.js";
import { call, late, serverTime } from "./api.js";
import { at, clock, count, duration, named } from "./words.js";
import { switchTheme } from "./theme.js";
import { bind } from "./keys.js";

let lostAt = 0;
const ticking = new Set();

/** Call this every second while the page can be seen. With `lost` times stop where they were true. */
export const everySecond = (work) => ticking.add(work);

/** The time by which clocks run: it stands still while there is no connection. */
export const now = () => serverTime(lostAt || Date.now());
export const connected = () => !lostAt;

/** How a stream tells the bar of its connection. */
export const connection = {
  live(inTurns = false) {
    const back = lostAt;
    lostAt = 0;
    word(inTurns ? "Live, in turns" : "Live");
    if (back) say("Connected again.");
    changeable(true);
  },
  lost(since) {
    lostAt = since;
    setTimeout(() => { if (lostAt === since) { tick(); say("Not connected."); changeable(false); } }, 2000);
  },
  slow() {
    if (!lostAt) word("No answer: too many open Stint windows?", "lost");
  },
  ended() {
    lostAt = 0;
    word("Live");
  },
  stopped() {
    lostAt = Date.now();
    word("Stopped", "lost");
    changeable(false);
  },
  /** There will be no more of the stream. That the session has ended is told by itself. */
  refused({ status, message }) {
    if (status !== 401) notice("refused", "notauthorised", message);
    connection.stopped();
  },
};

function word(value, how = "") {
  const element = one("[data-connection]");
  element.className = `conn ${how}`;
  text(element, value);
}

function changeable(can) {
  for (const button of all("[data-changes]")) {
    button.disabled = !can;
    button.title = can ? "" : "Not connected";
  }
}

function tick() {
  if (document.hidden) return;
  if (lostAt && one("[data-connection]").textContent !== "Stopped" && Date.now() - lostAt > 1900)
    word(`Not connected for ${duration(1000 * Math.round((Date.now() - lostAt) / 1000))}`, "lost");
  for (const work of ticking) work();
}

let lastSaid = 0, pending = 0;

/** Tell those who cannot see it, at most every 3 s; the newest wins. */
export function say(sentence) {
  clearTimeout(pending);
  const wait = Math.max(0, lastSaid + 3000 - Date.now());
  pending = setTimeout(() => { lastSaid = Date.now(); one("[data-say]").textContent = named(sentence); }, wait);
}

/**
 * One notice for one cause, above the view: `parts` are text and elements, `actions` elements. It replaces another one
 * of the same cause, and one that says the same stays as it is. It comes before the others, or behind them by `append`.
 */
export function notice(cause, name, parts, actions = [], where = "prepend") {
  const element = clone("t-notice");
  element.dataset.cause = cause;
  element.classList.add(name);
  draw(one("use", element), `s-${name}`);
  put(one("p", element), ...[parts].flat());
  one(".acts", element).append(...actions);
  if (noticesOf(cause)[0]?.isEqualNode(element)) return;
  withdraw(cause);
  (one("[data-notices]") ?? one("main"))[where](element);
}

/** What is told for a cause, which may contain the name of a queue. */
export const noticesOf = (cause) => all(`[data-cause="${CSS.escape(cause)}"]`);

export const withdraw = (cause) => noticesOf(cause).forEach((element) => element.remove());

/** A failure of one's own action. It stays until the next one. */
export function fail(sentence) {
  notice("failure", "failed", sentence);
  one("[data-alert]").textContent = named(sentence);
}

/** The same for what the API refused, unless it is that the session has ended, which is told by itself. */
export const failed = ({ status, message }) => status === 401 || fail(message);

/** Put text into the clipboard, and say of the button that it is there, or that the browser refused it. */
export async function copy(value, button) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    return fail("The browser did not let the page copy this.");
  }
  const label = (button.dataset.title ??= button.title); // it may have been copied just now
  button.title = "Copied";
  say("Copied");
  setTimeout(() => (button.title = label), 2000);
}

function signedOut(sentence) {
  const again = make("a", "Sign in again", { class: "btn small", href: location.href });
  again.onclick = (event) => { event.preventDefault(); location.reload(); };
  notice("signed-out", "notauthorised", sentence, [again]);
  connection.stopped();
}

function clockOff() {
  const by = serverTime(0), part = Math.abs(by) < 60_000 ? 1000 : 60_000, off = part * Math.round(Math.abs(by) / part);
  withdraw("clock");
  if (by) notice("clock", "stopping", `This machine's clock is ${duration(off)} ${by < 0 ? "ahead of" : "behind"} the server's. The times here are the server's.`);
}

function watchEnd() {
  const until = at(one('meta[name="stint-until"]').content);
  const soon = until - now() - 600_000;
  if (soon > 2 ** 31 - 1) return;
  setTimeout(() => {
    const again = button("Sign in again", () => one(".menu form").requestSubmit());
    notice("ending", "stopping", `Your token ends at ${clock(until)}. What is open here stays readable.`, [again]);
  }, Math.max(0, soon));
}

const showKeys = () => late(import("./keys-table.js")).then((table) => table.showKeys(), failed);

/** The account's menu closes where one goes on elsewhere, and by Escape. */
function menu() {
  const element = one("[data-menu]"), elsewhere = ({ target }) => { if (!element.contains(target)) element.open = false; };
  for (const event of ["click", "focusin"]) document.addEventListener(event, elsewhere);
  element.onkeydown = ({ key }) => {
    if (key !== "Escape" || !element.open) return;
    element.open = false;
    one("summary", element).focus();
  };
}

/** Begin: to be called once by each view. With `attends` it asks from time to time what needs a person. */
export function begin({ attends = true } = {}) {
  switchTheme();
  setInterval(tick, 1000);
  document.addEventListener("signed-out", (event) => signedOut(event.detail));
  document.addEventListener("clock-off", clockOff);
  menu();
  for (const time of all("[data-clock]")) text(time, clock(at(time.dateTime)));
  one("[data-keys]").onclick = showKeys;
  bind("/", "Search", () => (one("[data-find-output]") ?? one("[data-find]")).focus());
  bind("?", "All keys", showKeys);
  for (const [key, path, name] of [["j", "/jobs", "Jobs"], ["q", "/queues", "Queues"], ["r", "/runners", "Runners"], ["s", "/submit", "Submit"], ["a", "/audit", "Audit"]])
    bind(`g ${key}`, `Go to ${name}`, () => location.assign(path));
  watchEnd();
  clockOff();
  if (attends) attend();
}

/** Filters apply as soon as they are chosen; empty ones are left out of the address. */
export function filters() {
  const form = one("[data-filters]");
  form.onchange = () => form.requestSubmit();
  form.onformdata = ({ formData }) => { for (const [name, value] of [...formData]) if (!value) formData.delete(name); };
}

/** What the API is asked for the list that these filters give: the server has written it into the table. */
export function asked() {
  const { query, since } = one("[data-rows]").dataset, found = new URLSearchParams(query);
  if (since) found.set("since", new Date(now() - 1000 * since).toISOString());
  return found;
}

/** What needs a person, on every view: the queues' badge, and a notice for the first held queue where it helps. */
function attend() {
  const look = async () => {
    if (document.hidden || lostAt) return;
    const { data } = await call("/v1/api/queue").catch(() => ({ data: null }));
    if (data) attention(data);
  };
  look();
  setInterval(look, 30_000);
}

/** Show which of the queues need a person. */
export function attention(queues) {
  const waiting = queues.filter((queue) => queue.held), badge = one("[data-badge]");
  badge.hidden = !waiting.length;
  put(badge, String(waiting.length), make("span", " need a person", { class: "sr" }));
  const list = one("#queues");
  if (list) put(list, ...queues.map((queue) => make("option", queue.qname, { value: queue.qname })));
  const [first] = waiting;
  if (!first || location.pathname.startsWith("/queues") || location.pathname.endsWith(`/${first.running}`)) return withdraw("held");
  const sentence = `${first.qname || "The unnamed queue"} is held: the runner of its job was lost. ${count(first.depth, "job waits", "jobs wait")}.`;
  notice("held", "held", sentence, [make("a", "Look", { class: "btn small", href: first.running ? `/jobs/${first.running}` : "/queues" })]);
}
