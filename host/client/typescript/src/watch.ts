// What is changed of some keys, as it happens: the streams of all members made one.
//
// Each member tells what its own store takes (`Kv.Watch`), and that a key was changed, not what it is
// now. A watch has a stream from each of them, asks a get what the key is, with what the member told as
// `at_least`, and tells each state once. So it needs no node in particular: while one is away the other
// owners of its keys tell the same writes, and what only it has taken is told when it is back, from where
// its stream was. `docs/watch.md` of Stator says what is promised.
//
// Answers of members are worked off one after the other, and only while somebody takes events: who is
// slow holds up the nodes' streams, which cost them nothing then. A member's position moves on once all
// of an answer is told; what cannot be read yet is asked for again every second, and holds that
// member's position.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { refusedHere, StatorError } from "./errors";
import type { ListedKey__Output } from "./generated/stator/v1/ListedKey";
import type { View } from "./generated/stator/v1/View";
import type { WatchedKey__Output } from "./generated/stator/v1/WatchedKey";
import type { WatchResponse__Output } from "./generated/stator/v1/WatchResponse";
import { follow, type Heard, Queue } from "./follow";
import { covers, joined, Known, type Vector, vector } from "./known";
import { Listing } from "./listing";
import type { Nodes } from "./nodes";
import { now, type Peer } from "./peer";
import { isWorthIt } from "./retry";
import { Versions } from "./values";

/** What a watch tells. */
export type Event =
  /** Every write that is sent from now on will be told. Told once; changes may come before it. */
  | { readonly event: "begun" }
  /** A key was changed: what it is `now`, no version where it was deleted. */
  | { readonly event: "changed"; readonly now: Versions }
  /**
   * All keys are told from here on, because it was asked for or because changes can be told no more.
   * Changes go on meanwhile. Told again if it begins anew.
   */
  | { readonly event: "listing" }
  /** All are: what was not told since `listing` is not there any more. */
  | { readonly event: "listed" }
  /** A member is not reached; what it alone has taken is told when it is. */
  | { readonly event: "away"; readonly node: string; readonly why: string }
  /** It is reached again. */
  | { readonly event: "back"; readonly node: string };

/** What is watched, and from when on. */
export interface Watching {
  readonly keyspace: string;
  /** Only this key. */
  readonly key: Buffer;
  /** Only keys that begin with this. */
  readonly prefix: Buffer;
  readonly view: View;
  readonly fromStart: boolean;
  readonly resume: string | undefined;
}

interface Member {
  readonly peer: Peer;
  readonly stop: AbortController;
  /** How far its stream was heard. What of that is told stands in the token. */
  reached: string;
  /** What is not read yet, as it was told last, by key. */
  later: Map<string, WatchedKey__Output>;
  isAway: boolean;
}

/** How long members that do not answer are waited for at the beginning. */
const BEGIN_WITHIN_MS = 5000;
/** How often what could not be read is asked for again, and for how long at a time. */
const TICK_MS = 1000;
const RETRY_MS = 2000;
/** How often it is looked who is a member. */
const RING_PERIOD_MS = 5000;
/** Keys that could not be read; beyond it members are not listened to until some are. */
const LATER_MAX = 10_000;
/** Gets at a time, those of what could not be read, and dots that one takes. */
const GETS_MAX = 32;
const RETRIED_MAX = 256;
const DOTS_MAX = 1000;
const START = "start";

/** Events, one after the other: `for await (const event of watch)`. What is not reached is waited for; it
 * throws what another attempt does not help against: the keyspace is gone, or the role. */
export class Watch implements AsyncIterable<Event> {
  readonly #nodes: Nodes;
  readonly #watching: Watching;
  readonly #range: string;
  readonly #positions = new Map<string, string>();
  readonly #members = new Map<string, Member>();
  readonly #heard = new Queue<Heard>(4);
  readonly #known = new Known();
  #page: string | undefined;

  /** By `Client.watch`. */
  constructor(nodes: Nodes, watching: Watching) {
    this.#nodes = nodes;
    this.#watching = watching;
    const { keyspace, key, prefix } = watching;
    const named = JSON.stringify([keyspace, key.toString("hex"), prefix.toString("hex")]);
    this.#range = createHash("sha256").update(named).digest("hex").slice(0, 16);
    if (watching.resume !== undefined) this.#parse(watching.resume);
  }

