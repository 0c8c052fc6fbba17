// The filters of the list, as the address has them, and as the API takes them. Pure.

const HOURS = { "15m": 0.25, "1h": 1, "6h": 6, "24h": 24 };
const ID = /^[0-9a-f]{6,24}$/i;
export const PAGE = 50;
export const NAMES = ["status", "queue", "image", "by", "since", "q"];

/** The filters in an address. */
export const filters = (search) => Object.fromEntries(NAMES.map((name) => [name, new URLSearchParams(search).get(name) ?? ""]));

/** The API's query for a page of the list. `cursor` is from the page before. */
export function asked(given, now, cursor = "") {
  const query = new URLSearchParams({ limit: PAGE });
  if (given.status === "held") query.set("held", "true");
  else if (given.status) query.set("status", given.status);
  if (cursor) query.set("cursor", cursor);
  for (const [name, value] of Object.entries(parts(given, now))) query.set(name, value);
  return query;
}

/** All filters but the status, as the API takes them. */
export function parts(given, now) {
  const all = {
    qname: given.queue,
    image: given.image,
    who: given.by,
    since: HOURS[given.since] ? new Date(now - HOURS[given.since] * 3_600_000).toISOString() : "",
    [ID.test(given.q.trim()) ? "id" : "q"]: given.q.trim(),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value));
}

/** Whether a job of the stream belongs to the list, as far as the page can tell; the API decides on the next load. */
export function belongs(job, given) {
  if (given.status === "held" ? !job.held : given.status && job.status !== given.status) return false;
  if (given.queue && job.qname !== given.queue.toLowerCase()) return false;
  if (!job.container_image.includes(given.image) || (given.by && job.submitted_by !== given.by)) return false;
  return !given.q;
}

/** The address of the list with other filters. */
export function address(given, changed = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...given, ...changed })) if (value) query.set(name, value);
  return query.size ? `/jobs?${query}` : "/jobs";
}

/** The cursor in a `Link` header, "" without one. */
export const cursorIn = (link) => new URLSearchParams(/<\?([^>]*)>/.exec(link ?? "")?.[1]).get("cursor") ?? "";
