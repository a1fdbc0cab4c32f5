// What a watch has told, so that it tells each state of a key once and never goes back.
//
// Two states compare by what they have seen; of the same the object's hash tells whether one has ended.

import { createHash } from "node:crypto";

import type { Versions } from "./values";

/** Keys whose last state is remembered. */
const KNOWN_MAX = 100_000;

/** What has been seen: of each actor the last write. */
export type Vector = ReadonlyMap<string, number>;

interface Last {
  readonly seen: Vector;
  /** Of the object; empty if it is not known. */
  readonly hash: string;
  /** Tells apart what was told. */
  readonly print: string;
}

export function covers(one: Vector, other: Vector): boolean {
  return [...other].every(([actor, counter]) => (one.get(actor) ?? 0) >= counter);
}

export function vector(dots: readonly string[]): Vector {
  const seen = new Map<string, number>();
  for (const dot of dots) {
    const at = dot.lastIndexOf(":");
    const actor = dot.slice(0, at);
    seen.set(actor, Math.max(Number(dot.slice(at + 1)), seen.get(actor) ?? 0));
  }
  return seen;
}

export function joined(one: Vector, other: Vector): Vector {
  const both = new Map(one);
  for (const [actor, counter] of other) both.set(actor, Math.max(counter, both.get(actor) ?? 0));
  return both;
}

export class Known {
  readonly #keys = new Map<string, Last>();

  seen(key: Buffer): Vector {
    return this.#keys.get(key.toString("latin1"))?.seen ?? new Map();
  }

  /** Whether this state of the key, or a later one, was told. */
  wasTold(key: Buffer, seen: Vector, hash: Buffer): boolean {
    const last = this.#keys.get(key.toString("latin1"));
    if (last === undefined || !covers(last.seen, seen)) return false;
    return last.hash === hash.toString("hex") || !covers(seen, last.seen);
  }

  /** A get gave `now`, of a key that a member said to have `hash` when it had seen `told`. */
  isNew(now: Versions, seen: Vector, told: Vector, hash: Buffer): boolean {
    const before = this.#keys.get(now.key.toString("latin1"));
    const isOlder = before && seen.size > 0 && covers(before.seen, seen) && !covers(seen, before.seen);
    if (isOlder) return false;
    const isSame = before?.print === print(now) && covers(before.seen, seen);
    const isExact = covers(told, seen) && covers(seen, told);
    this.#note(now, seen, isExact ? hash.toString("hex") : "");
    return !isSame;
  }

  listed(now: Versions, seen: Vector): void {
    this.#note(now, seen, "");
  }

  #note(now: Versions, seen: Vector, hash: string): void {
    const key = now.key.toString("latin1");
    this.#keys.delete(key);
    this.#keys.set(key, { seen, hash, print: print(now) });
    if (this.#keys.size > KNOWN_MAX) this.#keys.delete(this.#keys.keys().next().value as string);
  }
}

function print(now: Versions): string {
  const hash = createHash("sha256");
  for (const { dots, isTombstone, value } of now.siblings) {
    hash.update(JSON.stringify([dots, isTombstone, value?.length])).update(value ?? "");
  }
  return hash.digest("base64");
}
