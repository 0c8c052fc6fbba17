// A queue's name in a sentence and in an address. Pure.

export const nameOf = (queue) => queue.qname || "the unnamed queue";

/** As a part of a path, whatever it contains: as it is, or "=" and its base32. */
export const part = (name) => (/^[\w-][\w.-]*$/.test(name) ? name : `=${base32(name)}`);

export const path = (name) => `/v1/api/queue/${part(name)}`;

function base32(name) {
  let bits = 0, value = 0, out = "";
  for (const byte of new TextEncoder().encode(name)) {
    value = ((value << 8) | byte) & 0xfffff;
    for (bits += 8; bits >= 5; bits -= 5) out += "abcdefghijklmnopqrstuvwxyz234567"[(value >> (bits - 5)) & 31];
  }
  if (bits) out += "abcdefghijklmnopqrstuvwxyz234567"[(value << (5 - bits)) & 31];
  return out || "_";
}
