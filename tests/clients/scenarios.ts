// The scenarios of README.md, by the client in TypeScript.
//
// Usage: node scenarios.js ADDRESS ADDRESS ADDRESS, the client listeners of three nodes of one
// cluster.

import { deepStrictEqual as equal, ok } from "node:assert";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import {
  Client,
  Conflict,
  DeadlineExceeded,
  DELETE,
  type Event,
  type ListOptions,
  NotAllowed,
  NotReached,
  type Options,
  type Outcome,
  QuotaExceeded,
  Refused,
  RequestIdReused,
  StaleContext,
  StatorError,
  UnknownKeyspace,
  Unreachable,
  type Version,
  Versions,
  type Written,
} from "stator-client";

const NODES = process.argv.slice(2, 5);
const [FIRST, , THIRD] = NODES as [string, string, string];
/** Port 1 is reserved and nothing listens on it. */
const DEAD = "127.0.0.1:1";

/** The error of `call`, which must be of this class and reason. */
async function fails<E extends StatorError>(
  kind: new (...told: never[]) => E,
  reason: string,
  call: () => Promise<unknown>,
): Promise<E> {
  let answer: unknown;
  try {
    answer = await call();
  } catch (error) {
    ok(error instanceof StatorError, String(error));
    equal([error.constructor, error.reason], [kind, reason], error.message);
    return error as E;
  }
  throw new Error(`${reason} was expected, not ${JSON.stringify(answer)}`);
}

/** Tries until it holds. */
async function eventually<T>(what: string, attempt: () => Promise<T>): Promise<NonNullable<T>> {
  for (const end = Date.now() + 60_000; ; await sleep(20)) {
    const found = await attempt();
    if (found) return found;
    ok(Date.now() < end, `${what}: not after 60 s`);
  }
}

/** A client that asks the nodes it is given, and no other unless the options say so. */
function asking(endpoints: string[], options: Options = {}): Client {
  return Client.connect(endpoints, { coordination: "any", ...options });
}

