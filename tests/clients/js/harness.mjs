// What the steps of the scenario stand on: counting, waiting with a bound, and one listening user.
import "./polyfill.mjs";
import { isDeepStrictEqual } from "node:util";
import { ClientEvent, Filter, SyncState, createClient } from "matrix-js-sdk";

// The SDK writes its log to the console; what this program says goes to the streams. DEBUG=1 in the environment shows both.
if (!process.env.DEBUG) {
  for (const method of ["trace", "debug", "log", "info", "warn", "error"]) console[method] = () => {};
}

/** Prints one line of the program's own. */
export const say = (line) => process.stdout.write(`${line}\n`);

const SCENARIO_TIMEOUT_MS = 300_000;
const STEP_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
/**
 * Timeline events in one sync answer: fewer than the 200 missed messages, which are to be a gap; more than can be sent between
 * two syncs of a client that listens.
 */
export const SYNC_LIMIT = 100;
/** What the SDK says while its syncs fail. */
const OFFLINE_STATES = [SyncState.Reconnecting, SyncState.Error];

let passed = 0;

/** Runs one step and prints its line; the first step that throws ends the program. */
export async function step(name, run) {
  const started = Date.now();
  try {
    await within(run(), STEP_TIMEOUT_MS, "the step has not ended");
  } catch (error) {
    fail(`${name}: ${error?.stack ?? error}`);
  }
  passed += 1;
  say(`ok   ${name} (${Date.now() - started} ms)`);
}

/** Prints the closing line and ends the process, sync loops and all. */
export function finish(failed) {
  say(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

/** What the program was called with. From here on, whatever nobody waits for any more ends it. */
export function run() {
  const [baseUrl = process.env.HOMESERVER_URL, ...rest] = process.argv.slice(2);
  if (!baseUrl) {
    process.stderr.write(`usage: node ${process.argv[1]} BASE_URL (or HOMESERVER_URL)\n`);
    process.exit(2);
  }
  setTimeout(() => fail(`the scenario has not ended after ${SCENARIO_TIMEOUT_MS} ms`), SCENARIO_TIMEOUT_MS).unref();
  process.on("unhandledRejection", (error) => fail(`unhandled: ${error?.stack ?? error}`));
  return { baseUrl, rest };
}

/** Says what was wrong and ends the process. */
export function fail(message) {
  process.stderr.write(`FAIL ${message}\n`);
  finish(1);
}

/** Throws with `message` unless `condition` holds. */
export function check(condition, message) {
  if (!condition) throw new Error(message);
}

/** Throws unless both are deeply equal, and shows both. */
export function same(actual, expected, what) {
  const shown = `got ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`;
  check(isDeepStrictEqual(actual, expected), `${what}: ${shown}`);
}

/** Rejects with `message` when the promise takes longer than `ms`. */
export async function within(promise, ms, message) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${message} after ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Polls until `probe` gives something truthy, and returns it. */
export async function until(what, probe, ms = 30_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    check(Date.now() < deadline, `waited ${ms} ms for ${what}`);
    await sleep(POLL_MS);
  }
}

/** Resolves to the Matrix error that the promise is refused with. */
export async function refused(promise, what) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`${what} was not refused`);
}

/** The numbered bodies of one burst of messages. */
export const bodies = (prefix, count) => Array.from({ length: count }, (_, i) => `${prefix} ${i + 1}`);

/** A logged-in user with its client, and every event that sync delivered to it, repeats included. */
export class User {
  #network = new AbortController();

  constructor(baseUrl, session) {
    this.id = session.user_id;
    this.token = session.access_token;
    this.device = session.device_id;
    this.events = [];
    this.client = createClient({
      baseUrl,
      userId: this.id,
      accessToken: this.token,
      deviceId: this.device,
      fetchFn: (url, request) => this.#fetch(url, request),
    });
    // `Event` fires for what the server sent, before the SDK drops events it has already seen.
    this.client.on(ClientEvent.Event, (event) => this.events.push(event));
  }

  /** Starts to sync, and waits for the first answer and until others can find this device's keys. */
  async start() {
    await this.client.initRustCrypto({ useIndexedDB: false });
    const filter = new Filter(this.id);
    filter.setTimelineLimit(SYNC_LIMIT);
    await this.client.startClient({ filter, pollTimeout: 10_000 });
    await until("the first sync", () => this.client.isInitialSyncComplete());
    await until("this device's keys", async () => {
      const { device_keys: keys } = await this.client.downloadKeysForUsers([this.id]);
      return keys[this.id]?.[this.device];
    });
  }

  /** Fetches over this user's network: when it is cut, requests under way fail too. */
  #fetch(url, request = {}) {
    const signals = [request.signal, this.#network.signal].filter(Boolean);
    return fetch(url, { ...request, signal: AbortSignal.any(signals) });
  }

  /**
   * Cuts the network and waits until the SDK has noticed; what was delivered so far is forgotten. The client lives on: once
   * stopped, its crypto is closed, so it could not be started again.
   */
  async goOffline() {
    this.#network.abort(new TypeError("the network is cut"));
    await until("the end of the sync", () => OFFLINE_STATES.includes(this.client.getSyncState()));
    this.events.length = 0;
  }

  /** Gives the network back, and syncs on from the last token. */
  async goOnline() {
    this.#network = new AbortController();
    this.client.retryImmediately();
    await until("a sync after the gap", () => this.client.getSyncState() === SyncState.Syncing);
  }

  room(roomId) {
    return this.client.getRoom(roomId);
  }

  /** The message bodies that sync delivered from `sender`, in the order of delivery. */
  heard(roomId, sender, prefix) {
    return this.events
      .filter((e) => e.getRoomId() === roomId && e.getSender() === sender)
      .filter((e) => e.getType() === "m.room.message" && !e.isDecryptionFailure())
      .map((e) => e.getContent().body)
      .filter((body) => body?.startsWith(`${prefix} `));
  }

  /** Sends one after the other, each when the one before is acknowledged; returns the event ids. */
  async say(roomId, texts) {
    const ids = [];
    for (const text of texts) {
      ids.push((await this.client.sendTextMessage(roomId, text)).event_id);
    }
    return ids;
  }

  /** Waits for all the texts and a moment longer, then compares: in order, exactly once. */
  async expectToHear(roomId, sender, prefix, texts) {
    const heard = () => this.heard(roomId, sender, prefix);
    // What was heard says more than that the wait was in vain.
    await until("all of them", () => heard().length >= texts.length).catch(() => {});
    await sleep(300);
    const dark = this.events.filter((e) => e.getRoomId() === roomId && e.getSender() === sender && e.isDecryptionFailure());
    const why = dark.length > 0 ? ` (${dark.length} can't be read: ${dark[0].decryptionFailureReason})` : "";
    same(heard(), texts, `messages '${prefix}' as ${this.id} received them${why}`);
  }
}
