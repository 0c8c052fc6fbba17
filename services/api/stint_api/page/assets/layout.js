// Where each entry of a list stands, if it takes one row or several: sums over blocks, so that a million rows are cheap.

const BLOCK = 256;

export class Layout {
  #heights = [];
  #sums = [];
  #tops = [0];

  /** Rows in all. */
  get rows() {
    const last = this.#sums.length;
    return this.#top(last);
  }

  get length() {
    return this.#heights.length;
  }

  push(height) {
    if (this.#heights.length % BLOCK === 0) this.#sums.push(0);
    this.#heights.push(height);
    this.#sums[this.#sums.length - 1] += height;
  }

  /** Change an entry's height. Cheap at the end. */
  set(i, height) {
    const change = height - this.#heights[i];
    if (!change) return;
    this.#heights[i] = height;
    const block = Math.floor(i / BLOCK);
    this.#sums[block] += change;
    this.#tops.length = Math.min(this.#tops.length, block + 1);
  }

  height(i) {
    return this.#heights[i];
  }

  /** The row at which an entry begins. */
  top(i) {
    const block = Math.floor(i / BLOCK);
    let top = this.#top(block);
    for (let j = block * BLOCK; j < i; j++) top += this.#heights[j];
    return top;
  }

  /** The entry that a row belongs to. */
  at(row) {
    let low = 0, high = this.#sums.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#top(middle) <= row) low = middle;
      else high = middle - 1;
    }
    let i = low * BLOCK, top = this.#top(low);
    while (i < this.#heights.length - 1 && top + this.#heights[i] <= row) top += this.#heights[i++];
    return Math.max(0, Math.min(i, this.#heights.length - 1));
  }

  #top(block) {
    for (let b = this.#tops.length; b <= block; b++) this.#tops[b] = this.#tops[b - 1] + this.#sums[b - 1];
    // The last block grows: what is behind it is not remembered.
    if (block >= this.#sums.length) {
      const top = this.#tops[block];
      this.#tops.length = Math.min(this.#tops.length, Math.max(1, this.#sums.length));
      return top;
    }
    return this.#tops[block];
  }
}