async function connected(
  endpoints: string[],
  use: (client: Client) => Promise<void>,
  options: Options = {},
): Promise<void> {
  const client = asking(endpoints, options);
  try {
    await use(client);
  } finally {
    client.close();
  }
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has something done to a node by whoever runs this; the word that comes with the answer. */
async function driver(action: string, node: number): Promise<string> {
  console.log(`do ${action} ${node}`);
  const [done, word] = String((await answers.next()).value).split(" ");
  equal(done, "done", `the answer to ${action}`);
  return word ?? "";
}

// A set of words, as text.
const elements = (value: Buffer | undefined): string[] =>
  (value?.toString() ?? "").split(" ").filter(Boolean);
const joined = (words: Iterable<string>): string => [...new Set(words)].sort().join(" ");
const union = (siblings: readonly Version[]): string =>
  joined(siblings.flatMap(({ value }) => elements(value)));
const adding = (word: string) => (value: Buffer | undefined) => joined([...elements(value), word]);
const texts = (values: readonly Buffer[]): string[] => values.map(String).sort();

async function values(client: Client): Promise<void> {
  const absent = await client.get("kept", "greeting");
  equal([absent.value, absent.siblings], [undefined, []], "an absent key");
  const first = await client.put("kept", "greeting", "hello", { context: absent.context });
  ok(first.acked >= 2 && !first.siblingsRemain);
  let read = await client.get("kept", "greeting");
  equal([read.value, read.text], [Buffer.from("hello"), "hello"], "the value");
  equal(read.siblings[0]?.dots, [first.dot], "the dot");
  const { context } = read;
  const second = await client.put("kept", "greeting", "good day", { context });
  equal((await client.get("kept", "greeting")).text, "good day", "replaced");
  // What a put answers is as good as another get.
  const buffered = { context: second.context, durability: "buffered" } as const;
  await client.put("kept", "greeting", "", buffered);
  read = await client.get("kept", "greeting");
  equal(read.value, Buffer.alloc(0), "an empty value is a value");
  await client.delete("kept", "greeting", { context: read.context });
  equal((await client.get("kept", "greeting")).value, undefined, "deleted");
  const stored = await client.siblings("kept", "greeting");
  ok(stored.siblings.every(({ isTombstone }) => isTombstone));
  const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  await client.put("kept", every, every);
  equal((await client.get("kept", every)).value, Buffer.from(every), "binary keys and values");
  await client.delete("kept", every, { observed: true });
  equal((await client.get("kept", every)).value, undefined, "deleted as observed");
}

async function siblings(client: Client): Promise<void> {
  for (const item of ["tea", "milk"]) {
    const written = await client.put("kept", "cart", item);
    equal(written.siblingsRemain, item === "milk", `siblings beside ${item}`);
    equal(written.context === undefined, item === "milk", "a context only of a sole version");
  }
  const both = await client.get("kept", "cart");
  equal(texts(both.values), ["milk", "tea"], "both are kept");
  equal(both.merge?.siblingCount, 2, "the merge info");
  const error = await fails(Conflict, "SIBLINGS", async () => both.value);
  ok(!error.mayBeApplied);
  const sizes = (await client.metadata("kept", "cart")).siblings.map((one) => one.valueBytes);
  equal(sizes.sort(), [3, 4], "the metadata");
  await client.put("kept", "cart", "jam");
  let settled = await client.put("kept", "cart", "milk and tea", { context: both.context });
  ok(settled.siblingsRemain, "what was not seen stays");
  const context = [both.context, (await client.get("kept", "cart")).context];
  settled = await client.put("kept", "cart", "all", { context });
  ok(!settled.siblingsRemain);
  equal((await client.get("kept", "cart")).text, "all", "several contexts are joined");
}

async function updateSettled(client: Client): Promise<void> {
  const words = Array.from({ length: 12 }, (_, number) => `word-${number}`);
  const settle = union;
  await Promise.all(words.map((word) => client.update("kept", "set", adding(word), { settle })));
  await client.update("kept", "set", adding("last"), { settle });
  const found = (await client.get("kept", "set")).text;
  equal(found, joined([...words, "last"]), "no word is lost");
  equal(await client.update("kept", "set", () => undefined), undefined, "left as it is");
  await client.update("kept", "set", async () => DELETE);
  equal((await client.get("kept", "set")).value, undefined, "deleted");
  for (const word of ["one", "two"]) await client.put("kept", "set", word);
  await fails(Conflict, "SIBLINGS", () => client.update("kept", "set", adding("three")));
}

async function updateMerged(client: Client): Promise<void> {
  const addingItem = (number: number) => (value: Buffer | undefined) => {
    const cart = JSON.parse(value?.toString() ?? '{"items":{},"removed":[]}');
    cart.items[`task:${number}`] = { quantity: 1, sku: "tea" };
    return JSON.stringify(cart);
  };
  const numbers = Array.from({ length: 12 }, (_, number) => number);
  await Promise.all(numbers.map((number) => client.update("carts", "c", addingItem(number))));
  const read = await client.get("carts", "c");
  const items = Object.keys(JSON.parse(read.text ?? "{}").items);
  equal(items.sort(), numbers.map((number) => `task:${number}`).sort(), "every item");
  equal(read.merge?.failure, undefined);
}

async function errors(client: Client): Promise<void> {
  const unknown = () => client.get("nowhere", "k");
  const error = await fails(UnknownKeyspace, "UNKNOWN_KEYSPACE", unknown);
  equal([error.metadata["keyspace"], error.mayBeApplied], ["nowhere", false]);
  const large = () => client.put("kept", "k".repeat(5000), "v");
  const tooLarge = await fails(Refused, "KEY_TOO_LARGE", large);
  equal([tooLarge.violations[0]?.subject, tooLarge.effect], ["key", "NONE"]);
  await fails(Refused, "KEY_EMPTY", () => client.get("kept", ""));
  await fails(Refused, "BAD_QUORUM", () => client.put("kept", "k", "v", { w: 4 }));
  await fails(Refused, "NO_CONTEXT", () => client.delete("kept", "k"));
  const forged = { context: Buffer.from("forged") };
  await fails(StaleContext, "CONTEXT_FORGED", () => client.put("kept", "k", "v", forged));
  const { context } = await client.get("kept", "one");
  const current = { context, onlyIfCurrent: true };
  const { dot } = await client.put("kept", "one", "first", current);
  await fails(StaleContext, "CHANGED", () => client.put("kept", "one", "second", current));
  equal((await client.get("kept", "one", { atLeast: [dot] })).text, "first", "its own write");
}

async function requestIds(client: Client): Promise<void> {
  const requestId = "order 7";
  const first = await client.put("kept", "order", "paid", { requestId });
  const again = await client.put("kept", "order", "paid", { requestId });
  equal(again.dot, first.dot, "a retry is the same write");
  equal((await client.siblings("kept", "order")).siblings.length, 1, "versions");
  const other = () => client.put("kept", "order", "refunded", { requestId });
  equal((await fails(RequestIdReused, "REQUEST_ID_REUSED", other)).dot, first.dot, "the dot");
}

const of = (outcome: Outcome | undefined): Versions => {
  ok(outcome instanceof Versions, String(outcome));
  return outcome;
};
const kindOf = (outcome: Outcome | undefined) => outcome?.constructor;

async function batches(client: Client): Promise<void> {
  const numbers = [0, 1, 2];
  const items = numbers.map((n) => ({
    put: "kept",
    key: `batch-${n}`,
    value: `value ${n}`,
    w: 3,
    labels: { n: String(n) },
  }));
  const context = Buffer.from("forged");
  const none = { put: "nowhere", key: "k", value: "v" };
  const written = await client.batch([...items, none, { delete: "kept", key: "k", context }]);
  equal(written.slice(0, 3).map((one) => (one as Written).acked), [3, 3, 3], "each put");
  equal(written.slice(3).map(kindOf), [UnknownKeyspace, StaleContext]);
  ok(!(written[3] as StatorError).mayBeApplied);
  const gets = [...numbers, 3].map((n) => ({ get: "kept", key: `batch-${n}` }));
  const read = await client.batch(gets);
  const told = read.map((one) => of(one).text);
  equal(told, ["value 0", "value 1", "value 2", undefined], "each get");
  equal({ ...of(read[2]).siblings[0]?.labels }, { n: "2" }, "the labels");
  const changed = await client.batch([
    { put: "kept", key: "batch-0", value: "new", context: of(read[0]).context },
    { delete: "kept", key: "batch-1", context: of(read[1]).context },
  ]);
  ok(changed.every((one) => !(one as Written).siblingsRemain));
  const after = await client.batch(gets.slice(0, 2));
  equal(after.map((one) => of(one).text), ["new", undefined], "replaced and deleted");
  const many = Array.from({ length: 257 }, () => ({ get: "kept", key: "k" }));
  await fails(Refused, "BATCH_TOO_LARGE", () => client.batch(many));
}

async function lists(client: Client): Promise<void> {
  const keys = Array.from({ length: 300 }, (_, n) => `list-${String(n).padStart(3, "0")}`);
  for (let at = 0; at < keys.length; at += 100) {
    const puts = keys.slice(at, at + 100).map((key) => ({ put: "kept", key, value: `v ${key}`, w: 3 }));
    await client.batch(puts);
  }
  await client.delete("kept", "list-007", { observed: true });
  const left = keys.filter((key) => key !== "list-007");
  const listed = async (options: ListOptions = {}) => {
    const found: Versions[] = [];
    for await (const key of client.list("kept", { prefix: "list-", ...options })) found.push(key);
    return found;
  };
  const names = (found: readonly Versions[]) => found.map(({ key }) => key.toString()).sort();
  const found = await listed({ view: "merged" });
  equal(names(found), left, "every key once");
  ok(found.every(({ key, text }) => text === `v ${key}`));
  ok((await listed()).every(({ siblings }) => siblings[0]?.value === undefined), "no values");
  equal((await listed({ limit: 5 })).length, 5, "as many as one wants");
  const range = { prefix: "", start: "list-100", until: "list-110" };
  equal(names(await listed(range)), keys.slice(100, 110), "a range");
  const first = client.list("kept", { prefix: "list-" });
  const before: Versions[] = [];
  for await (const key of first) {
    before.push(key);
    if (before.length === 200) break;
  }
  const rest = await listed({ token: first.token });
  equal([...new Set(names([...before, ...rest]))], left, "from where another listing was");
  ok(rest.length > 0 && rest.length < left.length);
  // The node that tells goes away in the middle: another one goes on.
  await connected(NODES.slice(0, 2), async (two) => {
    const seen: Versions[] = [];
    for await (const key of two.list("kept", { prefix: "list-" })) {
      if (seen.length === 0) await driver("pause", 1);
      seen.push(key);
      if (seen.length === left.length) break;
    }
    await driver("resume", 1);
    equal(names(seen), left, "across a break");
  });
}

/** Takes events until all these keys have these texts. */
async function until(
  events: AsyncIterator<Event>,
  wanted: Record<string, string | undefined>,
): Promise<void> {
  const left = new Map(Object.entries(wanted));
  while (left.size > 0) {
    const { done, value } = await events.next();
    ok(!done, `it ended before ${[...left.keys()]}`);
    if (value.event !== "changed") continue;
    const key = value.now.key.toString();
    if (left.has(key) && value.now.text === left.get(key)) left.delete(key);
  }
}

async function watches(client: Client): Promise<void> {
  const prefix = "watch-";
  const watch = client.watch("kept", { prefix });
  const events = watch[Symbol.asyncIterator]() as AsyncGenerator<Event>;
  for (let told; told?.event !== "begun"; ) told = (await events.next()).value as Event;
  const { context } = await client.put("kept", "watch-1", "one");
  await client.put("kept", "elsewhere", "v");
  await until(events, { "watch-1": "one" });
  await client.put("kept", "watch-1", "two", { context });
  await client.put("kept", "watch-2", "three");
  await until(events, { "watch-1": "two", "watch-2": "three" });
  await driver("pause", 3);
  await connected(NODES.slice(0, 2), async (near) => {
    await near.put("kept", "watch-3", "without it", { requestId: "w" });
    await until(events, { "watch-3": "without it" });
  });
  await driver("resume", 3);
  const resume = watch.token;
  await events.return(undefined);
  await client.put("kept", "watch-4", "between");
  await client.delete("kept", "watch-2", { observed: true });
  const again = client.watch("kept", { prefix, resume })[Symbol.asyncIterator]();
  await until(again, { "watch-4": "between", "watch-2": undefined });
  await again.return?.();
  const other = async () => client.watch("kept", { prefix: "other-", resume });
  await fails(Refused, "BAD_TOKEN", other);
  const there: Record<string, string | undefined> = {};
  let isListing = false;
  for await (const told of client.watch("kept", { prefix, fromStart: true })) {
    isListing ||= told.event === "listing";
    if (told.event === "changed" && isListing) there[told.now.key.toString()] = told.now.text;
    if (told.event === "listed") break;
  }
  const all = { "watch-1": "two", "watch-3": "without it", "watch-4": "between" };
  equal(there, all, "all there is");
  const gone = client.watch("nowhere")[Symbol.asyncIterator]();
  await fails(UnknownKeyspace, "UNKNOWN_KEYSPACE", () => until(gone, { k: "v" }));
}

async function quotas(client: Client): Promise<void> {
  for (const key of ["one", "two"]) await client.put("small", key, "v", { w: 3 });
  const put = () => client.put("small", "three", "v");
  const error = await fails(QuotaExceeded, "QUOTA_EXCEEDED", put);
  equal([error.quota, error.found, error.max, error.effect], ["keys", 2, 2, "NONE"]);
  equal(error.retryAfterMs, undefined);
  const [outcome] = await client.batch([{ put: "small", key: "three", value: "v" }]);
  ok(outcome instanceof QuotaExceeded && outcome.quota === "keys", String(outcome));
  const { context } = await client.get("small", "one");
  await client.put("small", "one", "a larger value", { context });
  const refused = (once: Client) => () =>
    once.get("slow", "k").then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof QuotaExceeded) return error;
        throw error;
      },
    );
  const use = async (once: Client) => {
    const error = await eventually("requests are refused", refused(once));
    ok(error.quota === "requests" && (error.retryAfterMs ?? 0) > 0, error.message);
  };
  await connected([FIRST], use, { attemptsMax: 1 });
  // Others wait as long as they are told to.
  await client.get("slow", "k", { timeoutMs: 30_000 });
}

