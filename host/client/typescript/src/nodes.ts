// The nodes that a client was given, and one request: whom it goes to, attempt by attempt.
//
// Every node takes every request. One for a key goes to an owner of it where the ring is known (`routes`),
// and others go round the endpoints. A node that does not answer is left alone for a while, longer each time,
// and until it is connected again; it is asked nevertheless where no other is left.
//
// A request is only sent on a connection that stands, so what fails before that has certainly done
// nothing, and may go elsewhere whatever it is.
//
// Left out: coordinating gets in the client, as the one in Rust can.

import { setTimeout as sleep } from "node:timers/promises";

import { Metadata } from "@grpc/grpc-js";

import { NOT_CONNECTED, refusedHere, StatorError } from "./errors";
import type { GetRingRequest } from "./generated/stator/v1/GetRingRequest";
import type { GetRingResponse__Output } from "./generated/stator/v1/GetRingResponse";
import { type Calls, now, Peer, type Streams, type Tls } from "./peer";
import { Budget, isWorthIt, pauseMs } from "./retry";
import { Routes } from "./routes";

/** How a client goes about its calls. */
export interface Options {
  /** How long a call may take with all its attempts; the nodes know it as the gRPC deadline. 10 s. */
  readonly timeoutMs?: number;
  /** How often a request is sent at most: 5 unless set; 1 turns retries off. */
  readonly attemptsMax?: number;
  /**
   * Who counts for a quorum: `"sloppy"` unless set. Strict, only owners of the key: with r + w > n a
   * get sees every put that was acknowledged before, whatever fails meanwhile. Local, those in the region of
   * the node that is asked, which is one of the endpoints then: give those of one region.
   */
  readonly quorum?: "sloppy" | "strict" | "local";
  /** Sent with each call, where nodes ask for one. */
  readonly token?: string;
  readonly tls?: Tls;
  /**
   * Tells, for each request anew, what it is a part of where traces are kept: the header `traceparent` of
   * https://www.w3.org/TR/trace-context/, or nothing.
   */
  readonly traceparent?: () => string | undefined;
  /**
   * Who is asked first: an owner of the key, at the address that it tells the cluster, unless set; or any
   * endpoint in turn.
   */
  readonly coordination?: "owner" | "any";
}

/** What a request is about. */
export interface Place {
  readonly keyspace: string;
  readonly key: Uint8Array;
}

/** How one request is to go. */
export interface Terms {
  readonly isRepeatable: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** The key that it is about, if it is about one. */
  readonly place?: Place;
}

export class Nodes {
  readonly #routes: Routes;
  readonly #peers: Peer[];
  readonly #attemptsMax: number;
  readonly #metadata = new Metadata();
  readonly #options: Options;
  /** Of a call that says nothing else. */
  readonly timeoutMs: number;
  readonly #budget = new Budget(now());
  #turn = 0;

  constructor(endpoints: readonly string[], options: Options) {
    if (endpoints.length === 0) {
      throw refusedHere("BAD_ENDPOINT", "give the address of at least one node");
    }
    this.#peers = endpoints.map((endpoint) => new Peer(endpoint, options.tls));
    this.#options = options;
    const dial = (address: string) => this.dial(address);
    this.#routes = new Routes(this.#peers, dial, (request) => this.ring(request));
    this.timeoutMs = options.timeoutMs ?? 10_000;
    this.#attemptsMax = options.attemptsMax ?? 5;
    if (options.token !== undefined) this.#metadata.set("authorization", `Bearer ${options.token}`);
  }

  /** What a request bears that is sent now. */
  metadata(): Metadata {
    const trace = this.#options.traceparent?.();
    if (trace === undefined) return this.#metadata;
    const metadata = this.#metadata.clone();
    metadata.set("traceparent", trace);
    return metadata;
  }

