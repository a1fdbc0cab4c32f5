"""Reading and writing keys.

Left out: running a cluster (the `Admin` service), routing by the ring.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from typing import Any, Literal

from . import kv_pb2
from .errors import StaleContext, StatorError, refused_here
from .nodes import Nodes, Options, Quorum
from .peer import Tls
from .values import Version, Versions, Written, versions, written

Data = bytes | bytearray | memoryview | str
Context = bytes | Iterable[bytes]
Durability = Literal["all", "one", "buffered"]


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
    ) -> Client:
        """A client of the client listeners at `endpoints`, each HOST:PORT.

        Connections are made when they are first used. For `timeout`, `attempts_max` and `quorum`
        see `Options`; `token` is sent with each call.
        """
        if isinstance(endpoints, str):
            endpoints = [endpoints]
        return cls(Nodes(list(endpoints), Options(timeout, attempts_max, quorum, token, tls)))

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
        name = _bytes(key)
        request = kv_pb2.GetRequest(
            keyspace=keyspace, key=name, r=r, quorum=self._quorum, view=view, at_least=at_least
        )
        answer = await self._nodes.call("Get", request, True, self._seconds(timeout))
        return versions(keyspace, name, answer)

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
        request = kv_pb2.PutRequest(
            keyspace=keyspace,
            key=_bytes(key),
            value=_bytes(value),
            contexts=_contexts(context),
            schema=schema,
            ttl_ms=_milliseconds(ttl),
            labels=labels,
            w=w,
            quorum=self._quorum,
            durability=_durability(durability),
            request_id=_bytes(request_id),
            only_if_current=only_if_current,
        )
        seconds = self._seconds(timeout)
        return written(await self._nodes.call("Put", request, bool(request_id), seconds))

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
        contexts = _contexts(context)
        if not contexts and not observed:
            message = "a delete deletes what was read: pass the context of a get, or `observed`"
            raise refused_here("NO_CONTEXT", message)
        request = kv_pb2.DeleteRequest(
            keyspace=keyspace,
            key=_bytes(key),
            contexts=contexts,
            observed=observed,
            w=w,
            quorum=self._quorum,
            durability=_durability(durability),
            request_id=_bytes(request_id),
            only_if_current=only_if_current,
            labels=labels,
        )
        seconds = self._seconds(timeout)
        return written(await self._nodes.call("Delete", request, bool(request_id), seconds))

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
    return _bytes(await _awaited(settle(seen.siblings)))


async def _scatter(attempt: int) -> None:
    """Waits for a while by chance, so that those who write a key do not meet again."""
    await asyncio.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 5)))


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


def _bytes(data: Data) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def _contexts(context: Context | None) -> list[bytes]:
    if context is None:
        return []
    return [context] if isinstance(context, bytes) else list(context)


def _milliseconds(ttl: float | timedelta | None) -> int | None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    return None if seconds is None else round(seconds * 1000)


def _durability(durability: Durability | None) -> Any:
    return f"DURABILITY_{(durability or 'unspecified').upper()}"
