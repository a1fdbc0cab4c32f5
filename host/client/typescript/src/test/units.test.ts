// What can be told without a node: `tests/clients` of the repository has the rest.

import { deepStrictEqual as equal, ok, throws } from "node:assert";
import { test } from "node:test";

import {
  Client,
  Code,
  Conflict,
  DeadlineExceeded,
  LimitReached,
  NotReached,
  Overloaded,
  QuotaExceeded,
  Refused,
  StatorError,
  Unavailable,
  Unreachable,
  Versions,
} from "..";
import { errorOf, toldBy } from "../errors";
import type { GetResponse__Output } from "../generated/stator/v1/GetResponse";
import type { GetRingResponse__Output } from "../generated/stator/v1/GetRingResponse";
import { Known, type Vector } from "../known";
import { Status, v1 } from "../messages";
import { Pace } from "../pace";
import { Budget, isWorthIt, PAUSE_MAX_MS, pauseMs } from "../retry";
import { partitionOf, Ring } from "../routes";

test("keys lie where the published vectors say", () => {
  const vectors: [bigint, Buffer, bigint][] = [
    [0n, Buffer.from(""), 0x45d330a2bb529958760647a5809156acn],
    [1n, Buffer.from("a"), 0x0156a4075b43f3b4cf76aa072e1b1e3bn],
    [0x0123456789abcdefn, Buffer.from("cart:17850"), 0x07e3003489eac530104dfd9a5da6785bn],
    [2n ** 64n - 1n, Buffer.from([0, 0xff, 0x80]), 0x42dc147506772f01608c7d671fd4bca2n],
  ];
  for (const [keyspace, key, position] of vectors) {
    for (const bits of [0, 1, 8, 16]) {
      const partition = Number(position >> BigInt(128 - bits));
      equal(partitionOf(keyspace, key, 2 ** bits), partition);
    }
  }
});

test("a ring is read whole or not at all", () => {
  const ring = {
    partitions: 2,
    positionHash: 1,
    members: [1, 2, 3].map((port) => ({ clientAddress: `n:${port}` })),
    packedOwners: Buffer.from([2, 0, 0, 0, 1, 2, 0, 2, 0, 0]),
    keyspaces: [{ name: "k", id: "0000000000000001", n: 1 }],
  };
  const read = (fields: object) =>
    Ring.read({ etag: "e", ring: { ...ring, ...fields } } as unknown as GetRingResponse__Output);
  // The position of (1, "a") begins with 0x01.
  equal(read({})?.ownersOf("k", Buffer.from("a")), ["n:1"]);
  equal(read({})?.ownersOf("other", Buffer.from("a")), []);
  for (const wrong of [
    { positionHash: 2 },
    { partitions: 4 },
    { packedOwners: Buffer.from([1, 0, 3, 1, 0, 0]) },
    { packedOwners: Buffer.from([2, 0, 0, 0, 1, 2, 0]) },
  ]) {
    equal(read(wrong), undefined);
  }
});

test("who is slow or has much to do costs more", () => {
  const [slow, fast, fresh] = [new Pace(), new Pace(), new Pace()];
  slow.asked();
  slow.ended(1000, 100, false);
  fast.asked();
  fast.ended(1000, 10, false);
  ok(fresh.cost(1000) < fast.cost(1000) && fast.cost(1000) < slow.cost(1000));
  for (let open = 0; open < 20; open += 1) fast.asked();
  ok(slow.cost(1000) < fast.cost(1000));
  ok(slow.cost(100_000) < 1, "it is tried again some time");
  fresh.asked();
  fresh.ended(1000, 200, true);
  ok(fresh.cost(1000) >= 1000);
});

const detail = (type: string, fields: object) => ({
  "@type": `type.googleapis.com/google.rpc.${type}`,
  ...fields,
});
const SOON = detail("RetryInfo", { retryDelay: { nanos: 7e6 } });

/** An error as a node gives it; without a reason as nobody does. */
function said(
  code: Code,
  reason?: string,
  metadata: Record<string, string> = {},
  ...more: object[]
): StatorError {
  const info = { reason, domain: "stator", metadata };
  const details = reason === undefined ? more : [detail("ErrorInfo", info), ...more];
  return errorOf(toldBy(code, "words", Status.serialize({ details })));
}

