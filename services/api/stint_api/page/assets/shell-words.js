// Words as a shell splits and quotes them. Pure.

/** The words of a line; null if a quote is not closed. */
export function split(line) {
  const words = [];
  let word = null;
  for (let i = 0; i < line.length; i++) {
    const char = line[i];
    if (/\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
    } else if (char === "'" || char === '"') {
      const end = closing(line, i);
      if (end < 0) return null;
      const inside = line.slice(i + 1, end);
      word = (word ?? "") + (char === '"' ? inside.replace(/\\(["\\$`])/g, "$1") : inside);
      i = end;
    } else if (char === "\\" && i + 1 < line.length) word = (word ?? "") + line[++i];
    else word = (word ?? "") + char;
  }
  return word === null ? words : [...words, word];
}

function closing(line, start) {
  for (let i = start + 1; i < line.length; i++) {
    if (line[start] === '"' && line[i] === "\\") i++;
    else if (line[i] === line[start]) return i;
  }
  return -1;
}

/** A word so that a shell takes it as it is. */
export const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);
