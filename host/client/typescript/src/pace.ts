// How fast a node answers, and what one more request costs there.
//
// The mean of its latency is an exponentially weighted moving average. The cost is that mean for each
// request that is open there and the one to come, so who gets slower under load is chosen less before its
// answers say so ("peak EWMA", as in Finagle). A failure counts for a second. What is known halves with
// every ten seconds without news, so a node that was slow is tried again.

const WEIGHT = 1 / 8;
const HALF_LIFE_MS = 10_000;
const FAILURE_MS = 1000;
/** Below it nodes are alike. */
const LEAST_MS = 0.05;

/** Of one node; times are in milliseconds, by a monotonic clock. */
export class Pace {
  #mean = 0;
  #at: number | undefined;
  #open = 0;

  cost(now: number): number {
    return Math.max(this.#mean * this.#kept(now), LEAST_MS) * (this.#open + 1);
  }

  /** A request is on its way. */
  asked(): void {
    this.#open += 1;
  }

  /** It was answered, or failed. */
  ended(now: number, took: number, isFailure: boolean): void {
    this.#open -= 1;
    const kept = this.#at === undefined ? 0 : (1 - WEIGHT) * this.#kept(now);
    this.#mean = isFailure ? Math.max(took, FAILURE_MS) : kept * this.#mean + (1 - kept) * took;
    this.#at = now;
  }

  #kept(now: number): number {
    return 0.5 ** ((now - (this.#at ?? now)) / HALF_LIFE_MS);
  }
}
