// Keys of a keyspace, page by page: a stream that goes on by itself where one breaks off.
//
// A node that stops, or a connection that breaks, ends a stream in the middle. The last page's token
// tells where it was; the next stream begins there, on another node if there is one. No key is given
// twice by that.

import { setTimeout as sleep } from "node:timers/promises";

import { StatorError } from "./errors";
import type { ListRequest } from "./generated/stator/v1/ListRequest";
import type { ListResponse__Output } from "./generated/stator/v1/ListResponse";
import type { Nodes } from "./nodes";
import { isWorthIt, pauseMs } from "./retry";
import { Versions } from "./values";

/** How often in a row a stream may fail without a page in between. */
const FAILURES_MAX = 30;
/** How long a stream may be silent. A page takes its owners five seconds at most. */
const SILENCE_MAX_MS = 30_000;

/**
 * Keys with their versions, in order within each partition of the ring: `for await (const key of listing)`.
 * It is no snapshot: a key that is written meanwhile is listed or not.
 */
export class Listing implements AsyncIterable<Versions> {
  readonly #nodes: Nodes;
  readonly #request: ListRequest & { keyspace: string };
  #left: number;
  #token: string;
  #permille = 0;

  /** By `Client.list`. */
  constructor(nodes: Nodes, request: ListRequest & { keyspace: string }) {
    this.#nodes = nodes;
    this.#request = request;
    this.#left = Number(request.limit ?? 0) || Number.POSITIVE_INFINITY;
    this.#token = request.pageToken ?? "";
  }

  /**
   * To go on with another listing: behind the last page of which every key was given, so up to a page
   * of keys comes again. Empty at the end, and before the first page.
   */
  get token(): string {
    return this.#token;
  }

  /** How much of the partitions is listed, of 1,000. */
  get permille(): number {
    return this.#permille;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Versions, void, undefined> {
    for await (const page of this.pages()) {
      for (const key of page.keys) yield new Versions(this.#request.keyspace, key.key, key);
    }
  }

  /** The answers of the nodes as they are; one may be empty and not the last. */
  async *pages(): AsyncGenerator<ListResponse__Output, void, undefined> {
    for (let failures = 0; ; ) {
      try {
        // What was listed before a break is counted here.
        const request = { ...this.#request, pageToken: this.#token, limit: 0 };
        for await (const page of this.#nodes.stream("list", request, SILENCE_MAX_MS)) {
          failures = 0;
          this.#permille = page.permille;
          const keys = page.keys.slice(0, this.#left);
          this.#left -= keys.length;
          yield { ...page, keys };
          // Not before all of it was taken.
          this.#token = page.pageToken;
          if (page.pageToken === "" || this.#left === 0) return;
        }
        return;
      } catch (error) {
        failures += 1;
        const passes = error instanceof StatorError && isWorthIt(error, true);
        if (!passes || failures > FAILURES_MAX) throw error;
        await sleep(pauseMs(failures, error.retryAfterMs));
      }
    }
  }
}