  /**
   * Where the watch is: one that resumes with it tells all that is changed behind the last event that
   * this one gave, and perhaps a few of the last again. Without meaning before `begun`.
   */
  get token(): string {
    const parts = [...this.#positions].sort().map(([node, position]) => `${node}:${position}`);
    const page = this.#page === undefined ? [] : [`list:${this.#page}`];
    return [`t1:${this.#range}`, ...parts, ...page].join(",");
  }

  #parse(token: string): void {
    const [head, ...parts] = token.split(",");
    const pairs = parts.map((part) => [part.slice(0, part.indexOf(":")), part] as const);
    if (head !== `t1:${this.#range}` || pairs.some(([node]) => node === "")) {
      const message =
        "the token is none of a watch of these keys by this client: resume with the keyspace, key " +
        "or prefix that it was begun with, or begin from now or the start";
      throw refusedHere("BAD_TOKEN", message);
    }
    for (const [node, part] of pairs) {
      const position = part.slice(node.length + 1);
      if (node === "list") this.#page = position;
      else this.#positions.set(node, position);
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined> {
    const { fromStart, resume } = this.#watching;
    const until = now() + BEGIN_WITHIN_MS;
    let hasBegun = false;
    let lookedAt = Number.NEGATIVE_INFINITY;
    let retriedAt = Number.NEGATIVE_INFINITY;
    try {
      if (this.#page !== undefined) yield* this.#list(this.#page);
      for (;;) {
        if (now() - lookedAt >= RING_PERIOD_MS) {
          await this.#look(!hasBegun);
          lookedAt = now();
        }
        if (now() - retriedAt >= TICK_MS) {
          retriedAt = now();
          yield* await this.#retry();
          this.#settle();
        }
        const heard = await this.#next();
        if (heard !== undefined) yield* this.#take(heard);
        if (!hasBegun && this.#isReached(until)) {
          hasBegun = true;
          yield { event: "begun" };
          if (fromStart && resume === undefined) yield* this.#list("");
        }
      }
    } finally {
      for (const node of [...this.#members.keys()]) this.#unfollow(node);
      this.#heard.close();
    }
  }

  #isReached(until: number): boolean {
    const members = [...this.#members.values()];
    return members.length > 0 && (now() >= until || members.every(({ reached }) => reached !== ""));
  }

  async #next(): Promise<Heard | undefined> {
    let later = 0;
    for (const member of this.#members.values()) later += member.later.size;
    if (later < LATER_MAX) return this.#heard.take(TICK_MS);
    await sleep(TICK_MS);
    return undefined;
  }

  /** Follows who is a member now. */
  async #look(isBeginning: boolean): Promise<void> {
    let answer;
    try {
      answer = await this.#nodes.ring({ packed: true });
    } catch (error) {
      const passes = error instanceof StatorError && isWorthIt(error, true);
      if (passes && this.#members.size > 0) return;
      throw error;
    }
    const members = answer.ring?.members ?? [];
    const found = new Map(members.map(({ nodeId, clientAddress }) => [nodeId, clientAddress]));
    for (const node of [...this.#members.keys()].filter((node) => !found.has(node))) {
      this.#unfollow(node);
      this.#positions.delete(node);
    }
    for (const [node, address] of found) {
      const known = this.#members.get(node);
      if (known?.peer.address === address) continue;
      if (known !== undefined) this.#unfollow(node);
      // What a member has taken since it came nobody else may have told.
      const fresh = isBeginning && this.#watching.resume === undefined ? "" : START;
      const position = known?.reached ?? this.#positions.get(node) ?? fresh;
      // A connection of its own: what is not read yet must not be in the way of gets.
      const peer = this.#nodes.dial(address);
      const stop = new AbortController();
      const later = known?.later ?? new Map<string, WatchedKey__Output>();
      this.#members.set(node, { peer, stop, reached: "", later, isAway: false });
      const { keyspace, key, prefix } = this.#watching;
      const request = { keyspace, key, prefix, position };
      void follow({ node, peer, nodes: this.#nodes, signal: stop.signal }, request, this.#heard);
    }
  }

  #unfollow(node: string): void {
    const member = this.#members.get(node);
    this.#members.delete(node);
    member?.stop.abort();
    member?.peer.close();
  }

  async *#take({ node, told }: Heard): AsyncGenerator<Event, void, undefined> {
    const member = this.#members.get(node);
    if (member === undefined) return;
    if (told instanceof StatorError) throw told;
    const wasAway = member.isAway;
    member.isAway = typeof told === "string";
    if (typeof told === "string") {
      if (!wasAway) yield { event: "away", node, why: told };
      return;
    }
    member.reached = told.position;
    if (wasAway) yield { event: "back", node };
    yield* this.#changes(member, told);
  }

  async *#changes(
    member: Member,
    told: WatchResponse__Output,
  ): AsyncGenerator<Event, void, undefined> {
    if (told.gap) {
      // A listing tells all of them.
      member.later.clear();
      yield* this.#list("");
    }
    yield* await this.#readAll(member, told.changes);
    this.#settle();
  }

  /** All that was heard of a member is told, or is to be read later. */
  #settle(): void {
    for (const [node, { reached, later }] of this.#members) {
      if (reached !== "" && later.size === 0) this.#positions.set(node, reached);
    }
  }

  /** Asks again for what could not be read. */
  async #retry(): Promise<Event[]> {
    const found: Event[] = [];
    for (const member of [...this.#members.values()]) {
      const some = [...member.later.values()].slice(0, RETRIED_MAX);
      found.push(...(await this.#readAll(member, some, RETRY_MS)));
    }
    return found;
  }

  /** What there is now of what the member told, as far as it is new. */
  async #readAll(
    member: Member,
    changes: readonly WatchedKey__Output[],
    timeoutMs?: number,
  ): Promise<Event[]> {
    const asks = changes.filter((change) => {
      const name = change.key.toString("latin1");
      const isKnown = this.#known.wasTold(change.key, vector(change.seen), change.hash);
      if (isKnown) member.later.delete(name);
      else member.later.set(name, change);
      return !isKnown;
    });
    const found: Event[] = [];
    for (let at = 0; at < asks.length; at += GETS_MAX) {
      const some = asks.slice(at, at + GETS_MAX);
      const read = ({ key, seen }: WatchedKey__Output) =>
        this.#read(key, vector(seen), this.#known.seen(key), timeoutMs);
      const answers = await Promise.all(some.map(read));
      for (const [index, answer] of answers.entries()) {
        const change = some[index] as WatchedKey__Output;
        if (answer === undefined) continue;
        const name = change.key.toString("latin1");
        // Unless it was told again since.
        if (member.later.get(name) === change) member.later.delete(name);
        const [state, seen] = answer;
        if (this.#known.isNew(state, seen, vector(change.seen), change.hash)) {
          found.push({ event: "changed", now: state });
        }
      }
    }
    return found;
  }

  /**
   * What the key is, with all that was `seen` and, if any owner still knows of it, what was told
   * before. Nothing: it cannot be read now.
   */
  async #read(
    key: Buffer,
    seen: Vector,
    known: Vector,
    timeoutMs = this.#nodes.timeoutMs,
  ): Promise<[Versions, Vector] | undefined> {
    const { keyspace, view } = this.#watching;
    const get = async (at: Vector): Promise<[Versions, Vector]> => {
      const atLeast = [...at].slice(0, DOTS_MAX).map(([actor, counter]) => `${actor}:${counter}`);
      const request = { keyspace, key, view, atLeast, tellSeen: true };
      const terms = { isRepeatable: true, timeoutMs, signal: undefined };
      const answer = await this.#nodes.call("get", request, terms);
      return [new Versions(keyspace, key, answer), vector(answer.seen)];
    };
    try {
      if (!covers(seen, known)) {
        try {
          return await get(joined(seen, known));
        } catch (error) {
          // Deletes that were told may be forgotten since.
          if (!(error instanceof StatorError) || error.reason !== "SESSION_BEHIND") throw error;
        }
      }
      return await get(seen);
    } catch (error) {
      if (error instanceof StatorError && isWorthIt(error, true)) return undefined;
      throw error;
    }
  }

  /** Tells all keys, from a page on. */
  async *#list(page: string): AsyncGenerator<Event, void, undefined> {
    yield { event: "listing" };
    const { keyspace, key, prefix, view } = this.#watching;
    if (key.length > 0) {
      let answer: [Versions, Vector] | undefined;
      while ((answer = await this.#read(key, new Map(), new Map())) === undefined) {
        await sleep(TICK_MS);
      }
      this.#known.listed(...answer);
      yield { event: "changed", now: answer[0] };
      yield { event: "listed" };
      return;
    }
    this.#page = page;
    const request = { keyspace, prefix, view, pageToken: page, tellSeen: true };
    for await (const answered of new Listing(this.#nodes, request).pages()) {
      for (const listed of answered.keys) {
        const state = await this.#there(listed);
        if (state !== undefined) yield { event: "changed", now: state };
      }
      this.#page = answered.pageToken;
    }
    this.#page = undefined;
    yield { event: "listed" };
  }

  /** A key is there. It is told even if it was before: else it would count as gone. */
  async #there(listed: ListedKey__Output): Promise<Versions | undefined> {
    let state = new Versions(this.#watching.keyspace, listed.key, listed);
    let seen = vector(listed.seen);
    const known = this.#known.seen(listed.key);
    if (!covers(seen, known)) {
      // A page may be older than what was told since it was read.
      const answer = await this.#read(listed.key, seen, known);
      // What was told stands; whoever lacks it tells it again.
      if (answer === undefined) return undefined;
      [state, seen] = answer;
    }
    this.#known.listed(state, seen);
    return state;
  }
}
