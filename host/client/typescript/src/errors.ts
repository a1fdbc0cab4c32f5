// Why a request failed, with what programs need to know of it.
//
// A node answers a failure with a `google.rpc.ErrorInfo` of domain `stator`: a reason, and facts
// such as the effect. `docs/api.md` lists all reasons. Where no node has said anything, the reason
// is `NOT_CONNECTED` (certainly nothing was done) or `NO_ANSWER` (it may have been).

import { status as Code, type ServiceError } from "@grpc/grpc-js";
import { isAnyExtension } from "@grpc/proto-loader";

import type { BadRequest__Output } from "./generated/google/rpc/BadRequest";
import type { ErrorInfo__Output } from "./generated/google/rpc/ErrorInfo";
import type { PreconditionFailure__Output } from "./generated/google/rpc/PreconditionFailure";
import type { RetryInfo__Output } from "./generated/google/rpc/RetryInfo";
import { Status } from "./messages";

export { Code };

/** `NONE`: it certainly changed nothing. `MAYBE`: it may have been applied, or may yet be. */
export type Effect = "NONE" | "MAYBE";

/** What is wrong with one part of a request. */
export interface Violation {
  /** The field, or what the precondition or limit is about. */
  readonly subject: string;
  /** In words. */
  readonly description: string;
}

/** What is known of a failure. */
export interface Told {
  code: Code;
  message: string;
  reason: string;
  effect?: Effect;
  metadata?: Record<string, string>;
  retryAfterMs?: number | undefined;
  violations?: Violation[];
}

/** A request that failed. `reason` is what to branch on, where the class does not say enough. */
export class StatorError extends Error {
  /** The gRPC code. */
  readonly code: Code;
  /** In capitals; empty if what answered is no node of Stator. */
  readonly reason: string;
  readonly effect: Effect;
  /** What belongs to the reason, by name. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How long the node asks to wait before another attempt. */
  readonly retryAfterMs: number | undefined;
  readonly violations: readonly Violation[];

  constructor(told: Told) {
    super(`${told.message} [${told.reason || Code[told.code]}]`);
    this.name = new.target.name;
    this.code = told.code;
    this.reason = told.reason;
    this.effect = told.effect ?? "NONE";
    this.metadata = told.metadata ?? {};
    this.retryAfterMs = told.retryAfterMs;
    this.violations = told.violations ?? [];
  }

  /** Whether a write may stand, now or later, all the same. */
  get mayBeApplied(): boolean {
    return this.effect !== "NONE";
  }

  /** Whether no node has answered. */
  get isSilence(): boolean {
    return this.reason === NOT_CONNECTED || this.reason === NO_ANSWER;
  }
}

/** The request is not one that the cluster takes: nothing was done, mend it. */
export class Refused extends StatorError {}

/** There is no keyspace of this name. */
export class UnknownKeyspace extends Refused {}

/**
 * The context does not serve any more, has not seen all (`onlyIfCurrent`), or is of another key: get,
 * and write with what comes.
 */
export class StaleContext extends Refused {}

/** Another write of the key has this request id: a new write needs a new one. */
export class RequestIdReused extends Refused {
  /** The write that has it. */
  get dot(): string {
    return this.metadata["dot"] ?? "";
  }
}

/** The token, or the certificate, does not allow this. */
export class NotAllowed extends Refused {}

/** One value was asked for, and there are siblings: settle them, or have the keyspace do it. */
export class Conflict extends StatorError {}

/** A limit is full: the key has too many siblings, for instance. */
export class LimitReached extends StatorError {}

/**
 * The keyspace's quota has no room for it; nothing was done. To repeat a put does not help: delete, make
 * values smaller, or have the quota raised. Of `requests` `retryAfterMs` says when to come back, and the
 * client has waited for that as long as it was told to.
 */
export class QuotaExceeded extends LimitReached {
  /** Which: `keys`, `bytes` or `requests`. */
  get quota(): string {
    return this.metadata["quota"] ?? "";
  }

  /** How much of it there was. */
  get found(): number {
    return Number(this.metadata["found"] ?? 0);
  }

  /** How much there may be. */
  get max(): number {
    return Number(this.metadata["max"] ?? 0);
  }
}

/** It cannot be done now. Look at `mayBeApplied` before you write again. */
export class Unavailable extends StatorError {}

/** Too few replicas have answered. */
export class NotReached extends Unavailable {
  /** How many had to answer. */
  get needed(): number {
    return Number(this.metadata["needed"] ?? 0);
  }

  /** How many did. */
  get answered(): number {
    return Number(this.metadata["answered"] ?? 0);
  }
}

/** No node could be connected to, or the connection broke before the answer was there. */
export class Unreachable extends Unavailable {}

/** Time was up before a node had said what became of it. */
export class DeadlineExceeded extends Unavailable {}

/** The node has too much to do; `retryAfterMs` tells when to come back. */
export class Overloaded extends Unavailable {}

export const NOT_CONNECTED = "NOT_CONNECTED";
export const NO_ANSWER = "NO_ANSWER";

