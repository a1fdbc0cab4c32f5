"""The nodes that a client was given, and one request: whom it goes to, attempt by attempt.

Every node takes every request. One for a key goes to an owner of it where the ring is known (`routes`), and
others go round the endpoints. A node that does not answer is left alone for a while, longer each time, and
until it is connected again; it is asked nevertheless where no other is left.

A request is only sent on a connection that stands, so what fails before that has certainly done
nothing, and may go elsewhere whatever it is.

Left out: coordinating gets in the client, as the one in Rust can.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

from google.protobuf.message import Message

from .errors import NOT_CONNECTED, StatorError, refused_here
from .peer import Peer, Tls, is_silence
from .retry import Budget, is_worth_it, pause
from .routes import Routes
from .routing_pb2 import GetRingRequest, GetRingResponse

Quorum = Literal["sloppy", "strict", "local"]
Coordination = Literal["owner", "any"]
#: A keyspace and a key.
Place = tuple[str, bytes]


@dataclass(frozen=True)
class Options:
    """How a client goes about its calls."""

    #: Seconds that a call may take with all its attempts; the nodes know it as the gRPC deadline.
    timeout: float = 10.0
    #: How often a request is sent at most; 1 turns retries off.
    attempts_max: int = 5
    #: Who counts for a quorum. Strict, only owners of the key: with r + w > n a get sees every put
    #: that was acknowledged before, whatever fails meanwhile. Local, those in the region of the node that
    #: is asked, which is one of the endpoints then: give those of one region.
    quorum: Quorum = "sloppy"
    #: Sent with each call, where nodes ask for one.
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    #: Tells, for each request anew, what it is a part of where traces are kept: the header
    #: `traceparent` of https://www.w3.org/TR/trace-context/, or None.
    traceparent: Callable[[], str | None] | None = None
    #: Who is asked first: an owner of the key, at the address that it tells the cluster, or any
    #: endpoint in turn.
    coordination: Coordination = "owner"


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
        self._routes = Routes(self._peers, options.tls, self.ring)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a request bears that is sent now."""
        tell = self.options.traceparent
        trace = tell() if tell else None
        return (*self._metadata, ("traceparent", trace)) if trace else self._metadata

    async def close(self) -> None:
        await self._routes.close()

    async def ring(self, request: GetRingRequest) -> GetRingResponse:
        """The ring as any node tells it."""
        answer = await self.call("GetRing", request, True, self.options.timeout)
        assert isinstance(answer, GetRingResponse)
        return answer

    def _owners(self, place: Place | None, is_named: bool) -> list[Peer]:
        """The owners of a key, those first that are to be asked first."""
        # Of a region it must be the same one each time: that of the endpoints.
        is_local = self.options.quorum == "local"
        if place is None or is_local or self.options.coordination == "any":
            return []
        owners, now = self._routes.owners(*place), time.monotonic()
        return owners if is_named else sorted(owners, key=lambda peer: peer.pace.cost(now))

    def _next(self, tries: Counter[Peer], owners: Sequence[Peer] = ()) -> Peer:
        now = time.monotonic()
        order = [*owners, *self._peers[self._turn :], *self._peers[: self._turn]]
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

    async def call(
        self,
        method: str,
        request: Message,
        repeatable: bool,
        seconds: float,
        place: Place | None = None,
    ) -> Any:
        """Sends `request`, which may be about one key, until it is answered, may not be sent again, or
        time is up."""
        deadline = time.monotonic() + seconds
        self._budget.request()
        tries: Counter[Peer] = Counter()
        owners = self._owners(place, repeatable and method != "Get")
        nodes = len({*owners, *self._peers})
        for attempt in count(1):
            peer = self._next(tries, owners)
            started = time.monotonic()
            left = max(deadline - started, 0.001)
            is_last = attempt >= self.options.attempts_max
            # Half of what is left where another node could follow.
            is_shared = repeatable and not is_last and nodes > 1
            peer.pace.asked()
            silent = False
            try:
                answer = await peer.ask(
                    method, request, left / 2 if is_shared else left, self.metadata()
                )
                peer.judge(None, started)
                return answer
            except StatorError as error:
                now = time.monotonic()
                peer.judge(error, started)
                silent = is_silence(error)
                if silent:
                    self._routes.note_trouble()
                if is_last or not is_worth_it(error, repeatable):
                    raise
                is_fresh = len(tries) < nodes
                wait = 0.0 if silent and is_fresh else pause(attempt, error.retry_after)
                # A node that took its time to refuse will again: better its answer than none.
                least = 0.0 if silent else now - started
                if now + wait + least >= deadline:
                    raise
                # What no node has received costs none of them anything.
                if error.reason != NOT_CONNECTED and not self._budget.take(now):
                    raise
            finally:
                now = time.monotonic()
                peer.pace.ended(now, now - started, silent)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")
