// One endpoint: its connection, and whether it is left alone for a while.

import {
  type ClientReadableStream,
  connectivityState as State,
  credentials,
  type Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

import { notConnected, ofCall, refusedHere, silent, StatorError } from "./errors";
import type { BatchRequest } from "./generated/stator/v1/BatchRequest";
import type { BatchResponse__Output } from "./generated/stator/v1/BatchResponse";
import type { DeleteRequest } from "./generated/stator/v1/DeleteRequest";
import type { DeleteResponse__Output } from "./generated/stator/v1/DeleteResponse";
import type { GetRequest } from "./generated/stator/v1/GetRequest";
import type { GetResponse__Output } from "./generated/stator/v1/GetResponse";
import type { GetRingRequest } from "./generated/stator/v1/GetRingRequest";
import type { GetRingResponse__Output } from "./generated/stator/v1/GetRingResponse";
import type { ListRequest } from "./generated/stator/v1/ListRequest";
import type { ListResponse__Output } from "./generated/stator/v1/ListResponse";
import type { WatchRequest } from "./generated/stator/v1/WatchRequest";
import type { WatchResponse__Output } from "./generated/stator/v1/WatchResponse";
import type { KvClient } from "./generated/stator/v1/Kv";
import type { PutRequest } from "./generated/stator/v1/PutRequest";
import type { PutResponse__Output } from "./generated/stator/v1/PutResponse";
import { v1 } from "./messages";
import { Pace } from "./pace";

/** The calls that a client makes, with their messages. */
export interface Calls {
  get: [GetRequest, GetResponse__Output];
  put: [PutRequest, PutResponse__Output];
  delete: [DeleteRequest, DeleteResponse__Output];
  batch: [BatchRequest, BatchResponse__Output];
  getRing: [GetRingRequest, GetRingResponse__Output];
}

/** The streams that it reads. */
export interface Streams {
  list: [ListRequest, ListResponse__Output];
  watch: [WatchRequest, WatchResponse__Output];
}

/** How a stream is read. */
export interface Listening {
  /** How long it may be silent. */
  readonly silenceMs: number;
  readonly metadata: Metadata;
  readonly signal?: AbortSignal | undefined;
}

/** How to speak TLS: certificates and keys in PEM form. */
export interface Tls {
  /** The authority to trust, unless those of the system. */
  readonly ca?: Buffer;
  /** The client's own certificate with its chain, and its key, where nodes ask for one. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
  /** The name in the nodes' certificates, if it is not that in their address. */
  readonly domain?: string;
}

/** The largest answer taken: as many siblings as a node may send. */
const ANSWER_BYTES_MAX = 64 << 20;
/** How long making a connection may take. */
const CONNECT_MS = 2000;
/** How long to wait for the next attempt to connect, where the last one failed. */
const RECONNECT_MS = 250;
const AVOID_MIN_MS = 1000;
const AVOID_MAX_MS = 30_000;

/** Of a node that is there and cannot serve: another one can. */
const ELSEWHERE: ReadonlySet<string> = new Set([
  "STOPPING",
  "STORE_UNAVAILABLE",
  "NODE_NOT_ACCEPTED",
  "NODE_REMOVED",
  "SECOND_HOLDER",
]);

const CHANNEL = {
  "grpc.max_receive_message_length": ANSWER_BYTES_MAX,
  "grpc.max_send_message_length": -1,
  // What is sent again is decided here alone.
  "grpc.enable_retries": 0,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 5000,
};

const METHODS = {
  get: v1.Kv.service.Get,
  put: v1.Kv.service.Put,
  delete: v1.Kv.service.Delete,
  batch: v1.Kv.service.Batch,
  getRing: v1.Routing.service.GetRing,
} as const;

export const now = (): number => performance.now();

export class Peer {
  readonly address: string;
  readonly #client: KvClient;
  #failures = 0;
  #failedAt = 0;
  #avoidedUntil = 0;
  /** How fast it answers. */
  readonly pace = new Pace();

  constructor(endpoint: string, tls: Tls | undefined) {
    this.address = addressOf(endpoint, tls);
    const shown =
      tls === undefined
        ? credentials.createInsecure()
        : credentials.createSsl(tls.ca ?? null, tls.key ?? null, tls.cert ?? null);
    const name = tls?.domain === undefined ? {} : { "grpc.ssl_target_name_override": tls.domain };
    this.#client = new v1.Kv(this.address, shown, { ...CHANNEL, ...name });
  }

  close(): void {
    this.#client.close();
  }

  /** Whether a connection stands; begins to make one if not. */
  isReady(): boolean {
    return this.#state() === State.READY;
  }

  isAvoided(): boolean {
    if (this.#failures === 0) return false;
    return now() < this.#avoidedUntil || this.#state() !== State.READY;
  }

  /** It is asked. If that is to find out whether it serves again, others wait for the end. */
  taken(): void {
    if (this.#failures > 0) this.#avoid();
  }

  /** What the end of a request says of the node. */
  judge(error: StatorError | undefined, started: number): void {
    if (error === undefined || !(error.isSilence || ELSEWHERE.has(error.reason))) {
      this.#failures = 0;
    } else if (started >= this.#failedAt) {
      // What was under way when it failed says nothing new.
      this.#failures += 1;
      this.#failedAt = now();
      this.#avoid();
    }
  }

  #avoid(): void {
    const longer = AVOID_MIN_MS * 2 ** Math.min(this.#failures - 1, 16);
    this.#avoidedUntil = now() + Math.min(longer, AVOID_MAX_MS);
  }

  async ask<C extends keyof Calls>(
    call: C,
    request: Calls[C][0],
    terms: { timeoutMs: number; metadata: Metadata; signal: AbortSignal | undefined },
  ): Promise<Calls[C][1]> {
    const { timeoutMs, metadata, signal } = terms;
    const started = now();
    if (!(await this.#connect(started + Math.min(timeoutMs, CONNECT_MS)))) {
      throw notConnected(this.address);
    }
    const left = Math.max(timeoutMs - (now() - started), 1);
    const method = METHODS[call];
    return new Promise((resolve, reject) => {
      const sent = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize as (request: Calls[C][0]) => Buffer,
        method.responseDeserialize as (answer: Buffer) => Calls[C][1],
        request,
        metadata,
        { deadline: Date.now() + left },
        (error: ServiceError | null, answer?: Calls[C][1]) => {
          signal?.removeEventListener("abort", cancel);
          if (error !== null) reject(ofCall(error));
          else resolve(answer as Calls[C][1]);
        },
      );
      const cancel = () => sent.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** The messages of a stream, which ends when it is left. */
  async *stream<S extends keyof Streams>(
    call: S,
    request: Streams[S][0],
    { silenceMs, metadata, signal }: Listening,
  ): AsyncGenerator<Streams[S][1], void, undefined> {
    if (!(await this.#connect(now() + CONNECT_MS))) throw notConnected(this.address);
    const open = this.#client[call].bind(this.#client) as unknown as (
      request: Streams[S][0],
      metadata: Metadata,
    ) => ClientReadableStream<Streams[S][1]>;
    const stream = open(request, metadata);
    const cancel = () => stream.cancel();
    // Whoever reads it hears of errors; when nobody does any more they are no news.
    stream.on("error", () => undefined);
    signal?.addEventListener("abort", cancel, { once: true });
    const messages = stream[Symbol.asyncIterator]() as AsyncIterator<Streams[S][1]>;
    try {
      for (;;) {
        const next = await inTime(messages.next(), silenceMs);
        if (next === undefined) throw silent(silenceMs);
        if (next.done === true) return;
        yield next.value;
      }
    } catch (error) {
      throw error instanceof StatorError ? error : ofCall(error as ServiceError);
    } finally {
      signal?.removeEventListener("abort", cancel);
      cancel();
    }
  }

  #state(connect = true): State {
    return this.#client.getChannel().getConnectivityState(connect);
  }

  async #connect(deadline: number): Promise<boolean> {
    let state = this.#state();
    if (state === State.TRANSIENT_FAILURE) {
      // From before: give it one more chance, if that comes soon.
      await this.#changed(state, RECONNECT_MS);
      state = this.#state();
    }
    while ((state === State.IDLE || state === State.CONNECTING) && now() < deadline) {
      const before = state;
      await this.#changed(state, deadline - now());
      state = this.#state(false);
      // Lost as soon as it stood: the node does not want it.
      if (state === State.IDLE && before !== State.IDLE) break;
    }
    return state === State.READY;
  }

  #changed(state: State, ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#client.getChannel().watchConnectivityState(state, Date.now() + ms, () => resolve());
    });
  }
}

/** What comes, or nothing if it does not come in time. */
async function inTime<T>(coming: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  // If it comes to nothing later nobody is there to hear it.
  coming.catch(() => undefined);
  return Promise.race([coming, late]).finally(() => clearTimeout(timer));
}

function addressOf(endpoint: string, tls: Tls | undefined): string {
  const [, scheme, address] = /^(?:(\w+):\/\/)?(.*)$/.exec(endpoint) ?? [];
  if (scheme !== undefined && scheme !== (tls === undefined ? "http" : "https")) {
    const what = scheme === "https" ? "needs `tls`" : `is not dialled by ${scheme}`;
    throw refusedHere("BAD_ENDPOINT", `${endpoint} ${what}`);
  }
  if (address === undefined || !/^[^\s/?#@]+:\d+$/.test(address)) {
    throw refusedHere("BAD_ENDPOINT", `"${endpoint}" is no address of a node: HOST:PORT`);
  }
  return address;
}
