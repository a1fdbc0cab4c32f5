// Reading and writing keys.
//
// Left out: running a cluster (the `Admin` service).

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { StaleContext, StatorError } from "./errors";
import type { View } from "./generated/stator/v1/View";
import { Listing } from "./listing";
import { Nodes, type Options, type Place, type Terms } from "./nodes";
import { now } from "./peer";
import {
  batchItem,
  bytes,
  type Data,
  deleteRequest,
  getRequest,
  type Item,
  type Naming,
  type Observing,
  type Outcome,
  outcomeOf,
  putRequest,
  type Quorum,
  type Reading,
  type Versioning,
  type Writing,
} from "./requests";
import { type Version, Versions, type Written, written } from "./values";
import { Watch } from "./watch";

/** What a `change` returns to have the key deleted. */
export const DELETE = Object.freeze({ delete: true });

/** The next value of a key. Absent: it is left as it is. */
export type Change = (value: Buffer | undefined) => Next | Promise<Next>;
export type Next = Data | typeof DELETE | undefined;
/** One value of several. */
export type Settle = (siblings: readonly Version[]) => Data | Promise<Data>;

export interface CallOptions {
  /** In place of the client's. */
  readonly timeoutMs?: number;
  /** Gives the call up, which may have been applied. */
  readonly signal?: AbortSignal;
}

export interface GetOptions extends CallOptions, Reading {}
export interface WriteOptions extends CallOptions, Writing {}
export interface PutOptions extends WriteOptions, Naming, Versioning {}
export interface DeleteOptions extends WriteOptions, Naming, Observing {}

export interface ListOptions {
  /** Only keys that begin with this. */
  readonly prefix?: Data;
  /** Only this key and those above it, and below `until`. */
  readonly start?: Data;
  readonly until?: Data;
  /**
   * What to tell of each: its versions without values (unless set), what the keyspace's policy makes of
   * them, or all siblings.
   */
  readonly view?: "metadata" | "merged" | "siblings";
  /** How many owners of each partition must answer. */
  readonly r?: number;
  /** Also keys of which only deletes are left. */
  readonly deleted?: boolean;
  /** At most so many. */
  readonly limit?: number;
  /** Where another listing of the same keys was. */
  readonly token?: string;
}

export interface WatchOptions {
  /** Only this key. */
  readonly key?: Data;
  /** Only keys that begin with this. */
  readonly prefix?: Data;
  /** With all siblings as they are stored, in place of what the policy makes of them. */
  readonly siblings?: boolean;
  /** First all that is there, between `listing` and `listed`. */
  readonly fromStart?: boolean;
  /** From where another watch of the same keys was, by its `token`. */
  readonly resume?: string;
}

export interface UpdateOptions extends WriteOptions, Versioning {
  /** Makes one value of siblings; needed where the keyspace does not merge them. */
  readonly settle?: Settle;
}

/** How often `update` tries to leave one version behind. */
const SETTLE_ROUNDS = 5;

/** A client of the cluster that some nodes belong to. It serves any number of calls at once. */
export class Client {
  readonly #nodes: Nodes;
  readonly #timeoutMs: number;
  readonly #quorum: Quorum;

  private constructor(endpoints: readonly string[], options: Options) {
    this.#nodes = new Nodes(endpoints, options);
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#quorum = QUORUM[options.quorum ?? "sloppy"];
  }

  /**
   * A client of the client listeners at `endpoints`, each HOST:PORT. Connections are made when they
   * are first used.
   */
  static connect(endpoints: readonly string[], options: Options = {}): Client {
    return new Client(endpoints, options);
  }

  /** Closes the connections, once what is under way has ended. */
  close(): void {
    this.#nodes.close();
  }

  /**
   * Reads a key as its keyspace's policy makes it: one version, none, or siblings where the policy
   * keeps them or the merge failed.
   */
  get(keyspace: string, key: Data, options: GetOptions = {}): Promise<Versions> {
    return this.#read(keyspace, key, "VIEW_MERGED", options);
  }

