// What a publisher needs of Vault, and the encodings of names and digests.
import { createHash } from "node:crypto";

const { env } = process;
const base64 = (text) => Buffer.from(text).toString("base64");

export function base32(text) {
  const bits = [...Buffer.from(text)].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return bits.replace(/.{1,5}/g, (five) => "abcdefghijklmnopqrstuvwxyz234567"[parseInt(five.padEnd(5, "0"), 2)]);
}

export const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest("hex");

export async function vault(path, body, more = {}) {
  const headers = { "X-Vault-Token": env.VAULT_TOKEN, ...more };
  const answer = await fetch(`${env.VAULT_ADDR}/v1/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`Vault refuses ${path}: HTTP ${answer.status}.`);
  return answer.json();
}

export async function encrypt(key, value, boundTo) {
  const request = { plaintext: base64(JSON.stringify(value)), ...(boundTo && { associated_data: base64(boundTo) }) };
  return (await vault(`transit/encrypt/${key}`, request)).data.ciphertext;
}
