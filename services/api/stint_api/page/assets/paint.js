// Styles as colours on the page. A colour is moved until it can be read on its ground: nothing can be hidden in it.

const RATIO = 4.6;
const CLASSES = { bold: "b", dim: "d", italic: "it", underline: "u", strike: "sk" };

/** The colours of the theme, as the stylesheet has them. */
export class Palette {
  constructor(element) {
    const probe = element.ownerDocument.createElement("i");
    element.append(probe);
    const read = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    };
    this.colours = Array.from({ length: 16 }, (_, n) => read(`c${n}`));
    this.ground = read("log");
    this.text = read("text");
    probe.remove();
  }

  /** Give an element the style of a run. */
  paint(element, style) {
    element.className = Object.keys(CLASSES).filter((name) => style[name]).map((name) => CLASSES[name]).join(" ");
    const grounded = style.bg !== undefined || style.inverse;
    if (!grounded && typeof style.fg === "number") element.style.color = `var(--c${style.fg})`; // follows the theme
    if (!grounded && !Array.isArray(style.fg)) return;
    let front = this.#rgb(style.fg, this.text), ground = this.#rgb(style.bg, this.ground);
    if (style.inverse) [front, ground] = [ground, front];
    element.style.color = css(readable(front, ground));
    if (grounded) element.style.backgroundColor = css(ground);
  }

  #rgb(colour, otherwise) {
    if (colour === undefined) return otherwise;
    return typeof colour === "number" ? this.colours[colour] : colour;
  }
}

const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;

/** The colour, moved towards white or black until it has enough contrast. */
export function readable(front, ground) {
  const goal = luminance(ground) > 0.18 ? [0, 0, 0] : [255, 255, 255];
  for (let part = 0; part <= 1; part += 0.05) {
    const mixed = front.map((value, n) => value + (goal[n] - value) * part);
    if (contrast(mixed, ground) >= RATIO) return mixed;
  }
  return goal;
}

export function contrast(a, b) {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