test("class, reason and effect", () => {
  const none = { effect: "NONE" };
  const maybe = { effect: "MAYBE" };
  const table: [StatorError, typeof StatorError, boolean][] = [
    [said(Code.UNAVAILABLE, "QUORUM_NOT_REACHED", none), NotReached, false],
    [said(Code.DEADLINE_EXCEEDED, "QUORUM_NOT_REACHED", maybe), NotReached, true],
    [said(Code.UNAVAILABLE, "NEWER", { effect: "something newer" }), Unavailable, true],
    [said(Code.NOT_FOUND, "UNKNOWN_MODULE"), Refused, false],
    [said(Code.DEADLINE_EXCEEDED, "STOPPING", maybe), Unavailable, true],
    [said(Code.RESOURCE_EXHAUSTED, "TOO_MANY_SIBLINGS"), LimitReached, false],
    [said(Code.RESOURCE_EXHAUSTED, "OVERLOADED", {}, SOON), Overloaded, false],
    [said(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"), QuotaExceeded, false],
    [said(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", {}, SOON), QuotaExceeded, false],
    [said(Code.UNAVAILABLE), Unreachable, true],
    [said(Code.INTERNAL), Unreachable, true],
    [said(Code.DEADLINE_EXCEEDED), DeadlineExceeded, true],
    [said(Code.RESOURCE_EXHAUSTED), Unreachable, true],
    [said(Code.DATA_LOSS), StatorError, true],
  ];
  for (const [error, kind, mayBeApplied] of table) {
    equal([error.constructor, error.mayBeApplied], [kind, mayBeApplied], error.message);
  }
});

test("a watch tells each state once, and none goes back", () => {
  const key = Buffer.from("key");
  const hash = (text: string) => Buffer.from(text);
  const now = (...values: string[]) => {
    const made = values.map((value) => ({ value: Buffer.from(value), dots: [value] }));
    const answer = v1.Kv.service.Get.responseDeserialize(
      v1.Kv.service.Get.responseSerialize({ versions: made }),
    );
    return new Versions("k", key, answer as GetResponse__Output);
  };
  const known = new Known();
  const first: Vector = new Map([["a", 1]]);
  const second: Vector = new Map([...first, ["b", 1]]);
  ok(known.isNew(now("1"), first, first, hash("h1")));
  ok(known.wasTold(key, first, hash("h1")));
  ok(!known.wasTold(key, second, hash("h2")));
  ok(known.isNew(now("2"), second, second, hash("h2")));
  ok(known.wasTold(key, first, hash("h1")), "by one that is behind");
  ok(!known.isNew(now("1"), first, first, hash("h1")));
  ok(!known.wasTold(key, new Map([["c", 1]]), hash("h3")), "a concurrent write");
  // It ended, or was folded: nothing else was seen.
  ok(!known.wasTold(key, second, hash("h4")));
  ok(known.isNew(now(), second, second, hash("h4")));
  ok(!known.isNew(now(), new Map(), second, hash("h4")), "forgotten");
});

test("details", () => {
  const violation = { field: "key", description: "too long" };
  const bad = detail("BadRequest", { fieldViolations: [violation] });
  const error = said(Code.INVALID_ARGUMENT, "KEY_TOO_LARGE", { a: "b" }, bad, SOON);
  equal(error.violations, [{ subject: "key", description: "too long" }]);
  equal([error.metadata["a"], error.retryAfterMs], ["b", 7]);
  equal(error.message, "words [KEY_TOO_LARGE]");
});

test("who is no node gives no reason", () => {
  const elsewhere = detail("ErrorInfo", { reason: "QUORUM_NOT_REACHED", domain: "elsewhere" });
  equal(said(Code.UNAVAILABLE, undefined, {}, elsewhere).reason, "NO_ANSWER");
  equal(said(Code.NOT_FOUND).reason, "");
});

test("a write is repeated only if the first did nothing", () => {
  const none = { effect: "NONE" };
  const table: [StatorError, boolean, boolean][] = [
    [said(Code.UNAVAILABLE, "R", none), true, true],
    [said(Code.UNAVAILABLE), false, true],
    [said(Code.DEADLINE_EXCEEDED, "R", { effect: "MAYBE" }), false, true],
    [said(Code.RESOURCE_EXHAUSTED, "R", {}, SOON), true, true],
    [said(Code.RESOURCE_EXHAUSTED, "R", none), false, false],
    [said(Code.FAILED_PRECONDITION, "NODE_REMOVED", none), true, true],
    [said(Code.INVALID_ARGUMENT, "R"), false, false],
    [said(Code.INTERNAL, "R"), false, false],
    [said(Code.INTERNAL), false, true],
    [said(Code.RESOURCE_EXHAUSTED), false, true],
    [said(Code.ABORTED, "R"), false, false],
  ];
  for (const [error, once, repeatable] of table) {
    equal([isWorthIt(error, false), isWorthIt(error, true)], [once, repeatable], error.message);
  }
});

test("pauses grow to a bound and honour what is asked", () => {
  for (let attempt = 1; attempt < 50; attempt += 1) {
    const most = Math.min(25 * 2 ** (attempt - 1), PAUSE_MAX_MS);
    const pause = pauseMs(attempt, undefined);
    ok(most / 2 <= pause && pause <= most, `${attempt}: ${pause}`);
  }
  ok(pauseMs(1, PAUSE_MAX_MS) > PAUSE_MAX_MS);
});

test("retries are a tenth of the requests", () => {
  const budget = new Budget(0);
  const taken = (nowMs: number) =>
    Array.from({ length: 2000 }, () => budget.take(nowMs)).filter(Boolean).length;
  equal(taken(0), 100);
  for (let request = 0; request < 500; request += 1) budget.request();
  ok([49, 50].includes(taken(0)));
  equal(taken(2000), 20);
  equal(taken(1e6), 100);
});

test("siblings have no one value, and no context replaces nothing", () => {
  const { serialize, deserialize } = v1.GetResponse;
  const read = (answer: object) => {
    const message = deserialize(serialize(answer)) as GetResponse__Output;
    return new Versions("k", Buffer.from("key"), message);
  };
  const versions = ["a", "b"].map((value) => ({ value: Buffer.from(value) }));
  const two = read({ versions, context: Buffer.from("seen") });
  equal([two.values.map(String), String(two.context)], [["a", "b"], "seen"]);
  throws(() => two.value, Conflict);
  const empty = read({ versions: [{ value: Buffer.alloc(0) }] });
  equal(empty.value, Buffer.alloc(0));
  throws(() => empty.context, { reason: "NO_CONTEXT" });
});

test("endpoints", () => {
  for (const endpoint of ["http://node:1", "[::1]:1", "127.0.0.1:1"]) {
    Client.connect([endpoint]).close();
  }
  const bad = ["https://node:1", "node", "not an:address", "ftp://node:1"];
  for (const endpoints of [[], ...bad.map((endpoint) => [endpoint])]) {
    throws(() => Client.connect(endpoints), Refused);
  }
});