  /** Reads every sibling of a key as it is stored, deletes too. */
  siblings(keyspace: string, key: Data, options: GetOptions = {}): Promise<Versions> {
    return this.#read(keyspace, key, "VIEW_SIBLINGS", options);
  }

  /** As `siblings`, without the values. */
  metadata(keyspace: string, key: Data, options: GetOptions = {}): Promise<Versions> {
    return this.#read(keyspace, key, "VIEW_METADATA", options);
  }

  async #read(keyspace: string, key: Data, view: View, options: GetOptions): Promise<Versions> {
    const request = getRequest({ ...options, get: keyspace, key }, this.#quorum, view);
    const terms = this.#terms(options, true, { keyspace, key: request.key });
    const answer = await this.#nodes.call("get", request, terms);
    return new Versions(keyspace, request.key, answer);
  }

  /**
   * Writes a value in place of what `context` covers, beside everything else. Without a context it
   * replaces nothing.
   */
  async put(keyspace: string, key: Data, value: Data, options: PutOptions = {}): Promise<Written> {
    const request = putRequest({ ...options, put: keyspace, key, value }, this.#quorum);
    const isNamed = request.requestId.length > 0;
    const terms = this.#terms(options, isNamed, { keyspace, key: request.key });
    return written(await this.#nodes.call("put", request, terms));
  }

  /** Deletes exactly what `context` covers, or what is there if `observed` is set. */
  async delete(keyspace: string, key: Data, options: DeleteOptions = {}): Promise<Written> {
    const request = deleteRequest({ ...options, delete: keyspace, key }, this.#quorum);
    const isNamed = request.requestId.length > 0;
    const terms = this.#terms(options, isNamed, { keyspace, key: request.key });
    return written(await this.#nodes.call("delete", request, terms));
  }

  /**
   * Sends up to 256 gets, puts and deletes at once: `{ get: keyspace, key }`, `{ put: keyspace, key, value }`
   * and `{ delete: keyspace, key }`, each with the options of that call. They run side by side; there is no
   * transaction.
   *
   * Each has an outcome of its own, in the same order: what the call alone would answer, or the error that
   * it would throw. The call throws if the whole is refused, or gets no answer: then each write of it may be
   * applied. It is sent again as one write would be, if all that it writes has a `requestId`; of an
   * answer nothing is.
   */
  async batch(items: readonly Item[], options: CallOptions = {}): Promise<Outcome[]> {
    const packed = items.map((item) => batchItem(item, this.#quorum));
    const request = { items: packed.map(({ request }) => request) };
    const terms = this.#terms(options, packed.every(({ repeatable }) => repeatable));
    const { outcomes } = await this.#nodes.call("batch", request, terms);
    return items.map((item, at) => outcomeOf(item, outcomes[at]));
  }

  /** The keys of a keyspace, all or a range of them: `for await (const key of client.list("carts"))`. */
  list(keyspace: string, options: ListOptions = {}): Listing {
    const { r } = options;
    return new Listing(this.#nodes, {
      keyspace,
      prefix: bytes(options.prefix ?? ""),
      from: bytes(options.start ?? ""),
      until: bytes(options.until ?? ""),
      view: VIEW[options.view ?? "metadata"],
      deleted: options.deleted ?? false,
      limit: options.limit ?? 0,
      pageToken: options.token ?? "",
      ...(r === undefined ? {} : { r }),
    });
  }

  /**
   * What is changed of a key, or of those that begin with a prefix, as it happens, from now on; from the
   * start; or from where another watch was: `for await (const event of client.watch("carts"))`.
   */
  watch(keyspace: string, options: WatchOptions = {}): Watch {
    return new Watch(this.#nodes, {
      keyspace,
      key: bytes(options.key ?? ""),
      prefix: options.key === undefined ? bytes(options.prefix ?? "") : Buffer.alloc(0),
      view: options.siblings === true ? "VIEW_SIBLINGS" : "VIEW_MERGED",
      fromStart: options.fromStart ?? false,
      resume: options.resume,
    });
  }

  /**
   * Reads the value, has it changed, and writes it in place of what was read.
   *
   * `settle` makes one value of siblings, before the change and of what others wrote meanwhile;
   * without it siblings throw `Conflict`, so give it where the keyspace does not merge.
   *
   * The change is written once: it is made anew only where the context had become stale and
   * certainly nothing was written: with `onlyIfCurrent` also where somebody has written since it was
   * read. Answers nothing if nothing was written.
   */
  async update(
    keyspace: string,
    key: Data,
    change: Change,
    options: UpdateOptions = {},
  ): Promise<Written | undefined> {
    const { settle } = options;
    const deadline = now() + (options.timeoutMs ?? this.#timeoutMs);
    for (let attempt = 0; ; attempt += 1) {
      const seen = await this.get(keyspace, key, within(options, deadline));
      const value = settle === undefined ? seen.value : await settled(settle, seen);
      const next = await change(value);
      let done: Written | undefined;
      try {
        done = await this.#replace(seen, next, options, deadline);
      } catch (error) {
        if (!(error instanceof StaleContext) || now() >= deadline) throw error;
        await scatter(attempt);
        continue;
      }
      if (done === undefined || !done.siblingsRemain || settle === undefined) return done;
      return this.#leaveOne(seen, settle, done, options, deadline);
    }
  }

  async #replace(
    seen: Versions,
    next: Next,
    options: UpdateOptions,
    deadline: number,
  ): Promise<Written | undefined> {
    if (next === undefined) return undefined;
    const { keyspace, key, context } = seen;
    // With a name, so that it can be repeated whatever happens.
    const named = { ...options, ...within(options, deadline), context, requestId: randomBytes(16) };
    return isDelete(next)
      ? this.delete(keyspace, key, named)
      : this.put(keyspace, key, next, named);
  }

  /**
   * Makes one of what `done` and others wrote at the same time, without haste: who reads next can do
   * it as well. What `done` wrote stands, whatever comes of this.
   */
  async #leaveOne(
    { keyspace, key }: Versions,
    settle: Settle,
    done: Written,
    options: UpdateOptions,
    deadline: number,
  ): Promise<Written> {
    for (let round = 0; round < SETTLE_ROUNDS && now() < deadline; round += 1) {
      await scatter(round);
      try {
        const seen = await this.get(keyspace, key, within(options, deadline));
        if (seen.siblings.length < 2) {
          return { ...done, siblingsRemain: false, context: seen.context };
        }
        const after = await this.#replace(seen, await settled(settle, seen), options, deadline);
        if (after?.siblingsRemain === false) {
          return { ...done, siblingsRemain: false, context: after.context };
        }
      } catch (error) {
        if (!(error instanceof StatorError)) throw error;
      }
    }
    return done;
  }

  #terms(options: CallOptions, isRepeatable: boolean, place?: Place): Terms {
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    const about = place === undefined ? {} : { place };
    return { isRepeatable, timeoutMs, signal: options.signal, ...about };
  }
}

const VIEW = {
  metadata: "VIEW_METADATA",
  merged: "VIEW_MERGED",
  siblings: "VIEW_SIBLINGS",
} as const;

const QUORUM = {
  sloppy: "QUORUM_SLOPPY",
  strict: "QUORUM_STRICT",
  local: "QUORUM_LOCAL",
} as const;

/** Waits for a while by chance, so that those who write a key do not meet again. */
function scatter(attempt: number): Promise<void> {
  return sleep(Math.random() * 10 * 2 ** Math.min(attempt, 5));
}

function isDelete(next: Next): next is typeof DELETE {
  return next === DELETE;
}

async function settled(settle: Settle, seen: Versions): Promise<Buffer | undefined> {
  return seen.siblings.length < 2 ? seen.value : bytes(await settle(seen.siblings));
}

function within({ signal }: CallOptions, deadline: number): CallOptions {
  const timeoutMs = Math.max(deadline - now(), 1);
  return signal === undefined ? { timeoutMs } : { timeoutMs, signal };
}
