// Submits a job straight to NATS, waits for its end, and writes its output once that is proven to be complete.
// Needs NATS_URL, STINT_NATS_NKEY_FILE and STINT_NATS_INBOX_PREFIX of a publisher, VAULT_ADDR, and VAULT_TOKEN with the
// policy `stint-publisher`. Certificates of your own are named by STINT_NATS_CACERT, and by NODE_EXTRA_CA_CERTS for
// Vault. Exits as the job does: with its exit code, or 1 if it has none. Does not reconnect: nothing is sent late.
import { randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, headers, nkeyAuthenticator, nkeys } from "@nats-io/transport-node";
import { base32, encrypt, sha256, vault } from "./seal.mjs";

const fail = ({ message }) => process.exit(console.error(message) ?? 1);
process.on("uncaughtException", fail);
const { env, argv: [, , qname, image, ...run] } = process;
if (!image) fail(new Error("Usage: node examples/node/publish.mjs QUEUE IMAGE [COMMAND...]"));
const id = Date.now().toString(16).padStart(12, "0") + randomBytes(6).toString("hex");
const kinds = ["ended", "rejected", "deleted"]; // a job has one of these events at its end
const queue = base32(qname.toLowerCase()) || "_";
const [role, patience] = [env.STINT_ROLE || "stint-job", { timeout: 10_000 }]; // milliseconds
const [news, heard] = [new EventEmitter(), new Map()]; // what is heard: that there is news, and chunks by number

const pause = () => new Promise((done) => setTimeout(done, 5 + 25 * Math.random()));
const soon = () => once(news, "heard", { signal: AbortSignal.timeout(2000) }).catch(() => false);

async function store(subject, data, options = patience, end = Date.now() + 8000) {
  const { error } = (await nats.request(subject, data, options)).json();
  if (error?.err_code === 10167 && Date.now() < end) return pause().then(() => store(subject, data, options, end)); // dropped
  if (error) throw new Error(`NATS does not store ${subject}: ${error.description}.`);
}

async function submit() {
  const payload = await encrypt(role, { qname, container_image: image, run });
  const wrapped = await vault(`auth/approle/role/${role}/secret-id`, {}, { "X-Vault-Wrap-TTL": "24h" });
  const ticket = { wrap_secret_id: wrapped.wrap_info.token, payload_sha256: sha256(payload) };
  const chunks = payload.match(/.{1,524288}/g);
  const submitted = {
    ...{ type: "submitted", event_id: randomBytes(16).toString("hex"), at: new Date().toISOString() },
    ...{ by: "publish.mjs", qname, payload_chunks: chunks.length, payload_bytes: payload.length },
    ticket: await encrypt("stint-bus", ticket, `stint1.${queue}.${id}`),
  };
  for (const [number, chunk] of chunks.entries()) await store(`pl.${queue}.${id}.${number}`, chunk);
  console.error(`submitting ${id}`); // from here on the job may exist, even if no answer arrives
  const [subject, body] = [`ev.${id}.${queue}.submitted`, JSON.stringify(submitted)];
  await store(subject, body, signed(subject, body));
}

function signed(subject, body) { // with a header that proves that the user with this key wrote it: `stint audit` says so
  const text = Buffer.concat([Buffer.of(0xff), Buffer.from(`stint-signature-1\n${subject}\n${body}`)]);
  const [key, header] = [nkeys.fromSeed(seed), headers()];
  header.set("Stint-Signature", `${key.getPublicKey()}.${Buffer.from(key.sign(text)).toString("base64url")}`);
  return { ...patience, headers: header };
}

async function end() {
  for (; ; await soon()) // what is heard only says when to look again
    for (const kind of kinds) {
      const found = await nats.request(`JS.stint.DIRECT.GET.EVENTS.ev.${id}.${queue}.${kind}`, "", patience);
      if (found.headers.code !== 404) return found.json();
    }
}

async function verified({ chunks = 0, output_digest = "" }) { // reads again what was not heard
  const output = [];
  for (let [number, last, tries, found] = [1, 0, 3]; number <= chunks; found || (await soon())) {
    const chunk = heard.get(number) ?? await nats.request(`output.${queue}.${id}.${last}`, "", patience).catch(() => 0);
    found = Number(chunk?.headers?.get("Stint-Chunk")) === number;
    if (found) [number, last] = [output.push(chunk) + 1, chunk.headers.get("Nats-Sequence")];
    else if (!tries--) throw new Error(`Chunk ${number} of the output cannot be read.`);
  }
  if (output.reduce((digest, chunk) => sha256(digest, chunk.data), "") !== output_digest)
    throw new Error("The output is not what the job's runner recorded.");
  return output;
}

const seed = new TextEncoder().encode(readFileSync(env.STINT_NATS_NKEY_FILE, "utf8").trim());
const tls = env.STINT_NATS_CACERT && { caFile: env.STINT_NATS_CACERT };
const user = { authenticator: nkeyAuthenticator(seed), inboxPrefix: env.STINT_NATS_INBOX_PREFIX, ...(tls && { tls }) };
const server = { ...user, servers: env.NATS_URL.replace(/^tls:/, "nats:"), reconnect: false };
// Once more if that fails: NATS waits 1.9 s for a login, which a busy machine can miss, and nothing has been sent yet.
const nats = await connect(server).catch(() => connect(server));
nats.closed().then((error) => process.exitCode ?? fail(error ?? new Error("The connection to NATS was lost.")));
if ((tls || /^tls:/.test(env.NATS_URL)) && !nats.protocol.transport.isEncrypted()) throw new Error("NATS has no TLS.");
const hear = (subject, note) =>
  nats.subscribe(subject, { callback: (error, message) => (error ? fail(error) : note(message)) });
hear(`tail.${queue}.${id}`, (chunk) => news.emit("heard", heard.set(+chunk.headers.get("Stint-Chunk"), chunk)));
for (const kind of kinds) hear(`live.${id}.${queue}.${kind}`, () => news.emit("heard"));
await submit();
const found = await end();
for (const { headers, data } of await verified(found))
  process[headers.get("Stint-Stream") === "stderr" ? "stderr" : "stdout"].write(data);
console.error(found.status ?? found.type, found.reason ?? "", found.error ?? "");
process.exitCode = found.return_code || (found.status === "success" ? 0 : 1);
await nats.close();