async function ttlAndLabels(client: Client): Promise<void> {
  const labels = { from: "a test" };
  await client.put("kept", "brief", "v", { ttlMs: 3_600_000, labels, schema: 3 });
  const { siblings, context } = await client.get("kept", "brief");
  const [version] = siblings;
  equal([version?.schema, { ...version?.labels }], [3, labels], "schema and labels");
  const lives = (version?.expiresAtMs ?? 0) - (version?.writtenAtMs ?? 0);
  equal(lives, 3_600_000, "the time to live");
  await client.put("kept", "brief", "v", { ttlMs: 200, context });
  await eventually("it expires", async () => {
    const read = await client.get("kept", "brief");
    return read.siblings.length === 0 ? read : undefined;
  });
}

async function deadline(client: Client): Promise<void> {
  const alone = asking([FIRST]);
  const both = asking(NODES.slice(0, 2));
  for (const some of [alone, both, both]) await some.get("kept", "slow");
  await driver("pause", 1);
  const timeoutMs = 500;
  await fails(DeadlineExceeded, "NO_ANSWER", () => alone.get("kept", "slow", { timeoutMs }));
  const put = () => alone.put("kept", "slow", "maybe", { timeoutMs });
  ok((await fails(DeadlineExceeded, "NO_ANSWER", put)).mayBeApplied);
  const signal = AbortSignal.timeout(100);
  const stopped = await alone.get("kept", "slow", { signal }).catch((error: Error) => error);
  equal((stopped as Error).name, "TimeoutError", "the signal's word");
  // Its turn: it gets half of the time, and the other node does it.
  const named = { requestId: "named", timeoutMs: 6000 };
  ok((await both.put("kept", "named", "v", named)).acked >= 2);
  await driver("resume", 1);
  equal((await client.get("kept", "named")).text, "v", "one write");
  alone.close();
  both.close();
}

