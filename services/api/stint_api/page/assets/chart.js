// A small chart of one figure a minute, as SVG. A minute of which nothing is known is hatched, not empty.
import { make, one, text } from "./dom.js";
import { clock } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 48, WIDE = 10, GAP = 2;
const MINUTE = 60_000;

/** Draw values into a figure, and in red a part of each. `most` is the least full height, `say` puts a value into words. */
export function chart(figure, { values, bad = [], since, most = 0, say, sum }) {
  const known = values.filter((value) => value !== null), top = Math.max(most, ...known, 0);
  const svg = one("svg", figure);
  svg.setAttribute("viewBox", `0 0 ${values.length * WIDE} ${HEIGHT}`);
  svg.replaceChildren(...values.flatMap((value, i) => minute(i, value, bad[i] ?? 0, top, `${clock(since + i * MINUTE).slice(0, 5)}: ${value === null ? "not known" : say(value, bad[i])}`)));
  svg.setAttribute("aria-label", `${one("h3", figure).textContent}: ${sum}`);
  text(one("[data-sum]", figure), sum);
  one("[data-times]", figure).replaceChildren(make("span", clock(since).slice(0, 5)), make("span", "now"));
}

/** What is drawn of a minute: the bar, its bad part, and what tells of it under the pointer. */
function minute(i, value, bad, top, words) {
  const scale = (part) => (top && part ? Math.max(2, (HEIGHT * part) / top) : 0), x = i * WIDE;
  if (value === null) return [bar(x, 0, HEIGHT, "none", words)];
  const all = scale(value), red = scale(bad);
  return [bar(x, HEIGHT - all, all, "bar"), bar(x, HEIGHT - red, red, "bad"), bar(x, 0, HEIGHT, "touch", words)];
}

function bar(x, y, height, name, words = "") {
  const rect = document.createElementNS(SVG, "rect"), wide = name === "bar" || name === "bad" ? WIDE - GAP : WIDE;
  for (const [key, given] of Object.entries({ x, y, height, width: wide, class: name })) rect.setAttribute(key, given);
  if (words) rect.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: words }));
  return rect;
}
