// Requests to the API. The session's cookie goes along by itself; changes also carry the proof that this page has.

export const meta = (name) => document.querySelector(`meta[name="stint-${name}"]`)?.content ?? "";

let skew = 0;

/** The server's time: this machine's clock may be wrong. */
export const serverTime = (local = Date.now()) => local + skew;

/**
 * The server's clock told `told` at a moment between `asked` and `answered` of this machine's. What can be less than two
 * seconds off is taken to be right.
 */
function compare(told, asked, answered) {
  const off = told - (asked + answered) / 2, doubt = 2000 + (answered - asked) / 2;
  if (Number.isNaN(told) || Math.abs(off - skew) < doubt) return;
  skew = Math.abs(off) < doubt ? 0 : off;
  document.dispatchEvent(new CustomEvent("clock-off"));
}

const [page] = performance.getEntriesByType("navigation"), opened = Date.now() - performance.now();
compare(Date.parse(meta("now")), opened + (page?.requestStart ?? 0), opened + (page?.responseStart ?? 0));

/** A part of the page that is loaded only now: after an update of Stint the address that this page knows is gone. */
export const late = (part) => part.catch(() => { throw new Refused(0, "A part of this page could not be loaded. Reload the page."); });

/** An answer that is no success. `status` is 0 if there was no answer at all. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

/** The JSON that a path answers with. Rejects with `Refused`. */
export async function call(path, { body, ...rest } = {}) {
  const asked = Date.now(), answer = await send(path, { ...rest, body: body && JSON.stringify(body) });
  const found = await answer.json().catch(() => { throw foreign(); });
  compare(Date.parse(found?.now), asked, Date.now()); // by the clock of the times that it tells, as the header `Date` need not be
  return found;
}

/** Lets through no answer to a question that was asked before one whose answer came through: they overtake each other. */
export function newest() {
  let asks = 0, shown = 0;
  return async (asked) => {
    const mine = ++asks, answer = await asked;
    if (mine < shown) return null;
    shown = mine;
    return answer;
  };
}

/** A successful answer, whatever it contains. Rejects with `Refused`. */
export async function send(path, { method = "GET", ...rest } = {}) {
  const headers = { ...rest.headers, ...(method === "GET" ? {} : { "X-Stint-Csrf": meta("csrf") }) };
  let answer;
  try {
    answer = await fetch(path, { ...rest, method, headers, cache: "no-store" });
  } catch (error) {
    if (rest.signal?.aborted) throw error;
    throw new Refused(0, "The API cannot be reached.");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

async function refusal(answer) {
  const { error } = await answer.json().catch(() => ({}));
  const sentence = error || (answer.status === 413 ? "A proxy before the API takes no request of this size." : `The API answered ${answer.status}.`);
  if (answer.status === 401) announce(sentence);
  return explained(answer.status, sentence);
}

/** For a success that is none of the API's: a proxy's page, say. It is no connection to the API. */
export const foreign = () => new Refused(502, "What answered is not Stint's API: a proxy, perhaps.");

/** What a refusal means: where it says that the session or its token has ended, that is said in its own words. */
export async function explained(status, sentence) {
  return LOST.test(sentence) ? ended() : new Refused(status, sentence);
}

/** What the API says where there is no session any more, and what Vault says of a token that it does not know. */
const LOST = /^Missing X-Auth-Token|\n/;

async function ended() {
  const answer = await fetch("/session", { cache: "no-store" });
  const { error } = await answer.json();
  if (answer.status !== 401) return new Refused(403, error ?? "Vault refused the request.");
  announce(error);
  return new Refused(401, error);
}

function announce(sentence) {
  document.dispatchEvent(new CustomEvent("signed-out", { detail: sentence }));
}
