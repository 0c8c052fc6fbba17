// Streams that take turns. Without HTTP/2 a browser has six connections to a host, for all its windows: if each window
// kept one for a job's stream, the seventh could not even ask. So these streams share three; one goes to all others.

const SLOTS = ["stint stream 1", "stint stream 2", "stint stream 3"];

/** Milliseconds after which a stream makes room if others wait: it continues behind its last event when its turn comes. */
export const TURN = 2000;

/** Do `work` as soon as a connection is free for it. */
export async function inTurn(work) {
  for (const name of SLOTS) {
    const did = await navigator.locks.request(name, { ifAvailable: true }, async (free) => free && (await work(), true));
    if (did) return;
  }
  await navigator.locks.request(SLOTS[Math.floor(Math.random() * SLOTS.length)], work);
}

/** Whether another window waits for its turn. */
export const awaited = async () => (await navigator.locks.query()).pending.some(({ name }) => SLOTS.includes(name));