async function oneEndpoint(): Promise<void> {
  await connected(
    [FIRST],
    async (some) => {
      await some.put("kept", "lone", "v");
      await eventually("it goes on with others", async () => {
        await some.get("kept", "lone");
        // It is left paused if that works.
        await driver("pause", 1);
        try {
          return await some.get("kept", "lone");
        } catch (error) {
          if (!(error instanceof DeadlineExceeded || error instanceof Unreachable)) throw error;
          await driver("resume", 1);
          return undefined;
        }
      });
      for (let number = 0; number < 6; number += 1) {
        await some.put("kept", `lone-${number}`, "v", { requestId: `lone-${number}` });
        equal((await some.get("kept", "lone")).text, "v", "by another node");
      }
      await driver("resume", 1);
    },
    { timeoutMs: 6000, coordination: "owner" },
  );
}

async function deadEndpoint(): Promise<void> {
  await connected([DEAD, ...NODES.slice(0, 2)], async (some) => {
    for (let number = 0; number < 6; number += 1) {
      await some.put("kept", `dead-${number}`, "v");
      equal((await some.get("kept", `dead-${number}`)).text, "v", "served elsewhere");
    }
  });
  await connected([DEAD], async (none) => {
    const error = await fails(Unreachable, "NOT_CONNECTED", () => none.put("kept", "k", "v"));
    ok(!error.mayBeApplied);
  });
  await fails(Refused, "BAD_ENDPOINT", async () => Client.connect(["https://127.0.0.1:1"]));
}