  /** A way to another node, as to the endpoints. */
  dial(address: string): Peer {
    return new Peer(address, this.#options.tls);
  }

  /** The ring as any node tells it. */
  ring(request: GetRingRequest): Promise<GetRingResponse__Output> {
    const terms = { isRepeatable: true, timeoutMs: this.timeoutMs, signal: undefined };
    return this.call("getRing", request, terms);
  }

  close(): void {
    this.#routes.close();
  }

  /** The owners of a key, those first that are to be asked first. */
  #owners(place: Place | undefined, isNamed: boolean): Peer[] {
    // Of a region it must be the same one each time: that of the endpoints.
    const isAny = this.#options.coordination === "any" || this.#options.quorum === "local";
    if (place === undefined || isAny) return [];
    const [owners, at] = [this.#routes.owners(place.keyspace, place.key), now()];
    return isNamed ? owners : owners.sort((a, b) => a.pace.cost(at) - b.pace.cost(at));
  }

  #next(tries: Map<Peer, number>, owners: readonly Peer[] = []): Peer {
    const count = this.#peers.length;
    const rank = (peer: Peer) => (peer.isAvoided() ? 1e6 : 0) + (tries.get(peer) ?? 0);
    const turn = this.#peers.map((_, at) => this.#peers[(this.#turn + at) % count] as Peer);
    const order = [...owners, ...turn];
    this.#turn = (this.#turn + 1) % count;
    // Of equals the first: sorting keeps their order.
    const ranked = order.map((peer) => ({ peer, rank: rank(peer) }));
    const { peer } = ranked.sort((a, b) => a.rank - b.rank)[0] as { peer: Peer };
    tries.set(peer, (tries.get(peer) ?? 0) + 1);
    peer.taken();
    return peer;
  }

  /** The messages of a stream of the node whose turn it is, to its end. */
  async *stream<S extends keyof Streams>(
    call: S,
    request: Streams[S][0],
    silenceMs: number,
  ): AsyncGenerator<Streams[S][1], void, undefined> {
    const [peer, started] = [this.#next(new Map()), now()];
    try {
      const terms = { silenceMs, metadata: this.metadata() };
      for await (const message of peer.stream(call, request, terms)) {
        peer.judge(undefined, started);
        yield message;
      }
    } catch (error) {
      if (error instanceof StatorError) peer.judge(error, started);
      throw error;
    }
  }

  /** Sends `request` until it is answered, may not be sent again, or time is up. */
  async call<C extends keyof Calls>(
    call: C,
    request: Calls[C][0],
    { isRepeatable, timeoutMs, signal, place }: Terms,
  ): Promise<Calls[C][1]> {
    const deadline = now() + timeoutMs;
    const tries = new Map<Peer, number>();
    const owners = this.#owners(place, isRepeatable && call !== "get");
    const nodes = new Set([...owners, ...this.#peers]).size;
    this.#budget.request();
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted();
      const peer = this.#next(tries, owners);
      const started = now();
      const left = Math.max(deadline - started, 1);
      const isLast = attempt >= this.#attemptsMax;
      // Half of what is left where another node could follow.
      const isShared = isRepeatable && !isLast && nodes > 1;
      const terms = { timeoutMs: isShared ? left / 2 : left, metadata: this.metadata(), signal };
      peer.pace.asked();
      try {
        const answer = await peer.ask(call, request, terms);
        peer.pace.ended(now(), now() - started, false);
        peer.judge(undefined, started);
        return answer;
      } catch (error) {
        const isSilent = error instanceof StatorError && error.isSilence;
        peer.pace.ended(now(), now() - started, isSilent && !signal?.aborted);
        signal?.throwIfAborted();
        if (!(error instanceof StatorError)) throw error;
        peer.judge(error, started);
        if (isSilent) this.#routes.noteTrouble();
        if (isLast || !isWorthIt(error, isRepeatable)) throw error;
        const isFresh = tries.size < nodes;
        const pause = error.isSilence && isFresh ? 0 : pauseMs(attempt, error.retryAfterMs);
        // A node that took its time to refuse will again: its answer is worth more than none.
        const least = error.isSilence ? 0 : now() - started;
        if (now() + pause + least >= deadline) throw error;
        // What no node has received costs none of them anything.
        if (error.reason !== NOT_CONNECTED && !this.#budget.take(now())) throw error;
        await sleep(pause, undefined, signal === undefined ? {} : { signal });
      }
    }
  }
}
