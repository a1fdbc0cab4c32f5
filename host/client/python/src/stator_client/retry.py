"""Whether, when and how often a request is sent again."""

from __future__ import annotations

import random

from .errors import NO_ANSWER, NONE, Code, StatorError

PAUSE_MIN = 0.025
PAUSE_MAX = 1.0


def is_worth_it(error: StatorError, is_repeatable: bool) -> bool:
    """Whether another attempt may help, and may be made.

    A write that has no name would be a second one, unless the first attempt did nothing.
    """
    if error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) or error.reason == NO_ANSWER:
        may_pass = True
    elif error.code == Code.RESOURCE_EXHAUSTED:
        # Overload passes; a full quota does not by itself, and names no time.
        may_pass = error.retry_after is not None
    else:
        # Another node is a member still, or the one that this one is a copy of.
        may_pass = error.reason in ("NODE_REMOVED", "SECOND_HOLDER")
    return may_pass and (is_repeatable or error.effect == NONE)


def pause(attempt: int, asked: float | None) -> float:
    """How long to wait before a retry, the first being 1: twice as long each time, with a part by
    chance so that clients do not come back all at once, and never less than the node asked for."""
    doubled: float = min(PAUSE_MIN * 2 ** min(attempt - 1, 16), PAUSE_MAX)
    return (asked or 0.0) + doubled * random.uniform(0.5, 1.0)


class Budget:
    """How many requests may be sent beyond those that were asked for.

    Where a whole cluster is slow, retries would be load on top of the load that made it slow. So
    they take tokens from a bucket that every request fills by a tenth, and every second by ten: in
    the long run they are at most a tenth of all.
    """

    PER_REQUEST = 0.1
    PER_SECOND = 10.0
    FIRST = 100.0
    MOST = 1_000.0

    def __init__(self, now: float) -> None:
        self._tokens = self.FIRST
        self._filled = now

    def request(self) -> None:
        """A request is sent for the first time."""
        self._add(self.PER_REQUEST)

    def take(self, now: float) -> bool:
        """Whether one more may be sent."""
        # By time no more than a client starts with: what is beyond that it must have earned.
        by_time = (now - self._filled) * self.PER_SECOND
        self._filled = now
        self._add(min(by_time, max(self.FIRST - self._tokens, 0.0)))
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _add(self, tokens: float) -> None:
        self._tokens = min(self._tokens + tokens, self.MOST)
