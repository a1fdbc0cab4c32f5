"""The nodes that a client was given, and one request: whom it goes to, attempt by attempt.

Every node takes every request. Requests go round the endpoints. One that does not answer is left
alone for a while, longer each time, and until it is connected again; it is asked nevertheless where
no other is left.

A request is only sent on a connection that stands, so what fails before that has certainly done
nothing, and may go elsewhere whatever it is.

Left out: going straight to the owners of a key, as the client in Rust does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from google.protobuf.message import Message

from .errors import NOT_CONNECTED, StatorError, refused_here
from .peer import Peer, Tls, is_silence
from .retry import Budget, is_worth_it, pause

Quorum = Literal["sloppy", "strict", "local"]


@dataclass(frozen=True)
class Options:
    """How a client goes about its calls."""

    #: Seconds that a call may take with all its attempts; the nodes know it as the gRPC deadline.
    timeout: float = 10.0
    #: How often a request is sent at most; 1 turns retries off.
    attempts_max: int = 5
    #: Who counts for a quorum. Strict, only owners of the key: with r + w > n a get sees every put
    #: that was acknowledged before, whatever fails meanwhile. Local, those in the node's region.
    quorum: Quorum = "sloppy"
    #: Sent with each call, where nodes ask for one.
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    #: Tells, for each request anew, what it is a part of where traces are kept: the header
    #: `traceparent` of https://www.w3.org/TR/trace-context/, or None.
    traceparent: Callable[[], str | None] | None = None


class Nodes:
    """The endpoints."""

    def __init__(self, endpoints: list[str], options: Options) -> None:
        if not endpoints:
            raise refused_here("BAD_ENDPOINT", "give the address of at least one node")
        self.options = options
        self._peers = [Peer(endpoint, options.tls) for endpoint in endpoints]
        self._turn = 0
        self._budget = Budget(time.monotonic())
        token = options.token
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a request bears that is sent now."""
        tell = self.options.traceparent
        trace = tell() if tell else None
        return (*self._metadata, ("traceparent", trace)) if trace else self._metadata

    async def close(self) -> None:
        await asyncio.gather(*(peer.close() for peer in self._peers))

    def _next(self, tries: Counter[Peer]) -> Peer:
        now = time.monotonic()
        order = self._peers[self._turn :] + self._peers[: self._turn]
        self._turn = (self._turn + 1) % len(self._peers)
        # Of equals the first.
        peer = min(order, key=lambda peer: (peer.is_avoided(now), tries[peer]))
        tries[peer] += 1
        peer.taken(now)
        return peer

    async def stream(
        self, method: str, request: Message, silence_max: float
    ) -> AsyncGenerator[Any]:
        """The messages of a stream of the node whose turn it is, to its end."""
        peer, started = self._next(Counter()), time.monotonic()
        try:
            stream = peer.stream(method, request, silence_max, self.metadata())
            async with aclosing(stream):
                async for message in stream:
                    peer.judge(None, started)
                    yield message
        except StatorError as error:
            peer.judge(error, started)
            raise

    async def call(self, method: str, request: Message, repeatable: bool, seconds: float) -> Any:
        """Sends `request` until it is answered, may not be sent again, or time is up."""
        deadline = time.monotonic() + seconds
        self._budget.request()
        tries: Counter[Peer] = Counter()
        for attempt in count(1):
            peer = self._next(tries)
            started = time.monotonic()
            left = max(deadline - started, 0.001)
            is_last = attempt >= self.options.attempts_max
            # Half of what is left where another node could follow.
            is_shared = repeatable and not is_last and len(self._peers) > 1
            try:
                answer = await peer.ask(
                    method, request, left / 2 if is_shared else left, self.metadata()
                )
                peer.judge(None, started)
                return answer
            except StatorError as error:
                now = time.monotonic()
                peer.judge(error, started)
                if is_last or not is_worth_it(error, repeatable):
                    raise
                silent = is_silence(error)
                is_fresh = len(tries) < len(self._peers)
                wait = 0.0 if silent and is_fresh else pause(attempt, error.retry_after)
                # A node that took its time to refuse will again: better its answer than none.
                least = 0.0 if silent else now - started
                if now + wait + least >= deadline:
                    raise
                # What no node has received costs none of them anything.
                if error.reason != NOT_CONNECTED and not self._budget.take(now):
                    raise
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")
