// Where each entry of a list stands, if it takes one row or several.

export class Layout {
  #heights = [];
  #tops = [0]; // as far as they are known: those behind a change are added up again when somebody asks

  /** Rows in all. */
  get rows() {
    return this.top(this.length);
  }

  get length() {
    return this.#heights.length;
  }

  push(height) {
    this.#heights.push(height);
  }

  /** Change an entry's height. Cheap at the end. */
  set(i, height) {
    if (height === this.#heights[i]) return;
    this.#heights[i] = height;
    this.#tops.length = Math.min(this.#tops.length, i + 1);
  }

  height(i) {
    return this.#heights[i];
  }

  /** The row at which an entry begins. */
  top(i) {
    for (let j = this.#tops.length; j <= i; j++) this.#tops[j] = this.#tops[j - 1] + this.#heights[j - 1];
    return this.#tops[i];
  }

  /** The entry that a row belongs to: the first one or the last one, if the row is before or behind all. */
  at(row) {
    let low = 0, high = Math.max(0, this.length - 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.top(middle) <= row) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
