// Whether, when and how often a request is sent again.

import { Code, NO_ANSWER, type StatorError } from "./errors";

export const PAUSE_MIN_MS = 25;
export const PAUSE_MAX_MS = 1000;

/**
 * Whether another attempt may help, and may be made. A write that has no name would be a second
 * one, unless the first attempt did nothing.
 */
export function isWorthIt(error: StatorError, isRepeatable: boolean): boolean {
  return mayPass(error) && (isRepeatable || error.effect === "NONE");
}

function mayPass({ code, reason, retryAfterMs }: StatorError): boolean {
  if (reason === NO_ANSWER) return true;
  switch (code) {
    case Code.UNAVAILABLE:
    case Code.DEADLINE_EXCEEDED:
      return true;
    case Code.RESOURCE_EXHAUSTED:
      // Overload passes; a full quota does not by itself, and names no time.
      return retryAfterMs !== undefined;
    default:
      // Another node is a member still, or the one that this one is a copy of.
      return reason === "NODE_REMOVED" || reason === "SECOND_HOLDER";
  }
}

/**
 * How long to wait before a retry, the first being 1: twice as long each time, with a part by
 * chance so that clients do not come back all at once, and never less than the node asked for.
 */
export function pauseMs(attempt: number, askedMs: number | undefined): number {
  const doubled = Math.min(PAUSE_MIN_MS * 2 ** Math.min(attempt - 1, 16), PAUSE_MAX_MS);
  return (askedMs ?? 0) + doubled * (0.5 + Math.random() / 2);
}

const PER_REQUEST = 0.1;
const PER_SECOND = 10;
const FIRST = 100;
const MOST = 1000;

/**
 * How many requests may be sent beyond those that were asked for.
 *
 * Where a whole cluster is slow, retries would be load on top of the load that made it slow. So
 * they take tokens from a bucket that every request fills by a tenth, and every second by ten: in
 * the long run they are at most a tenth of all.
 */
export class Budget {
  #tokens = FIRST;
  #filledMs: number;

  constructor(nowMs: number) {
    this.#filledMs = nowMs;
  }

  /** A request is sent for the first time. */
  request(): void {
    this.#add(PER_REQUEST);
  }

  /** Whether one more may be sent. */
  take(nowMs: number): boolean {
    // By time no more than a client starts with: what is beyond that it must have earned.
    const byTime = ((nowMs - this.#filledMs) / 1000) * PER_SECOND;
    this.#filledMs = nowMs;
    this.#add(Math.min(byTime, Math.max(FIRST - this.#tokens, 0)));
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #add(tokens: number): void {
    this.#tokens = Math.min(this.#tokens + tokens, MOST);
  }
}
