// One endpoint: its connection, and whether it is left alone for a while.

import {
  type ClientUnaryCall,
  connectivityState as State,
  credentials,
  type Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

import { notConnected, ofCall, refusedHere, StatorError } from "./errors";
import type { DeleteRequest } from "./generated/stator/v1/DeleteRequest";
import type { DeleteResponse__Output } from "./generated/stator/v1/DeleteResponse";
import type { GetRequest } from "./generated/stator/v1/GetRequest";
import type { GetResponse__Output } from "./generated/stator/v1/GetResponse";
import type { KvClient } from "./generated/stator/v1/Kv";
import type { PutRequest } from "./generated/stator/v1/PutRequest";
import type { PutResponse__Output } from "./generated/stator/v1/PutResponse";
import { v1 } from "./messages";

/** The calls that a client makes, with their messages. */
export interface Calls {
  get: [GetRequest, GetResponse__Output];
  put: [PutRequest, PutResponse__Output];
  delete: [DeleteRequest, DeleteResponse__Output];
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

export const now = (): number => performance.now();

export class Peer {
  readonly address: string;
  readonly #client: KvClient;
  #failures = 0;
  #failedAt = 0;
  #avoidedUntil = 0;

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
    return new Promise((resolve, reject) => {
      const send = this.#client[call].bind(this.#client) as unknown as (
        request: Calls[C][0],
        metadata: Metadata,
        options: { deadline: number },
        then: (error: ServiceError | null, answer?: Calls[C][1]) => void,
      ) => ClientUnaryCall;
      const sent = send(request, metadata, { deadline: Date.now() + left }, (error, answer) => {
        signal?.removeEventListener("abort", cancel);
        if (error !== null) reject(ofCall(error));
        else resolve(answer as Calls[C][1]);
      });
      const cancel = () => sent.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
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