const BY_REASON: Readonly<Record<string, typeof StatorError>> = {
  UNKNOWN_KEYSPACE: UnknownKeyspace,
  CONTEXT_FORGED: StaleContext,
  CONTEXT_TOO_LARGE: StaleContext,
  CONTEXT_SECRET_UNKNOWN: StaleContext,
  PARTLY_FOLDED: StaleContext,
  CHANGED: StaleContext,
  REQUEST_ID_REUSED: RequestIdReused,
  QUOTA_EXCEEDED: QuotaExceeded,
  QUORUM_NOT_REACHED: NotReached,
  NODE_REMOVED: Unavailable,
  SECOND_HOLDER: Unavailable,
  EXPIRED: DeadlineExceeded,
  BODY_TOO_SLOW: DeadlineExceeded,
};

/** Codes that say what the request is, not how it went. */
export const REFUSALS: ReadonlySet<Code> = new Set([
  Code.INVALID_ARGUMENT,
  Code.NOT_FOUND,
  Code.ALREADY_EXISTS,
  Code.PERMISSION_DENIED,
  Code.UNAUTHENTICATED,
  Code.FAILED_PRECONDITION,
  Code.ABORTED,
  Code.OUT_OF_RANGE,
  Code.UNIMPLEMENTED,
]);

/** Codes of a connection that was lost or closed, unless a node says otherwise. */
const LOST: ReadonlySet<Code> = new Set([
  Code.UNAVAILABLE,
  Code.DEADLINE_EXCEEDED,
  Code.CANCELLED,
  Code.UNKNOWN,
  Code.INTERNAL,
  Code.RESOURCE_EXHAUSTED,
]);

/** The error of the class that fits. */
export function errorOf(told: Told): StatorError {
  return new (kindOf(told))(told);
}

function kindOf({ code, reason, retryAfterMs }: Told): typeof StatorError {
  const known = BY_REASON[reason];
  if (known !== undefined) return known;
  if (reason === NOT_CONNECTED || reason === NO_ANSWER) {
    return code === Code.DEADLINE_EXCEEDED ? DeadlineExceeded : Unreachable;
  }
  if (code === Code.PERMISSION_DENIED || code === Code.UNAUTHENTICATED) return NotAllowed;
  if (REFUSALS.has(code)) return Refused;
  if (code === Code.RESOURCE_EXHAUSTED) {
    return retryAfterMs === undefined ? LimitReached : Overloaded;
  }
  const isPassing = code === Code.UNAVAILABLE || code === Code.DEADLINE_EXCEEDED;
  return isPassing ? Unavailable : StatorError;
}

/** What is refused before anything is sent. */
export function refusedHere(reason: string, message: string): Refused {
  return new Refused({ code: Code.INVALID_ARGUMENT, message, reason });
}

export function notConnected(address: string): StatorError {
  const message = `${address} is not reached: no connection could be made`;
  return errorOf({ code: Code.UNAVAILABLE, message, reason: NOT_CONNECTED });
}

export function silent(ms: number): StatorError {
  const message = `a stream has said nothing for ${ms / 1000} s`;
  return errorOf({ code: Code.UNAVAILABLE, message, reason: NO_ANSWER, effect: "MAYBE" });
}

/** What a call ended with, once it was under way. */
export function ofCall(error: ServiceError): StatorError {
  const [details] = error.metadata?.get("grpc-status-details-bin") ?? [];
  return errorOf(toldBy(error.code, error.details, Buffer.isBuffer(details) ? details : undefined));
}

/** What a node says, or the library in its place: then there are no details. */
export function toldBy(code: Code, message: string, details: Buffer | undefined): Told {
  let info: ErrorInfo__Output | undefined;
  let retryAfterMs: number | undefined;
  const violations: Violation[] = [];
  for (const detail of details === undefined ? [] : Status.deserialize(details).details) {
    // The loader has unpacked what it knows.
    const unpacked: unknown = detail;
    switch (isAnyExtension(detail) ? detail["@type"].split("/").pop() : undefined) {
      case "google.rpc.ErrorInfo":
        info = unpacked as ErrorInfo__Output;
        break;
      case "google.rpc.RetryInfo": {
        const delay = (unpacked as RetryInfo__Output).retryDelay;
        retryAfterMs = Number(delay?.seconds ?? 0) * 1000 + (delay?.nanos ?? 0) / 1e6;
        break;
      }
      case "google.rpc.BadRequest":
        for (const { field, description } of (unpacked as BadRequest__Output).fieldViolations) {
          violations.push({ subject: field, description });
        }
        break;
      case "google.rpc.PreconditionFailure":
      case "google.rpc.QuotaFailure":
        violations.push(...(unpacked as PreconditionFailure__Output).violations);
        break;
    }
  }
  const said = info?.domain === "stator" ? info : undefined;
  return {
    code,
    message,
    reason: said?.reason ?? (LOST.has(code) ? NO_ANSWER : ""),
    metadata: said?.metadata ?? {},
    effect: effectOf(code, said),
    retryAfterMs,
    violations,
  };
}

function effectOf(code: Code, said: ErrorInfo__Output | undefined): Effect {
  const effect = said?.metadata["effect"];
  if (effect !== undefined) return effect === "NONE" ? "NONE" : "MAYBE";
  const isFull = code === Code.RESOURCE_EXHAUSTED && said !== undefined;
  return REFUSALS.has(code) || isFull ? "NONE" : "MAYBE";
}
