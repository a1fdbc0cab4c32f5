"""How fast a node answers, and what one more request costs there.

The mean of its latency is an exponentially weighted moving average. The cost is that mean for each
request that is open there and the one to come, so who gets slower under load is chosen less before its
answers say so ("peak EWMA", as in Finagle). A failure counts for a second. What is known halves with every ten
seconds without news, so a node that was slow is tried again.
"""

from __future__ import annotations

WEIGHT = 1 / 8
HALF_LIFE = 10.0
FAILURE = 1.0
#: Below it nodes are alike.
LEAST = 50e-6


class Pace:
    """Of one node; times are in seconds, by a monotonic clock."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._at = 0.0
        self._open = 0

    def cost(self, now: float) -> float:
        return max(self._mean * self._kept(now), LEAST) * (self._open + 1)

    def asked(self) -> None:
        """A request is on its way."""
        self._open += 1

    def ended(self, now: float, took: float, is_failure: bool) -> None:
        """It was answered, or failed."""
        self._open -= 1
        if is_failure:
            self._mean = max(took, FAILURE)
        else:
            kept = (1 - WEIGHT) * self._kept(now)
            self._mean = kept * self._mean + (1 - kept) * took if self._at else took
        self._at = now

    def _kept(self, now: float) -> float:
        return float(0.5 ** ((now - self._at) / HALF_LIFE))
