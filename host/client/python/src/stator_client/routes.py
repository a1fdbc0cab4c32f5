"""Whom a request for a key goes to: one of its owners, where the client knows the ring.

The ring is fetched from any node in the background: with the first request, every ten seconds while there are
requests, and soon after a node has not answered. No request waits for it. Of a key's owners the one is
asked that costs least (`pace`); of a write with a request id the first in order, because that one gives it
its dot whoever is asked. Only owners to which a connection stands are asked so: where members cannot be
dialled at the addresses that they tell, every request goes to the endpoints, as without a ring.

Positions on the ring are those of https://docs.rs/blake3's key derivation mode: ARCHITECTURE.md of Stator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from blake3 import blake3

from . import routing_pb2
from .errors import StatorError
from .peer import Peer, Tls

#: How old the ring may get, and how often it is fetched at most, in seconds.
PERIOD = 10.0
REST = 0.5
#: The function that gives keys their positions: the only one so far.
POSITION_HASH = 1
CONTEXT = "stator key position v1"

Fetch = Callable[[routing_pb2.GetRingRequest], Awaitable[routing_pb2.GetRingResponse]]


def partition_of(keyspace_id: int, key: bytes, partitions: int) -> int:
    """The partition of a key: the first bits of its position."""
    hashed = blake3(keyspace_id.to_bytes(8, "big") + key, derive_key_context=CONTEXT)
    return int.from_bytes(hashed.digest(length=16), "big") * partitions >> 128


@dataclass(frozen=True)
class Ring:
    """Who owns what."""

    etag: str
    addresses: tuple[str, ...]
    #: Per partition its owners in order, as places among the addresses.
    owners: tuple[tuple[int, ...], ...]
    #: By name each keyspace's id, and how many owners hold its keys.
    keyspaces: dict[str, tuple[int, int]]

    @classmethod
    def read(cls, answer: routing_pb2.GetRingResponse) -> Ring | None:
        """The ring as a node tells it; None if it is not one that this client understands."""
        told, packed, at = answer.ring, answer.ring.packed_owners, 0
        owners: list[tuple[int, ...]] = []
        while at < len(packed):
            end = at + 1 + 2 * packed[at]
            pairs = packed[at + 1 : end]
            owners.append(
                tuple(int.from_bytes(pairs[i : i + 2], "big") for i in range(0, len(pairs), 2))
            )
            at = end
        places = {place for each in owners for place in each}
        is_whole = (
            at == len(packed)
            and len(owners) == told.partitions
            and told.partitions > 0
            and told.partitions & (told.partitions - 1) == 0
            and max(places, default=0) < len(told.members)
        )
        if told.position_hash != POSITION_HASH or not is_whole:
            return None
        try:
            keyspaces = {route.name: (int(route.id, 16), route.n) for route in told.keyspaces}
        except ValueError:
            return None
        addresses = tuple(member.client_address for member in told.members)
        return cls(answer.etag, addresses, tuple(owners), keyspaces)

    def owners_of(self, keyspace: str, key: bytes) -> list[str]:
        """The addresses of a key's owners, in order; none of a keyspace that is not known."""
        if keyspace not in self.keyspaces:
            return []
        keyspace_id, n = self.keyspaces[keyspace]
        owners = self.owners[partition_of(keyspace_id, key, len(self.owners))]
        return [self.addresses[place] for place in owners[:n]]


class Routes:
    """The ring as far as it is known, and the ways to its members."""

    def __init__(self, endpoints: list[Peer], tls: Tls | None, fetch: Fetch) -> None:
        self._given = endpoints
        self._endpoints = {peer.address: peer for peer in endpoints}
        self._peers = dict(self._endpoints)
        self._tls = tls
        self._fetch = fetch
        self._ring: Ring | None = None
        self._fetched_at = -PERIOD
        self._is_stale = False
        self._fetching: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def owners(self, keyspace: str, key: bytes) -> list[Peer]:
        """The owners of a key that can be asked, in the order of the preference list."""
        self._keep()
        if self._ring is None:
            return []
        peers = (self._peers.get(address) for address in self._ring.owners_of(keyspace, key))
        return [peer for peer in peers if peer is not None and peer.is_ready()]

    def note_trouble(self) -> None:
        """A node did not answer: the ring may be another one."""
        self._is_stale = True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
        peers = {*self._given, *self._peers.values()}
        await asyncio.gather(*(peer.close() for peer in peers), *self._closing)

    def _keep(self) -> None:
        age = time.monotonic() - self._fetched_at
        is_due = age >= PERIOD or (self._is_stale and age >= REST)
        if is_due and (self._fetching is None or self._fetching.done()):
            self._fetched_at, self._is_stale = time.monotonic(), False
            self._fetching = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        etag = self._ring.etag if self._ring else ""
        try:
            answer = await self._fetch(routing_pb2.GetRingRequest(etag=etag, packed=True))
        except StatorError:
            return  # Requests go by what is known, or to the endpoints.
        if answer.HasField("ring"):
            self._learn(Ring.read(answer))

    def _learn(self, ring: Ring | None) -> None:
        self._ring = ring
        members = set(ring.addresses) if ring else set()
        for address in [a for a in self._peers if a not in members and a not in self._endpoints]:
            # What is under way there may end.
            closing = asyncio.ensure_future(self._peers.pop(address).close(grace=PERIOD))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        for address in members - self._peers.keys():
            try:
                self._peers[address] = Peer(address, self._tls)
            except StatorError:
                continue  # An address that cannot be dialled.
            self._peers[address].is_ready()
