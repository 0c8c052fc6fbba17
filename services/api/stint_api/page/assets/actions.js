// What can be done with jobs, each with a question before it.
import { call } from "./api.js";
import { ask } from "./ask.js";
import { button, make } from "./dom.js";
import { nameOf as queue } from "./queue-name.js";
import { over, short } from "./words.js";

const JOB = "/v1/api/job";

export const kill = (job) => ask({
  title: `Kill ${short(job._id)}?`,
  sentence: job.status === "queued"
    ? `It has not started, and will not. The jobs behind it in ${queue(job)} move up.`
    : `It gets SIGTERM now, and SIGKILL if it has not ended after its grace. What it did stays done. Then the next job of ${queue(job)} starts.`,
  go: `Kill ${short(job._id)}`,
  work: () => call(`${JOB}/kill/${job._id}`, { method: "POST" }),
});

export const remove = (job) => ask({
  title: `Delete ${short(job._id)}?`,
  sentence: over(job) ? "Its output goes with it. Nobody can read either again." : "It has not started, and never will. Nobody can read it again.",
  go: `Delete ${short(job._id)}`,
  work: () => call(`${JOB}/${job._id}`, { method: "DELETE" }),
});

/** Where somebody looks whether the container of a lost runner is gone. */
export const check = (id) => `docker ps -a --filter label=stint.job=${id}`;

export function release(job) {
  const label = make("label"), box = make("input", "", { type: "checkbox" });
  label.append(box, make("span", "I have looked: the container is gone."));
  return ask({
    title: `Release ${short(job._id)}?`,
    sentence: `${job.node_uuid || "Its runner"} was lost. Nobody knows whether its container still runs. If it does and you release the job, two jobs of ${queue(job)} run at the same time. Look on that machine first:`,
    go: `Release ${short(job._id)}`,
    more: [make("pre", check(job._id), { class: "cli" }), label],
    ready: () => box.checked,
    work: () => call(`${JOB}/${job._id}/release`, { method: "POST" }),
  });
}

/** The same sealed job once more, as a new one. Resolves to the new job's id, "" if nobody wanted it after all. */
export async function rerun(job) {
  const headers = { "Idempotency-Key": crypto.randomUUID() };
  let secret = null, made = "";
  await ask({
    title: `Run ${short(job._id)} again?`,
    sentence: `The same sealed job goes to the end of ${queue(job)}, as a new one. It reads its secrets as they are then, with a new secret id that is made with your token. What the first one did stays done.`,
    go: "Run it again",
    danger: false,
    work: async () => {
      secret ??= await call("/session/secret-id", { method: "POST" });
      ({ _id: made } = await call(`${JOB}/${job._id}/rerun`, { method: "POST", body: secret, headers }));
    },
  });
  return made;
}

/** Kill or delete several, with one question. Each failure is told. */
export function several(jobs, what, tell) {
  const verb = what === "kill" ? "Kill" : "Delete";
  const queues = [...new Set(jobs.map(queue))];
  const named = queues.length > 5 ? `${queues.length} queues` : queues.join(", ");
  const failures = [];
  return ask({
    title: `${verb} ${jobs.length} jobs?`,
    sentence: `They are in ${named}. ${what === "kill" ? "Those that run get SIGTERM now; those that wait never start." : "Their output goes with them. Those that run cannot be deleted."}`,
    go: `${verb} ${jobs.length} jobs`,
    work: async () => {
      for (const job of jobs) {
        const [path, method] = what === "kill" ? [`${JOB}/kill/${job._id}`, "POST"] : [`${JOB}/${job._id}`, "DELETE"];
        await call(path, { method }).catch((refused) => failures.push(`${short(job._id)}: ${refused.message}`));
      }
      tell(failures, jobs.length);
    },
  });
}

/**
 * The buttons for a job in its state. Those that change something are off while there is no connection. `current` gives
 * the job as it is then, `kept` is whether its payload is there for a rerun. `done` gets a button's label, and what came
 * of it.
 */
export function buttons(current, kept, done) {
  const found = [], job = current();
  const add = (label, how, work) => {
    const did = async () => { const made = await work(current()); if (made) done(label, made); };
    found.push(button(label, did, how, { "data-changes": "" }));
  };
  if (job.held && !over(job)) add("Release…", "held", release);
  if (!over(job) && job.status !== "stopping") add("Kill…", "danger", kill);
  if (over(job) && kept) add("Run again…", "", rerun);
  if (over(job) || job.status === "queued") add("Delete…", "", remove);
  return found;
}
