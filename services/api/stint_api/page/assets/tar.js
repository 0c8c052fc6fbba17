// Files as a .tar.gz, made in the browser. Everything belongs to root, as when `stint run` packs a folder.

const BLOCK = 512, MODE = 0o644, EXECUTABLE = 0o755;
const text = new TextEncoder();

/** The archive of `files`, each with a `path` and a `file`; folders above them are added. */
export async function pack(files) {
  const sorted = [...files].sort((a, b) => (a.path < b.path ? -1 : 1)), parts = [], folders = new Set();
  for (const { path, file } of sorted) {
    for (const folder of above(path)) {
      if (folders.has(folder)) continue;
      folders.add(folder);
      parts.push(...member(`./${folder}/`, 0, EXECUTABLE, file.lastModified, "5"));
    }
    parts.push(...member(`./${path}`, file.size, await mode(file), file.lastModified, "0"), file, new Uint8Array(-file.size & (BLOCK - 1)));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  const zipped = new Blob(parts).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(zipped).blob();
}

const above = (path) => path.split("/").slice(0, -1).map((_, i, names) => names.slice(0, i + 1).join("/"));

/** A browser does not tell which files can be executed: those are that begin as scripts and programs do. */
async function mode(file) {
  const [a, b, c, d] = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  const program = a === 0x7f && b === 0x45 && c === 0x4c && d === 0x46, script = a === 0x23 && b === 0x21;
  return program || script ? EXECUTABLE : MODE;
}

/** A member's header, behind one with its whole name if that does not fit. */
function member(name, size, mode, modified, kind) {
  const bytes = text.encode(name), seconds = Math.floor(modified / 1000);
  const plain = bytes.length <= 100 && bytes.length === name.length;
  if (plain) return [header(bytes, size, mode, seconds, kind)];
  const record = pax("path", name);
  return [header(text.encode("./pax"), record.length, MODE, seconds, "x"), record, new Uint8Array(-record.length & (BLOCK - 1)), header(bytes.slice(0, 100), size, mode, seconds, kind)];
}

/** An extended header's record, which begins with its own length. */
function pax(key, value) {
  const rest = text.encode(` ${key}=${value}\n`).length;
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return text.encode(`${length} ${key}=${value}\n`);
}

function header(name, size, mode, seconds, kind) {
  const block = new Uint8Array(BLOCK);
  const put = (at, value) => block.set(typeof value === "string" ? text.encode(value) : value, at);
  const octal = (at, width, value) => put(at, `${value.toString(8).padStart(width - 1, "0")}\0`);
  put(0, name);
  octal(100, 8, mode);
  octal(108, 8, 0);
  octal(116, 8, 0);
  octal(124, 12, size);
  octal(136, 12, Math.max(0, seconds));
  put(148, "        ");
  put(156, kind);
  put(257, "ustar\x0000");
  octal(148, 7, block.reduce((sum, byte) => sum + byte, 0));
  return block;
}
