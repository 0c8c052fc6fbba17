// What was chosen or dropped as a job's content: files, folders, or an archive.

/** The content of a drop: its files with their paths, and whether they are those of one folder. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const [first] = entries, folder = entries.length === 1 && first.isDirectory ? first.name : "";
  const roots = folder ? await inside(first) : entries, files = [];
  for (const entry of roots) await walk(entry, entry.name, files);
  return chosen(files, folder);
}

/** The same of an input for files, or for one folder, whose files have paths that begin with its name. */
export function picked(list) {
  const files = [...list].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
  const folder = list[0]?.webkitRelativePath.split("/")[0] ?? "";
  return chosen(folder ? files.map(({ file, path }) => ({ file, path: path.slice(folder.length + 1) })) : files, folder);
}

/** `archive` is the file if it is one already, and is sent as it is. */
function chosen(files, folder) {
  const archive = files.length === 1 && !folder && /\.(tar\.gz|tgz)$/.test(files[0].file.name) ? files[0].file : null;
  return { files, folder, archive };
}

async function walk(entry, path, files) {
  if (entry.isDirectory) for (const other of await inside(entry)) await walk(other, `${path}/${other.name}`, files);
  else files.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
}

/** A folder's entries, which browsers give in parts. */
async function inside(folder) {
  const reader = folder.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}