async function notReached(alone: Client): Promise<NotReached | undefined> {
  try {
    await alone.put("cut", "other", "v", { w: 2, timeoutMs: 2000 });
  } catch (error) {
    if (error instanceof NotReached) return error;
    // A busy machine: the node's answer came too late.
    if (error instanceof DeadlineExceeded) return undefined;
    throw error;
  }
  throw new Error("one node is not two");
}

async function partition(client: Client): Promise<void> {
  const near = asking(NODES.slice(0, 2));
  const far = asking([THIRD]);
  const { context } = await near.put("cut", "k", "before", { w: 3 });
  await driver("cut", 3);
  await near.put("cut", "k", "majority", { context });
  await far.put("cut", "k", "minority", { context });
  const error = await eventually("a put of two is refused", () => notReached(far));
  equal([error.reason, error.needed], ["QUORUM_NOT_REACHED", 2]);
  ok(error.answered < 2 && error.effect === error.metadata["effect"], error.message);
  const sides = { near, far };
  const keys = Array.from({ length: 5 }, (_, number) => `set-${number}`);
  const settle = union;
  const writes = Object.entries(sides).flatMap(([name, side]) =>
    keys.map((key) => side.update("cut", key, adding(name), { settle })),
  );
  await Promise.all(writes);
  await driver("heal", 3);
  near.close();
  far.close();

  for (const address of NODES) {
    await connected([address], async (one) => {
      const sees = (key: string, expected: string) =>
        eventually(`${address} has both of ${key}`, async () => {
          const found = texts((await one.get("cut", key)).values).join(" ");
          return found === expected ? found : undefined;
        });
      await sees("k", "majority minority");
      for (const key of keys) await sees(key, "far near");
    });
  }
  for (const key of keys) {
    await client.update("cut", key, adding("after"), { settle, w: 3 });
    const { text } = await client.get("cut", key, { r: 3 });
    equal(text, "after far near", "nothing acknowledged is lost");
  }
}

