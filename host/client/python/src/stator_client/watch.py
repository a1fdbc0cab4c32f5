"""What is changed of some keys, as it happens: the streams of all members made one.

Each member tells what its own store takes (`Kv.Watch`), and that a key was changed, not what it is now. A
watch has a stream from each of them, asks a get what the key is, with what the member told as `at_least`,
and tells each state once. So it needs no node in particular: while one is away the other owners of its
keys tell the same writes, and what only it has taken is told when it is back, from where its stream was.
`docs/watch.md` of Stator says what is promised.

Answers of members are worked off one after the other, and only while somebody takes events: who is slow
holds up the nodes' streams, which cost them nothing then. A member's position moves on once all of an answer
is told; what cannot be read yet is asked for again every second, and holds that member's position.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from . import kv_pb2, routing_pb2
from .errors import Code, StatorError, refused_here
from .listing import Listing, request
from .nodes import Nodes
from .peer import Peer
from .retry import is_worth_it, pause
from .values import Versions, listed, versions

#: A node says something every five seconds.
SILENCE_MAX = 15.0
#: How long members that do not answer are waited for at the beginning.
BEGIN_WITHIN = 5.0
#: How often what could not be read is asked for again, and for how long at a time.
TICK = 1.0
RETRY_SECONDS = 2.0
#: How often it is looked who is a member.
RING_PERIOD = 5.0
#: What may be because a node has not heard of a role or keyspace yet is asked for so often.
REFUSALS_MAX = 8
#: Keys whose last state is remembered.
KNOWN_MAX = 100_000
#: Keys that could not be read; beyond it members are not listened to until some are.
LATER_MAX = 10_000
#: Gets at a time, those of what could not be read, and dots that one takes.
GETS_MAX, RETRIED_MAX, DOTS_MAX = 32, 256, 1_000
START = "start"

#: What has been seen: of each actor the last write.
Vector = dict[str, int]


@dataclass(frozen=True)
class Begun:
    """Every write that is sent from now on will be told. Told once; changes may come before it."""


@dataclass(frozen=True)
class Changed:
    """A key was changed: what it is `now`, to be written back with its context, no version where it was
    deleted."""

    now: Versions


@dataclass(frozen=True)
class ListingBegun:
    """All keys are told from here on, because it was asked for or because changes can be told no more.
    Changes go on meanwhile. Told again if it begins anew."""


@dataclass(frozen=True)
class Listed:
    """All are: what was not told since `ListingBegun` is not there any more, which a watch by itself
    cannot tell."""


@dataclass(frozen=True)
class Away:
    """A member is not reached; what it alone has taken is told when it is."""

    node: str
    why: str


@dataclass(frozen=True)
class Back:
    """It is reached again."""

    node: str


Event = Begun | Changed | ListingBegun | Listed | Away | Back


def covers(one: Vector, other: Vector) -> bool:
    return all(one.get(actor, 0) >= counter for actor, counter in other.items())


def vector(dots: Iterable[str]) -> Vector:
    seen: Vector = {}
    for dot in dots:
        actor, _, counter = dot.rpartition(":")
        seen[actor] = max(int(counter), seen.get(actor, 0))
    return seen


def _dots(seen: Vector) -> list[str]:
    return [f"{actor}:{counter}" for actor, counter in seen.items()][:DOTS_MAX]


@dataclass
class _Last:
    seen: Vector
    #: Of the object; empty if it is not known.
    hash: bytes
    #: What was told.
    print: Any


class Known:
    """What was told last of the keys, so that each state is told once and none goes back. Two states
    compare by what they have seen; of the same the object's hash tells whether one has ended."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, _Last] = OrderedDict()

    def seen(self, key: bytes) -> Vector:
        last = self._keys.get(key)
        return last.seen if last else {}

    def was_told(self, key: bytes, seen: Vector, hash: bytes) -> bool:
        last = self._keys.get(key)
        return bool(
            last and covers(last.seen, seen) and (last.hash == hash or not covers(seen, last.seen))
        )

    def is_new(self, now: Versions, seen: Vector, told: Vector, hash: bytes) -> bool:
        """A get gave `now`, of a key that a member said to have `hash` when it had seen `told`."""
        before, print = self._keys.get(now.key), _print(now)
        if before and seen and covers(before.seen, seen) and not covers(seen, before.seen):
            return False
        is_same = before and before.print == print and covers(before.seen, seen)
        self.note(now.key, _Last(seen, hash if told == seen else b"", print))
        return not is_same

    def listed(self, now: Versions, seen: Vector) -> None:
        self.note(now.key, _Last(seen, b"", _print(now)))

    def note(self, key: bytes, last: _Last) -> None:
        self._keys.pop(key, None)
        self._keys[key] = last
        if len(self._keys) > KNOWN_MAX:
            self._keys.popitem(last=False)


