// Reading and writing keys.
//
// Left out: running a cluster (the `Admin` service), routing by the ring.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { refusedHere, StaleContext, StatorError } from "./errors";
import type { View } from "./generated/stator/v1/View";
import { Nodes, type Options } from "./nodes";
import { now } from "./peer";
import { type Version, Versions, type Written, written } from "./values";

/** Bytes, or text that is sent as UTF-8. */
export type Data = Uint8Array | string;

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

export interface GetOptions extends CallOptions {
  /** How many replicas must answer. */
  readonly r?: number;
  /** Dots of writes of the key that the answer must have seen, such as that of one's own put. */
  readonly atLeast?: readonly string[];
}

export interface WriteOptions extends CallOptions {
  /** How many replicas must acknowledge. */
  readonly w?: number;
  readonly labels?: Readonly<Record<string, string>>;
  /**
   * Only if the context has seen all that the key holds, else `StaleContext`. It is no lock: what is
   * written in the same moment may still become a sibling.
   */
  readonly onlyIfCurrent?: boolean;
  /** When an acknowledgement counts, unless as the keyspace says. */
  readonly durability?: "all" | "one" | "buffered";
}

interface Naming {
  /** What is replaced: the context of a get or put, or several, which are joined. */
  readonly context?: Uint8Array | readonly Uint8Array[] | undefined;
  /**
   * Up to 64 bytes of your choice for one write of a key. It is then sent again even where the
   * outcome is unknown, and the attempts are one write.
   */
  readonly requestId?: Data;
}

interface Versioning {
  readonly ttlMs?: number;
  /** A number for the format of the value, handed to merge modules. */
  readonly schema?: number;
}

export interface PutOptions extends WriteOptions, Naming, Versioning {}

export interface DeleteOptions extends WriteOptions, Naming {
  /** Deletes what the node that is asked finds when it looks, in place of a context. */
  readonly observed?: boolean;
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
  readonly #quorum: "QUORUM_SLOPPY" | "QUORUM_STRICT" | "QUORUM_LOCAL";

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
    const name = bytes(key);
    const request = {
      keyspace,
      key: name,
      quorum: this.#quorum,
      view,
      atLeast: [...(options.atLeast ?? [])],
      ...(options.r === undefined ? {} : { r: options.r }),
    };
    const answer = await this.#nodes.call("get", request, this.#terms(options, true));
    return new Versions(keyspace, name, answer);
  }

  /**
   * Writes a value in place of what `context` covers, beside everything else. Without a context it
   * replaces nothing.
   */
  async put(keyspace: string, key: Data, value: Data, options: PutOptions = {}): Promise<Written> {
    const request = {
      ...this.#write(keyspace, key, options),
      value: bytes(value),
      schema: options.schema ?? 0,
      ...(options.ttlMs === undefined ? {} : { ttlMs: options.ttlMs }),
    };
    const terms = this.#terms(options, request.requestId.length > 0);
    return written(await this.#nodes.call("put", request, terms));
  }

  /** Deletes exactly what `context` covers, or what is there if `observed` is set. */
  async delete(keyspace: string, key: Data, options: DeleteOptions = {}): Promise<Written> {
    const observed = options.observed ?? false;
    const request = { ...this.#write(keyspace, key, options), observed };
    if (request.contexts.length === 0 && !observed) {
      const message = "a delete deletes what was read: pass the context of a get, or `observed`";
      throw refusedHere("NO_CONTEXT", message);
    }
    const terms = this.#terms(options, request.requestId.length > 0);
    return written(await this.#nodes.call("delete", request, terms));
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

  #write(keyspace: string, key: Data, options: WriteOptions & Naming) {
    const { context, durability, w } = options;
    const contexts =
      context === undefined ? [] : context instanceof Uint8Array ? [context] : context;
    return {
      keyspace,
      key: bytes(key),
      contexts: contexts.map(bytes),
      quorum: this.#quorum,
      durability: DURABILITY[durability ?? "unset"],
      requestId: bytes(options.requestId ?? ""),
      labels: { ...options.labels },
      onlyIfCurrent: options.onlyIfCurrent ?? false,
      ...(w === undefined ? {} : { w }),
    };
  }

  #terms(options: CallOptions, isRepeatable: boolean) {
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    return { isRepeatable, timeoutMs, signal: options.signal };
  }
}

const QUORUM = {
  sloppy: "QUORUM_SLOPPY",
  strict: "QUORUM_STRICT",
  local: "QUORUM_LOCAL",
} as const;

const DURABILITY = {
  unset: "DURABILITY_UNSPECIFIED",
  all: "DURABILITY_ALL",
  one: "DURABILITY_ONE",
  buffered: "DURABILITY_BUFFERED",
} as const;

function bytes(data: Data): Buffer {
  return typeof data === "string"
    ? Buffer.from(data)
    : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

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