/** Writers go on while a node dies, and stays dead. */
async function kill(client: Client): Promise<void> {
  const acknowledged: string[] = [];
  let failure: unknown;
  let isOver = false;
  const write = async (lane: number) => {
    for (let number = 0; !isOver; number += 1) {
      const key = `kill-${lane}-${number}`;
      await client.put("kept", key, key, { requestId: key });
      acknowledged.push(key);
    }
  };
  const writers = [0, 1, 2, 3].map((lane) =>
    write(lane).catch((error: unknown) => {
      failure = error;
    }),
  );
  const more = (goal: number) =>
    eventually("puts are acknowledged", async () => {
      if (failure !== undefined) throw failure;
      return acknowledged.length >= goal ? acknowledged : undefined;
    });
  await more(40);
  await driver("kill", 1);
  await more(acknowledged.length + 100);
  isOver = true;
  await Promise.all(writers);
  equal(failure, undefined);
  for (const key of acknowledged) equal((await client.get("kept", key)).text, key, "acknowledged");
  await connected([FIRST], async (gone) => {
    await fails(Unreachable, "NOT_CONNECTED", () => gone.get("kept", "k"));
  });
}

/** The last one, for the cluster serves nobody else from then on. */
async function roles(client: Client): Promise<void> {
  await client.put("kept", "guarded", "v");
  const token = await driver("close", 2);
  const refused = (some: Client) =>
    some.get("kept", "guarded").then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof NotAllowed) return error;
        throw error;
      },
    );
  for (const node of NODES.slice(1)) {
    await connected([node], async (nobody) => {
      const error = await eventually("it serves only who has a role", () => refused(nobody));
      equal([error.reason, error.effect], ["NOT_KNOWN", "NONE"]);
    });
    const use = async (reader: Client) => {
      await eventually("the token is known", async () => (await refused(reader)) === undefined);
      equal((await reader.get("kept", "guarded")).text, "v", "by a reader");
      const put = () => reader.put("kept", "guarded", "w");
      ok(!(await fails(NotAllowed, "NOT_ALLOWED", put)).mayBeApplied);
    };
    await connected([node], use, { token });
  }
}

async function main(): Promise<void> {
  const scenarios = {
    values,
    siblings,
    update_settled: updateSettled,
    update_merged: updateMerged,
    errors,
    request_ids: requestIds,
    batches,
    lists,
    watches,
    quotas,
    ttl_and_labels: ttlAndLabels,
    deadline,
    one_endpoint: oneEndpoint,
    dead_endpoint: deadEndpoint,
    partition,
    kill,
    roles,
  };
  const everyone = async (client: Client): Promise<void> => {
    for (const [name, scenario] of Object.entries(scenarios)) {
      console.log(`scenario ${name}`);
      await scenario(client);
    }
  };
  await connected(NODES, everyone, { coordination: "owner" });
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
