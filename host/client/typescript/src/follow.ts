// One member's stream of changes, opened anew from where it was whenever it ends.

import { setTimeout as sleep } from "node:timers/promises";

import { Code, StatorError } from "./errors";
import type { WatchResponse__Output } from "./generated/stator/v1/WatchResponse";
import type { Nodes } from "./nodes";
import type { Peer } from "./peer";
import { pauseMs } from "./retry";

/** A node says something every five seconds. */
const SILENCE_MAX_MS = 15_000;
/** What may be because a node has not heard of a role or keyspace yet is asked for so often. */
const REFUSALS_MAX = 8;
const REFUSALS: ReadonlySet<Code> = new Set([
  Code.NOT_FOUND,
  Code.PERMISSION_DENIED,
  Code.UNAUTHENTICATED,
]);

/** What is heard of a member: an answer, why it is away, or that it refuses. */
export interface Heard {
  readonly node: string;
  readonly told: WatchResponse__Output | string | StatorError;
}

export interface Way {
  readonly node: string;
  readonly peer: Peer;
  readonly nodes: Nodes;
  readonly signal: AbortSignal;
}

export async function follow(
  { node, peer, nodes, signal }: Way,
  request: { keyspace: string; key: Buffer; prefix: Buffer; position: string },
  heard: Queue<Heard>,
): Promise<void> {
  let { position } = request;
  for (let failures = 0; !signal.aborted; ) {
    let why: unknown = "it has ended its stream";
    try {
      const terms = { silenceMs: SILENCE_MAX_MS, metadata: nodes.metadata(), signal };
      for await (const told of peer.stream("watch", { ...request, position }, terms)) {
        failures = 0;
        position = told.position;
        if (!(await heard.put({ node, told }))) return;
      }
    } catch (error) {
      why = error;
    }
    if (signal.aborted) return;
    failures += 1;
    const failed = why instanceof StatorError ? why : undefined;
    const isRefused = failed !== undefined && REFUSALS.has(failed.code);
    if (failed?.code === Code.INVALID_ARGUMENT || (isRefused && failures >= REFUSALS_MAX)) {
      await heard.put({ node, told: failed as StatorError });
      return;
    }
    const words = why instanceof Error ? why.message : String(why);
    if (!(await heard.put({ node, told: words }))) return;
    await sleep(pauseMs(failures, failed?.retryAfterMs), undefined, { signal }).catch(() => undefined);
  }
}

/** Items that wait, at most so many: who puts more waits too. */
export class Queue<T> {
  readonly #items: T[] = [];
  readonly #most: number;
  #isClosed = false;
  #wake: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether anybody takes. */
  async put(item: T): Promise<boolean> {
    while (!this.#isClosed && this.#items.length >= this.#most) await this.#changed();
    if (this.#isClosed) return false;
    this.#items.push(item);
    this.#change();
    return true;
  }

  /** The next one; nothing if none comes in time. */
  async take(ms: number): Promise<T | undefined> {
    if (this.#items.length === 0) {
      const late = new AbortController();
      const timer = sleep(ms, undefined, { signal: late.signal }).catch(() => undefined);
      await Promise.race([this.#changed(), timer]);
      late.abort();
    }
    const item = this.#items.shift();
    this.#change();
    return item;
  }

  close(): void {
    this.#isClosed = true;
    this.#change();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #change(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}
