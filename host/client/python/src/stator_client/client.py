"""Reading and writing keys.

Left out: running a cluster (the `Admin` service).
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Any, Literal

from . import kv_pb2, listing
from .batch import (
    Context,
    Data,
    Delete,
    Durability,
    Get,
    Item,
    Outcome,
    Put,
    as_bytes,
    batch_of,
    is_repeatable,
    outcome_of,
    request_of,
)
from .errors import StaleContext, StatorError
from .listing import Listing
from .nodes import Coordination, Nodes, Options, Quorum
from .peer import Tls
from .values import Version, Versions, Written, versions, written
from .watch import Watch

View = Literal["metadata", "merged", "siblings"]


class _Delete(Enum):
    DELETE = "DELETE"


#: What a `change` returns to have the key deleted.
DELETE = _Delete.DELETE

#: What a `change` returns; None leaves the key as it is.
Next = Data | _Delete | None
Change = Callable[[bytes | None], Next | Awaitable[Next]]
Settle = Callable[[tuple[Version, ...]], Data | Awaitable[Data]]

#: How often `update` tries to leave one version behind.
SETTLE_ROUNDS = 5


class Client:
    """A client of the cluster that some nodes belong to. It serves any number of tasks at once.

    ```
    async with Client.connect(["127.0.0.1:7101", "127.0.0.1:7201"]) as client:
        cart = await client.get("carts", "customer 7")
        await client.put("carts", "customer 7", b"tea", context=cart.context)
    ```
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._options = nodes.options
        self._quorum: Any = f"QUORUM_{nodes.options.quorum.upper()}"

    @classmethod
    def connect(
        cls,
        endpoints: Iterable[str],
        *,
        tls: Tls | None = None,
        token: str | None = None,
        timeout: float = 10.0,
        attempts_max: int = 5,
        quorum: Quorum = "sloppy",
        traceparent: Callable[[], str | None] | None = None,
        coordination: Coordination = "owner",
    ) -> Client:
        """A client of the client listeners at `endpoints`, each HOST:PORT.

        Connections are made when they are first used. For `timeout`, `attempts_max`, `quorum` and
        `coordination` see `Options`; `token` is sent with each call, and so is what `traceparent`
        tells then.
        """
        if isinstance(endpoints, str):
            endpoints = [endpoints]
        options = Options(timeout, attempts_max, quorum, token, tls, traceparent, coordination)
        return cls(Nodes(list(endpoints), options))

    async def close(self) -> None:
        """Closes the connections; what is under way is given up."""
        await self._nodes.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get(
        self,
        keyspace: str,
        key: Data,
        *,
        r: int | None = None,
        at_least: Iterable[str] = (),
        timeout: float | None = None,
    ) -> Versions:
        """Reads a key as its keyspace's policy makes it: one version, none, or siblings where the
        policy keeps them or the merge failed.

        `r`: how many replicas must answer. `at_least`: dots of writes of the key that the answer
        must have seen, such as that of one's own put.
        """
        terms = (r, at_least, timeout)
        return await self._read(keyspace, key, kv_pb2.VIEW_MERGED, *terms)

    async def siblings(
        self, keyspace: str, key: Data, *, r: int | None = None, timeout: float | None = None
    ) -> Versions:
        """Reads every sibling of a key as it is stored, deletes too."""
        return await self._read(keyspace, key, kv_pb2.VIEW_SIBLINGS, r, (), timeout)

    async def metadata(
        self, keyspace: str, key: Data, *, r: int | None = None, timeout: float | None = None
    ) -> Versions:
        """As `siblings`, without the values."""
        return await self._read(keyspace, key, kv_pb2.VIEW_METADATA, r, (), timeout)

    async def _read(
        self,
        keyspace: str,
        key: Data,
        view: Any,
        r: int | None,
        at_least: Iterable[str],
        timeout: float | None,
    ) -> Versions:
        request = request_of(Get(keyspace, key, r, at_least), self._quorum)
        request.view = view
        place, seconds = (keyspace, request.key), self._seconds(timeout)
        answer = await self._nodes.call("Get", request, True, seconds, place)
        return versions(keyspace, request.key, answer)

    async def put(
        self,
        keyspace: str,
        key: Data,
        value: Data,
        *,
        context: Context | None = None,
        w: int | None = None,
        ttl: float | timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        schema: int = 0,
        durability: Durability | None = None,
        request_id: Data = b"",
        only_if_current: bool = False,
        timeout: float | None = None,
    ) -> Written:
        """Writes a value in place of what `context` covers, beside everything else.

        Without a context it replaces nothing. Several contexts are joined. `ttl` is in seconds.
        `request_id`, up to 64 bytes of your choice for one write of a key, names it: then it is
        sent again even where the outcome is unknown, and the attempts are one write.
        `only_if_current`: only if the context has seen all that the key holds, else `StaleContext`;
        it is no lock, what is written in the same moment may still become a sibling.
        """
        put = Put(
            *(keyspace, key, value, context, w, ttl, labels or {}, schema),
            *(durability, request_id, only_if_current),
        )
        request = request_of(put, self._quorum)
        seconds = self._seconds(timeout)
        place = (keyspace, request.key)
        return written(await self._nodes.call("Put", request, bool(request_id), seconds, place))

    async def delete(
        self,
        keyspace: str,
        key: Data,
        *,
        context: Context | None = None,
        observed: bool = False,
        w: int | None = None,
        labels: Mapping[str, str] | None = None,
        durability: Durability | None = None,
        request_id: Data = b"",
        only_if_current: bool = False,
        timeout: float | None = None,
    ) -> Written:
        """Deletes exactly what `context` covers, or with `observed` what the node that is asked
        finds when it looks. For the rest see `put`."""
        delete = Delete(
            *(keyspace, key, context, observed, w, labels or {}),
            *(durability, request_id, only_if_current),
        )
        request = request_of(delete, self._quorum)
        seconds = self._seconds(timeout)
        place = (keyspace, request.key)
        return written(await self._nodes.call("Delete", request, bool(request_id), seconds, place))

    async def batch(
        self, items: Iterable[Item], *, timeout: float | None = None
    ) -> Sequence[Outcome]:
        """Sends up to 256 gets, puts and deletes at once: `Get`, `Put` and `Delete`, whose fields are the
        arguments of those calls. They run side by side; there is no transaction.

        Each has an outcome of its own, in the same order: what the call alone would return, or the
        error that it would raise. The call raises if the whole is refused, or gets no answer:
        then each write of it may be applied. It is sent again as one write would be, if all that it
        writes has a `request_id`; of an answer nothing is.
        """
        items = list(items)
        repeatable = all(is_repeatable(item) for item in items)
        request = batch_of(items, self._quorum)
        answer = await self._nodes.call("Batch", request, repeatable, self._seconds(timeout))
        return [outcome_of(item, told) for item, told in zip(items, answer.outcomes, strict=True)]

    def list(
        self,
        keyspace: str,
        *,
        prefix: Data = b"",
        start: Data = b"",
        until: Data = b"",
        view: View = "metadata",
        r: int | None = None,
        deleted: bool = False,
        limit: int = 0,
        token: str = "",
    ) -> Listing:
        """The keys of a keyspace: those that begin with `prefix`, or from `start` up to but not
        `until`, or all.

        `view`: what to tell of each: its versions without values, what the keyspace's policy makes of
        them, or all siblings. `deleted`: also keys of which only deletes are left. `limit`: at most so
        many. `token`: where another listing of the same keys was. See `Listing`.

        ```
        async for key in client.list("carts", prefix="customer "):
            print(key.key)
        ```
        """
        request = listing.request(
            keyspace,
            f"VIEW_{view.upper()}",
            prefix=as_bytes(prefix),
            start=as_bytes(start),
            until=as_bytes(until),
            r=r,
            deleted=deleted,
            limit=limit,
            token=token,
        )
        return Listing(self._nodes, request)

    def watch(
        self,
        keyspace: str,
        *,
        key: Data | None = None,
        prefix: Data = b"",
        siblings: bool = False,
        from_start: bool = False,
        resume: str | None = None,
    ) -> Watch:
        """What is changed of a key, or of those that begin with `prefix`, as it happens, from now on;
        with `from_start` first all that is there; or from where another watch was, by its `token`.

        `siblings`: with all siblings as they are stored, in place of what the policy makes of them.
        See `Watch`.

        ```
        async for event in client.watch("carts", prefix="customer "):
            if isinstance(event, Changed):
                print(event.now.key, event.now.siblings)
        ```
        """
        keys = (as_bytes(key), b"") if key is not None else (b"", as_bytes(prefix))
        return Watch(self._nodes, keyspace, keys, siblings, from_start, resume)

    async def update(
        self,
        keyspace: str,
        key: Data,
        change: Change,
        *,
        settle: Settle | None = None,
        timeout: float | None = None,
        **fields: Any,
    ) -> Written | None:
        """Reads the value, has it changed, and writes it in place of what was read.

        `change` gets the value, None if there is none, and returns the next one: None to leave it
        as it is, `DELETE` to delete the key. `settle` makes one value of siblings, before the
        change and of what others wrote meanwhile; without it siblings raise `Conflict`, so give it
        where the keyspace does not merge. Both may be async.

        The change is written once: it is made anew only where the context had become stale and
        certainly nothing was written: with `only_if_current=True` also where somebody has written
        since it was read. `fields` are those of `put`. None: nothing was written.
        """
        deadline = time.monotonic() + self._seconds(timeout)
        for attempt in itertools.count():
            seen = await self.get(keyspace, key, timeout=_left(deadline))
            value = seen.value if settle is None else await _settled(settle, seen)
            made = await _awaited(change(value))
            try:
                done = await self._replace(seen, made, deadline, fields)
            except StaleContext:
                if time.monotonic() >= deadline:
                    raise
                await _scatter(attempt)
                continue
            if done is None or not done.siblings_remain or settle is None:
                return done
            return await self._leave_one(seen, settle, done, deadline, fields)
        raise AssertionError("it has no end")

    async def _replace(
        self, seen: Versions, made: Any, deadline: float, fields: Mapping[str, Any]
    ) -> Written | None:
        if made is None:
            return None
        # With a name, so that it can be repeated whatever happens.
        named: dict[str, Any] = {
            "context": seen.context,
            "request_id": os.urandom(16),
            "timeout": _left(deadline),
            **fields,
        }
        if made is not DELETE:
            return await self.put(seen.keyspace, seen.key, made, **named)
        taken = (
            *("w", "labels", "durability", "only_if_current"),
            *("context", "request_id", "timeout"),
        )
        named = {name: value for name, value in named.items() if name in taken}
        return await self.delete(seen.keyspace, seen.key, **named)

    async def _leave_one(
        self, seen: Versions, settle: Settle, done: Written, deadline: float, fields: Any
    ) -> Written:
        """Makes one of what `done` and others wrote at the same time, without haste: who reads
        next can do it as well. What `done` wrote stands, whatever comes of this."""
        for attempt in range(SETTLE_ROUNDS):
            await _scatter(attempt)
            if time.monotonic() >= deadline:
                break
            try:
                seen = await self.get(seen.keyspace, seen.key, timeout=_left(deadline))
                if len(seen.siblings) < 2:
                    return replace(done, siblings_remain=False, context=seen.context)
                one = await _settled(settle, seen)
                after = await self._replace(seen, one, deadline, fields)
            except StatorError:
                continue
            if after is not None and not after.siblings_remain:
                return replace(done, siblings_remain=False, context=after.context)
        return done

    def _seconds(self, timeout: float | None) -> float:
        return self._options.timeout if timeout is None else timeout


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def _settled(settle: Settle, seen: Versions) -> bytes | None:
    if len(seen.siblings) < 2:
        return seen.value
    return as_bytes(await _awaited(settle(seen.siblings)))


async def _scatter(attempt: int) -> None:
    """Waits for a while by chance, so that those who write a key do not meet again."""
    await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 5)))


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)
