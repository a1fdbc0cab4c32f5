// What is asked of one key, as a call of its own or as an item of a batch.

import { Code, errorOf, REFUSALS, refusedHere, type StatorError } from "./errors";
import type { BatchItem } from "./generated/stator/v1/BatchItem";
import type { BatchOutcome__Output } from "./generated/stator/v1/BatchOutcome";
import type { View } from "./generated/stator/v1/View";
import { Versions, type Written, written } from "./values";

/** Bytes, or text that is sent as UTF-8. */
export type Data = Uint8Array | string;

export interface Reading {
  /** How many replicas must answer. */
  readonly r?: number;
  /** Dots of writes of the key that the answer must have seen, such as that of one's own put. */
  readonly atLeast?: readonly string[];
}

export interface Writing {
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

export interface Naming {
  /** What is replaced: the context of a get or put, or several, which are joined. */
  readonly context?: Uint8Array | readonly Uint8Array[] | undefined;
  /**
   * Up to 64 bytes of your choice for one write of a key. It is then sent again even where the
   * outcome is unknown, and the attempts are one write.
   */
  readonly requestId?: Data;
}

export interface Versioning {
  readonly ttlMs?: number;
  /** A number for the format of the value, handed to merge modules. */
  readonly schema?: number;
}

export interface Observing {
  /** Deletes what the node that is asked finds when it looks, in place of a context. */
  readonly observed?: boolean;
}

/** A get of a batch: its keyspace, its key, and what `Client.get` takes. */
export interface GetItem extends Reading {
  readonly get: string;
  readonly key: Data;
}

/** A put of a batch, as `Client.put`. */
export interface PutItem extends Writing, Naming, Versioning {
  readonly put: string;
  readonly key: Data;
  readonly value: Data;
}

/** A delete of a batch, as `Client.delete`. */
export interface DeleteItem extends Writing, Naming, Observing {
  readonly delete: string;
  readonly key: Data;
}

export type Item = GetItem | PutItem | DeleteItem;
export type Outcome = Versions | Written | StatorError;

export type Quorum = "QUORUM_SLOPPY" | "QUORUM_STRICT" | "QUORUM_LOCAL";

export function getRequest(item: GetItem, quorum: Quorum, view: View = "VIEW_MERGED") {
  return {
    keyspace: item.get,
    key: bytes(item.key),
    quorum,
    view,
    atLeast: [...(item.atLeast ?? [])],
    ...(item.r === undefined ? {} : { r: item.r }),
  };
}

export function putRequest(item: PutItem, quorum: Quorum) {
  return {
    ...write(item.put, item.key, item, quorum),
    value: bytes(item.value),
    schema: item.schema ?? 0,
    ...(item.ttlMs === undefined ? {} : { ttlMs: item.ttlMs }),
  };
}

export function deleteRequest(item: DeleteItem, quorum: Quorum) {
  const observed = item.observed ?? false;
  const request = { ...write(item.delete, item.key, item, quorum), observed };
  if (request.contexts.length === 0 && !observed) {
    const message = "a delete deletes what was read: pass the context of a get, or `observed`";
    throw refusedHere("NO_CONTEXT", message);
  }
  return request;
}

function write(keyspace: string, key: Data, options: Writing & Naming, quorum: Quorum) {
  const { context, durability, w } = options;
  const contexts =
    context === undefined ? [] : context instanceof Uint8Array ? [context] : context;
  return {
    keyspace,
    key: bytes(key),
    contexts: contexts.map(bytes),
    quorum,
    durability: DURABILITY[durability ?? "unset"],
    requestId: bytes(options.requestId ?? ""),
    labels: { ...options.labels },
    onlyIfCurrent: options.onlyIfCurrent ?? false,
    ...(w === undefined ? {} : { w }),
  };
}

/** An item as it is sent, and whether it may be sent again. */
export function batchItem(item: Item, quorum: Quorum): { request: BatchItem; repeatable: boolean } {
  if ("get" in item) return { request: { get: getRequest(item, quorum) }, repeatable: true };
  const repeatable = bytes(item.requestId ?? "").length > 0;
  return "put" in item
    ? { request: { put: putRequest(item, quorum) }, repeatable }
    : { request: { delete: deleteRequest(item, quorum) }, repeatable };
}

export function outcomeOf(item: Item, told: BatchOutcome__Output | undefined): Outcome {
  if ("get" in item && told?.get) return new Versions(item.get, bytes(item.key), told.get);
  const wrote = told?.put ?? told?.delete;
  if (wrote) return written(wrote);
  const failure = told?.failure;
  const code: Code = failure?.code ?? Code.UNKNOWN;
  const metadata = { ...failure?.metadata };
  // As of a request that was sent alone: what is full or refused was not done.
  const isNothing = REFUSALS.has(code) || code === Code.RESOURCE_EXHAUSTED;
  const said = metadata["effect"] ?? (isNothing ? "NONE" : "MAYBE");
  return errorOf({
    code,
    message: failure?.message ?? "the answer has no outcome of it",
    reason: failure?.reason ?? "",
    metadata,
    effect: said === "NONE" ? "NONE" : "MAYBE",
  });
}

const DURABILITY = {
  unset: "DURABILITY_UNSPECIFIED",
  all: "DURABILITY_ALL",
  one: "DURABILITY_ONE",
  buffered: "DURABILITY_BUFFERED",
} as const;

export function bytes(data: Data): Buffer {
  return typeof data === "string"
    ? Buffer.from(data)
    : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
