// Submits a job straight to NATS, waits for its end, and writes its output once that is proven to be complete.
// Needs NATS_URL, STINT_NATS_NKEY_FILE and STINT_NATS_INBOX_PREFIX of a publisher, VAULT_ADDR, and VAULT_TOKEN with the
// policy `stint-publisher`. Certificates of your own are named by STINT_NATS_CACERT, and by NODE_EXTRA_CA_CERTS for
// Vault. Exits as the job does: with its exit code, or 1 if it has none. Does not reconnect: nothing is sent late.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, headers, nkeyAuthenticator, nkeys } from "@nats-io/transport-node";

const fail = ({ message }) => process.exit(console.error(message) ?? 1);
process.on("uncaughtException", fail);
const { env, argv: [, , qname, image, ...run] } = process;
if (!image) fail(new Error("Usage: node examples/node/publish.mjs QUEUE IMAGE [COMMAND...]"));
const [role, patience] = [env.STINT_ROLE || "stint-job", { timeout: 10_000 }]; // milliseconds
const id = Date.now().toString(16).padStart(12, "0") + randomBytes(6).toString("hex");
const bits = [...Buffer.from(qname.toLowerCase())].map((byte) => byte.toString(2).padStart(8, "0")).join("");
const base32 = (five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five.padEnd(5, "0"), 2)];
const queue = bits.replace(/.{1,5}/g, base32) || "_";
const base64 = (text) => Buffer.from(text).toString("base64");
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");

let wake = () => {}; // ends a pause early
const pause = (milliseconds) => new Promise((done) => { wake = done; setTimeout(done, milliseconds); });

async function vault(path, body, more = {}) {
  const headers = { "X-Vault-Token": env.VAULT_TOKEN, ...more };
  const answer = await fetch(`${env.VAULT_ADDR}/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`Vault refuses ${path}: HTTP ${answer.status}.`);
  return answer.json();
}

async function encrypt(key, value, boundTo = "") {
  const request = { plaintext: base64(JSON.stringify(value)), associated_data: base64(boundTo) };
  return (await vault(`transit/encrypt/${key}`, request)).data.ciphertext;
}

function signed(subject, body) { // a header that proves who wrote it: `stint audit` says so
  const text = Buffer.concat([Buffer.of(0xff), Buffer.from(`stint-signature-1\n${subject}\n${body}`)]);
  const [key, header] = [nkeys.fromSeed(seed), headers()];
  header.set("Stint-Signature", `${key.getPublicKey()}.${Buffer.from(key.sign(text)).toString("base64url")}`);
  return { ...patience, headers: header };
}

async function store(subject, data, options = patience, end = Date.now() + 8000) {
  const { error } = (await nats.request(subject, data, options)).json();
  if (error?.err_code === 10167 && Date.now() < end) // dropped, because too many messages wait
    return pause(5 + 25 * Math.random()).then(() => store(subject, data, options, end));
  if (error) throw new Error(`NATS does not store ${subject}: ${error.description}.`);
}

async function ended() { // asks the log for one of the events that a job has at its end
  for (; ; await pause(2000)) // what is heard only says when to look again
    for (const kind of ["ended", "rejected", "deleted"]) {
      const found = await nats.request(`JS.stint.DIRECT.GET.EVENTS.ev.${id}.${queue}.${kind}`, "", patience);
      if (found.headers.code !== 404) return found.json();
    }
}

async function verified({ output_digest = "" }) { // reads until the digest is the one that the job's runner recorded
  const output = [];
  for (let [digest, last, tries] = ["", 0, 3]; digest !== output_digest; ) {
    const chunk = await nats.request(`output.${queue}.${id}.${last}`, "", patience).catch(() => 0);
    if (Number(chunk?.headers?.get("Stint-Chunk")) === output.length + 1) {
      [digest, last] = [sha256(digest, chunk.data), chunk.headers.get("Nats-Sequence")];
      output.push(chunk);
    } else if (--tries) await pause(1000);
    else throw new Error(`The output is not as recorded: chunk ${output.length + 1} cannot be read.`);
  }
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
nats.subscribe(`live.${id}.${queue}.ended`, { callback: (error) => (error ? fail(error) : wake()) });
const payload = await encrypt(role, { qname, container_image: image, run });
const wrapped = await vault(`auth/approle/role/${role}/secret-id`, {}, { "X-Vault-Wrap-TTL": "24h" });
const ticket = { wrap_secret_id: wrapped.wrap_info.token, payload_sha256: sha256(payload) };
const chunks = payload.match(/.{1,524288}/g);
const subject = `ev.${id}.${queue}.submitted`;
const submitted = JSON.stringify({
  ...{ type: "submitted", event_id: randomBytes(16).toString("hex"), at: new Date().toISOString(), by: "publish.mjs" },
  ...{ qname, payload_chunks: chunks.length, payload_bytes: payload.length },
  ticket: await encrypt("stint-bus", ticket, `stint1.${queue}.${id}`),
});
for (const [number, chunk] of chunks.entries()) await store(`pl.${queue}.${id}.${number}`, chunk);
console.error(`submitting ${id}`); // from here on the job may exist, even if no answer arrives
await store(subject, submitted, signed(subject, submitted));
const found = await ended();
for (const { headers, data } of await verified(found))
  process[headers.get("Stint-Stream") === "stderr" ? "stderr" : "stdout"].write(data);
console.error(found.status ?? found.type, found.reason ?? "", found.error ?? "");
process.exitCode = found.return_code || (found.status === "success" ? 0 : 1);
await nats.close();
