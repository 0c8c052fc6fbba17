// A job on paper: all lines that are here, while on the screen only those are elements that can be seen.
import { make } from "./dom.js";

/** Let the lines of a `Log` be printed. */
export function printing(log) {
  const paper = make("div", "", { class: "paper" });
  addEventListener("beforeprint", () => {
    const { rows, settings } = log, { columns } = settings;
    settings.columns = 0; // the paper has its own width
    paper.replaceChildren();
    for (const line of log.shown) paper.append(rows.fill(rows.make(), line));
    settings.columns = columns;
    log.scroller.append(paper);
  });
  addEventListener("afterprint", () => paper.remove());
}
