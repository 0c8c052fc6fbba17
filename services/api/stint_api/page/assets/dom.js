// Small helpers. Text goes into the page as text only, and what could deceive in it by its name.
import { named, word } from "./words.js";

export const one = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** The content of a template, as one element. */
export const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Set text, unless it is there already: a selection in it stays. */
export function text(element, value) {
  const shown = named(value);
  if (element.textContent !== shown) element.textContent = shown;
}

/** Let an element contain these parts. Those that are there already stay: they may have the focus, or are being clicked. */
export function put(element, ...parts) {
  const made = new DocumentFragment(), there = [...element.childNodes];
  made.append(...parts.map((part) => (typeof part === "string" ? named(part) : part)));
  arrange(element, [...made.childNodes].map((part) => {
    const place = there.findIndex((node) => node.isEqualNode(part));
    return place < 0 ? part : there.splice(place, 1)[0];
  }));
}

/** Let an element contain these nodes in this order. Those that stand where they belong are not touched. */
export function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => { if (parent.childNodes[i] !== node) parent.insertBefore(node, parent.childNodes[i] ?? null); });
}

/** The same, if what has the focus may go: then what comes first in its place gets it, or the place itself. */
export function exchange(place, nodes) {
  const had = place.contains(document.activeElement);
  arrange(place, nodes);
  if (!had || place.contains(document.activeElement)) return;
  place.tabIndex = -1;
  (one("button", place) ?? place).focus({ preventScroll: true });
}

/** A new element with text and attributes. */
export function make(tag, value = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = named(value);
  for (const [name, given] of Object.entries(attributes)) element.setAttribute(name, given);
  return element;
}

/** A button that does `work`. */
export function button(label, work, how = "small", attributes = {}) {
  const element = make("button", label, { type: "button", class: `btn ${how}`, ...attributes });
  element.onclick = work;
  return element;
}

export const draw = (use, name) => use.setAttribute("href", `#${name}`);

/** Colour, shape and word of a status, in an element that the server has made for one. */
export function show(element, name) {
  if (element.dataset.kind === name) return;
  element.dataset.kind = name;
  element.className = `st ${name}${name === "success" ? " quiet" : ""}`;
  draw(one("use", element), `s-${name}`);
  text(element.lastElementChild, word(name));
}

/** Call `work` at most once in a frame. */
export function framed(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; work(); });
  };
}
