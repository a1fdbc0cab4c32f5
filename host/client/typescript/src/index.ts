// A client for Stator, a replicated key-value store. Start with `Client.connect`.

export {
  type CallOptions,
  type Change,
  Client,
  type Data,
  DELETE,
  type DeleteOptions,
  type GetOptions,
  type Next,
  type PutOptions,
  type Settle,
  type UpdateOptions,
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
  Refused,
  RequestIdReused,
  StaleContext,
  StatorError,
  Unavailable,
  UnknownKeyspace,
  Unreachable,
  type Violation,
} from "./errors";
export type { Options } from "./nodes";
export type { Tls } from "./peer";
export { type Merge, Versions, type Version, type Written } from "./values";
