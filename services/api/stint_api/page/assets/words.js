// What is known, in words. Pure: times come in as milliseconds since 1970.

export const NEVER = "0001-01-01T00:00:00Z";

/** Milliseconds of a time of the API, 0 for one that has not come. */
export const at = (time) => (!time || time === NEVER ? 0 : Date.parse(time));

/** The last eight digits of an id: its first ones are a time, which neighbours share. */
export const short = (id) => id.slice(-8);

export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Ranges of characters that turn text around, or cannot be seen: one name could look like another. Joiners and variation selectors, which some scripts and emoji need, are not among them. */
export const DECEIVING = "\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e007f}";
const TO_NAME = new RegExp(`[${DECEIVING}]`, "gu");

/** A text with their names in the places of such characters. */
export const named = (text) => text.replace(TO_NAME, (char) => `[U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);

/** A length of time: "0.4 s", "9 s", "2 min 19 s", "3 h 5 min", "4 d". */
export function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return `${s.toFixed(1).replace(".0", "")} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return rest(min, "min", Math.floor(s % 60), "s");
  const h = Math.floor(min / 60);
  return h < 48 ? rest(h, "h", min % 60, "min") : `${Math.floor(h / 24)} d`;
}

const rest = (a, unit, b, part) => (b ? `${a} ${unit} ${b} ${part}` : `${a} ${unit}`);

/** How long ago, roughly: "just now", "9 s ago", "5 min ago". */
export function ago(ms) {
  const s = Math.round(ms / 1000);
  if (s < 2) return "just now";
  if (s < 60) return `${s} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} d ago`;
}

/** "0 bytes", "812 bytes", "6.1 KB", "64 MB". */
export function bytes(n) {
  if (n < 1000) return count(n, "byte");
  const units = ["KB", "MB", "GB"];
  let size = n / 1000, unit = 0;
  while (size >= 999.5 && unit < units.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${size < 9.95 ? size.toFixed(1).replace(".0", "") : Math.round(size)} ${units[unit]}`;
}

const pad = (n, width = 2) => String(n).padStart(width, "0");

/** The time of day on this machine: "14:04:02", with milliseconds if asked for. */
export function clock(ms, exact = false) {
  const d = new Date(ms);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}${exact ? `.${pad(d.getMilliseconds(), 3)}` : ""}`;
}

/** The whole time, for a title. */
export const whole = (ms) => new Date(ms).toISOString().replace("T", " ").replace("Z", " UTC");

const WORDS = {
  queued: "Queued", running: "Running", stopping: "Stopping", success: "Success", failed: "Failed",
  notauthorised: "Not authorised", unknown: "Unknown", held: "Held", paused: "Paused", active: "Active", idle: "Idle",
  norunner: "No runner", alive: "Alive", draining: "Draining", lost: "Not heard",
};

/** How a status is drawn: the word, and the name of colour and shape. A job is "held" until its runner is seen to be back. */
export const kind = (job) => (job.held && !job.back_since && !over(job) ? "held" : job.status);
export const word = (name) => WORDS[name] ?? name;
export const over = (job) => ["success", "failed", "notauthorised", "unknown", "deleted"].includes(job.status);

const REASONS = {
  exit_code: (job) => `Exit code ${job.return_code}`,
  killed: () => "Killed",
  timeout: () => "Timed out",
  oom: () => "Out of memory",
  lost: (job) => `${job.node_uuid || "Its runner"} was lost; nobody can say how it ended`,
};
const WAITS = {
  held: "; its queue is held", paused: "; its queue is paused", unserved: "; no runner serves this queue", capacity: "; all runners are full",
};
const PHASES = {
  opening: "Opening the job", pulling: "Pulling the image", creating: "Creating the container",
};

const ordinal = (n) => `${n}${["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th"}`;

/** One sentence about a job, of what is known and no more. */
export function sentence(job, now) {
  if (job.status === "queued") return job.position ? `${ordinal(job.position)} in line${WAITS[job.waits_for] ?? ""}` : "Waits for its turn";
  if (kind(job) === "held") return `${job.node_uuid} was lost; the queue waits until it is back or the job is released`;
  if (job.status === "stopping") return stopping(job, now);
  if (job.status === "running") return running(job);
  if (job.status === "success") return wrote(job);
  return REASONS[job.reason]?.(job) ?? (job.error || "It ended, and nobody recorded why");
}

/** How long its runner waits before it stops it by force, as far as that is known. */
function stopping(job, now) {
  const left = at(job.kill_requested_at) + 1000 * job.kill_grace - now;
  if (!now || !job.kill_grace || !at(job.kill_requested_at)) return "A kill was requested; it has not ended yet";
  return left > 0 ? `A kill was requested; SIGKILL in ${duration(1000 * Math.ceil(left / 1000))}` : "SIGKILL was due; it has not ended yet";
}

function running(job) {
  const phase = PHASES[job.phase];
  if (!phase) return job.container_id ? "Its command runs" : "It is being prepared";
  return job.progress ? `${phase}, ${Math.floor(100 * job.progress)} %` : phase;
}

function wrote(job) {
  const parts = [job.output_bytes ? `Wrote ${bytes(job.output_bytes)}` : "Wrote nothing"];
  if (job.output_truncated) parts.push("the rest was dropped");
  if (!job.output_complete) parts.push("not all of it is there");
  if (job.output_masked) parts.push(`${count(job.output_masked, "secret")} masked`);
  return parts.join("; ");
}
