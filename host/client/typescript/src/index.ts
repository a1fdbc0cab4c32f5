// A client for Stator, a replicated key-value store. Start with `Client.connect`.

export {
  type CallOptions,
  type Change,
  Client,
  DELETE,
  type DeleteOptions,
  type GetOptions,
  type ListOptions,
  type Next,
  type PutOptions,
  type Settle,
  type UpdateOptions,
  type WatchOptions,
  type WriteOptions,
} from "./client";
export {
  Code,
  Conflict,
  DeadlineExceeded,
  type Effect,
  LimitReached,
  NotAllowed,
  NotReached,
  Overloaded,
  QuotaExceeded,
  Refused,
  RequestIdReused,
  StaleContext,
  StatorError,
  Unavailable,
  UnknownKeyspace,
  Unreachable,
  type Violation,
} from "./errors";
export { Listing } from "./listing";
export type { Options } from "./nodes";
export type { Tls } from "./peer";
export type { Data, DeleteItem, GetItem, Item, Outcome, PutItem } from "./requests";
export { type Merge, Versions, type Version, type Written } from "./values";
export { type Event, Watch } from "./watch";
