// A job as a row of the table. Cells change in place: a row stays where it is.
import { one, show, text } from "./dom.js";
import { ago, at, duration, kind, named, over, sentence } from "./words.js";

/** A row that the server has drawn, with what it told of the job. */
export function adopt(element) {
  element.job = { ...JSON.parse(element.dataset.job), _id: element.dataset.id, submitted: one("time", element).dateTime };
  return element;
}

/** Show what is known of the job now. */
export function fill(element, job) {
  element.job = job;
  show(one(".st", element), kind(job));
  const set = (name, value) => text(one(`.c-${name}`, element), value);
  set("q", job.qname || "(no name)");
  one(".c-q", element).title = named(job.qname);
  set("say", sentence(job));
  one(".c-say", element).title = named(sentence(job));
  set("m", job.container_image.split("/").slice(-2).join("/"));
  set("b", job.submitted_by);
  set("r", job.node_uuid);
}

/** The parts that change by themselves. */
export function clocks(element, now) {
  const { job } = element, submitted = at(job.submitted), started = at(job.started), ended = at(job.ended);
  text(one("time", element), ago(now - submitted));
  const began = started || (over(job) ? ended : now);
  text(one(".c-w", element), duration(began - submitted));
  if (job.status === "stopping") text(one(".c-say", element), sentence(job, now));
  text(one(".c-d", element), started ? duration((over(job) ? ended : now) - started) : "");
}