def _print(now: Versions) -> Any:
    # Not the values themselves, which may be large.
    return hash(tuple((v.dots, v.value, v.is_tombstone) for v in now.siblings))


@dataclass
class _Member:
    peer: Peer
    follower: asyncio.Task[None]
    #: How far its stream was heard. What of that is told stands in the token.
    reached: str
    #: What is not read yet, as it was told last.
    later: dict[bytes, kv_pb2.WatchedKey] = field(default_factory=dict)
    is_away: bool = False


class Watch:
    """Events, one after the other: `async for event in watch`. What is not reached is waited for; it
    raises what another attempt does not help against: the keyspace is gone, or the role."""

    def __init__(
        self,
        nodes: Nodes,
        keyspace: str,
        keys: tuple[bytes, bytes],
        siblings: bool,
        from_start: bool,
        resume: str | None,
    ) -> None:
        self._nodes, self._keyspace = nodes, keyspace
        self._key, self._prefix = keys
        self._view = kv_pb2.VIEW_SIBLINGS if siblings else kv_pb2.VIEW_MERGED
        self._is_resumed, self._from_start = resume is not None, from_start
        named = repr((keyspace, *keys)).encode()
        self._range = hashlib.sha256(named).hexdigest()[:16]
        self._positions: dict[str, str] = {}
        self._page: str | None = None
        if resume is not None:
            self._positions, self._page = _parsed(resume, self._range)
        self._members: dict[str, _Member] = {}
        self._heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(4)
        self._known = Known()
        self._gets = asyncio.Semaphore(GETS_MAX)

    @property
    def token(self) -> str:
        """Where the watch is: one that resumes with it tells all that is changed behind the last event
        that this one gave, and perhaps a few of the last again. Without meaning before `Begun`."""
        parts = [f"{node}:{position}" for node, position in sorted(self._positions.items())]
        page = [] if self._page is None else [f"list:{self._page}"]
        return ",".join([f"p1:{self._range}", *parts, *page])

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        begins_until: float | None = time.monotonic() + BEGIN_WITHIN
        looked_at = retried_at = float("-inf")
        try:
            if self._page is not None:
                async for event in self._list(self._page):
                    yield event
            while True:
                now = time.monotonic()
                if now - looked_at >= RING_PERIOD:
                    await self._look(begins_until is not None)
                    looked_at = now
                if now - retried_at >= TICK:
                    retried_at = now
                    for changed in await self._retry():
                        yield changed
                    self._settle()
                heard = await self._next()
                if heard is not None:
                    async for event in self._take(*heard):
                        yield event
                if begins_until is not None and self._has_begun(begins_until):
                    begins_until = None
                    yield Begun()
                    if self._from_start and not self._is_resumed:
                        async for event in self._list(""):
                            yield event
        finally:
            await self._end()

    async def _end(self) -> None:
        members, self._members = self._members, {}
        for member in members.values():
            member.follower.cancel()
        await asyncio.gather(*(m.follower for m in members.values()), return_exceptions=True)
        await asyncio.gather(*(m.peer.close() for m in members.values()), return_exceptions=True)

    def _has_begun(self, until: float) -> bool:
        if time.monotonic() >= until:
            return bool(self._members)
        return bool(self._members) and all(m.reached for m in self._members.values())

    async def _next(self) -> tuple[str, Any] | None:
        if sum(len(member.later) for member in self._members.values()) >= LATER_MAX:
            await asyncio.sleep(TICK)
            return None
        try:
            return await asyncio.wait_for(self._heard.get(), TICK)
        except asyncio.TimeoutError:
            return None

    async def _look(self, is_beginning: bool) -> None:
        """Follows who is a member now."""
        asked = routing_pb2.GetRingRequest(packed=True)
        try:
            answer = await self._nodes.ring(asked)
        except StatorError as error:
            if self._members and is_worth_it(error, True):
                return
            raise
        now = {member.node_id: member.client_address for member in answer.ring.members}
        for node in [node for node in self._members if node not in now]:
            self._members.pop(node).follower.cancel()
            self._positions.pop(node, None)
        for node, address in now.items():
            known = self._members.get(node)
            if known is not None and known.peer.address == address:
                continue
            if known is not None:
                known.follower.cancel()
            # What a member has taken since it came nobody else may have told.
            fresh = "" if is_beginning and not self._is_resumed else START
            position = known.reached if known else self._positions.get(node, fresh)
            # A connection of its own: what is not read yet must not be in the way of gets.
            peer = Peer(address, self._nodes.options.tls)
            follower = asyncio.ensure_future(self._follow(node, peer, position))
            self._members[node] = _Member(peer, follower, "", known.later if known else {})

    async def _follow(self, node: str, peer: Peer, position: str) -> None:
        """One member's stream, opened anew from where it was whenever it ends."""
        failures = 0
        asked = kv_pb2.WatchRequest(
            keyspace=self._keyspace, key=self._key, prefix=self._prefix, position=position
        )
        while True:
            try:
                stream = peer.stream("Watch", asked, SILENCE_MAX, self._nodes.metadata())
                async with aclosing(stream):
                    async for answer in stream:
                        failures, asked.position = 0, answer.position
                        await self._heard.put((node, answer))
                why: StatorError | str = "it has ended its stream"
            except StatorError as error:
                why = error
            failures += 1
            refusals = (Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED)
            code = why.code if isinstance(why, StatorError) else None
            if code == Code.INVALID_ARGUMENT or (code in refusals and failures >= REFUSALS_MAX):
                await self._heard.put((node, why))
                return
            await self._heard.put((node, str(why)))
            asked_for = why.retry_after if isinstance(why, StatorError) else None
            await asyncio.sleep(pause(failures, asked_for))

    async def _take(self, node: str, heard: Any) -> AsyncIterator[Event]:
        member = self._members.get(node)
        if member is None:
            return
        if isinstance(heard, StatorError):
            raise heard
        was_away, member.is_away = member.is_away, isinstance(heard, str)
        if isinstance(heard, str):
            if not was_away:
                yield Away(node, heard)
            return
        member.reached = heard.position
        if was_away:
            yield Back(node)
        if heard.gap:
            # A listing tells all of them.
            member.later.clear()
            async for event in self._list(""):
                yield event
        for changed in await self._read_all(member, heard.changes):
            yield changed
        self._settle()

    def _settle(self) -> None:
        """All that was heard of a member is told, or is to be read later."""
        for node, member in self._members.items():
            if member.reached and not member.later:
                self._positions[node] = member.reached

    async def _retry(self) -> list[Changed]:
        """Asks again for what could not be read."""
        found: list[Changed] = []
        for member in list(self._members.values()):
            some = list(member.later.values())[:RETRIED_MAX]
            found += await self._read_all(member, some, RETRY_SECONDS)
        return found

    async def _read_all(
        self, member: _Member, changes: Iterable[kv_pb2.WatchedKey], seconds: float | None = None
    ) -> list[Changed]:
        """What there is now of what the member told, as far as it is new."""
        asks: list[tuple[kv_pb2.WatchedKey, Vector]] = []
        for change in changes:
            told = vector(change.seen)
            if self._known.was_told(change.key, told, change.hash):
                member.later.pop(change.key, None)
            else:
                member.later[change.key] = change
                asks.append((change, told))
        gets = [self._read(c.key, told, self._known.seen(c.key), seconds) for c, told in asks]
        found = []
        for (change, told), answer in zip(asks, await asyncio.gather(*gets), strict=True):
            if answer is None:
                continue
            now, seen = answer
            # Unless it was told again since.
            if member.later.get(change.key) == change:
                del member.later[change.key]
            if self._known.is_new(now, seen, told, change.hash):
                found.append(Changed(now))
        return found

    async def _read(
        self, key: bytes, seen: Vector, known: Vector, seconds: float | None = None
    ) -> tuple[Versions, Vector] | None:
        """What the key is, with all that was `seen` and, if any owner still knows of it, what was told
        before; None: it cannot be read now."""

        async def get(at_least: Vector) -> tuple[Versions, Vector]:
            asked = kv_pb2.GetRequest(
                keyspace=self._keyspace,
                key=key,
                view=self._view,
                at_least=_dots(at_least),
                tell_seen=True,
            )
            time_ = self._nodes.options.timeout if seconds is None else seconds
            answer = await self._nodes.call("Get", asked, True, time_)
            return versions(self._keyspace, key, answer), vector(answer.seen)

        async with self._gets:
            try:
                if not covers(seen, known):
                    both = {a: max(seen.get(a, 0), known.get(a, 0)) for a in {**seen, **known}}
                    try:
                        return await get(both)
                    except StatorError as error:
                        # Deletes that were told may be forgotten since.
                        if error.reason != "SESSION_BEHIND":
                            raise
                return await get(seen)
            except StatorError as error:
                if is_worth_it(error, True):
                    return None
                raise

    async def _list(self, page: str) -> AsyncIterator[Event]:
        """Tells all keys, from a page on."""
        yield ListingBegun()
        if self._key:
            while (answer := await self._read(self._key, {}, {})) is None:
                await asyncio.sleep(TICK)
            self._known.listed(*answer)
            yield Changed(answer[0])
            yield Listed()
            return
        self._page = page
        asked = request(
            self._keyspace,
            self._view,
            prefix=self._prefix,
            start=b"",
            until=b"",
            r=None,
            deleted=False,
            limit=0,
            token=page,
        )
        asked.tell_seen = True
        async with aclosing(Listing(self._nodes, asked).pages()) as pages:
            async for answered in pages:
                for key in answered.keys:
                    event = await self._there(key)
                    if event is not None:
                        yield event
                self._page = answered.page_token
        self._page = None
        yield Listed()

    async def _there(self, key: kv_pb2.ListedKey) -> Changed | None:
        """A key is there. It is told even if it was before: else it would count as gone."""
        now, seen = listed(self._keyspace, key), vector(key.seen)
        known = self._known.seen(now.key)
        if not covers(seen, known):
            # A page may be older than what was told since it was read.
            answer = await self._read(now.key, seen, known)
            if answer is None:
                return None  # What was told stands; whoever lacks it tells it again.
            now, seen = answer
        self._known.listed(now, seen)
        return Changed(now)


def _parsed(token: str, range: str) -> tuple[dict[str, str], str | None]:
    head, *parts = token.split(",")
    pairs = [part.partition(":") for part in parts]
    if head != f"p1:{range}" or any(not separator for _, separator, _ in pairs):
        message = (
            "the token is none of a watch of these keys by this client: resume with the keyspace, key "
            "or prefix that it was begun with, or begin from now or the start"
        )
        raise refused_here("BAD_TOKEN", message)
    positions = {node: position for node, _, position in pairs}
    return positions, positions.pop("list", None)
