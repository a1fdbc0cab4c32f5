"""Several requests in one call: each with an outcome of its own, as if it had been sent alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from . import kv_pb2
from .errors import NONE, REFUSALS, Code, StatorError, Told, error_of, refused_here
from .values import Versions, Written, versions, written

Data = bytes | bytearray | memoryview | str
Context = bytes | Iterable[bytes]
Durability = Literal["all", "one", "buffered"]


@dataclass(frozen=True)
class Get:
    """A get of a batch; its fields are the arguments of `Client.get`."""

    keyspace: str
    key: Data
    r: int | None = None
    at_least: Iterable[str] = ()


@dataclass(frozen=True)
class Put:
    """A put of a batch; its fields are the arguments of `Client.put`."""

    keyspace: str
    key: Data
    value: Data
    context: Context | None = None
    w: int | None = None
    ttl: float | timedelta | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    schema: int = 0
    durability: Durability | None = None
    request_id: Data = b""
    only_if_current: bool = False


@dataclass(frozen=True)
class Delete:
    """A delete of a batch; its fields are the arguments of `Client.delete`."""

    keyspace: str
    key: Data
    context: Context | None = None
    observed: bool = False
    w: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    durability: Durability | None = None
    request_id: Data = b""
    only_if_current: bool = False


Item = Get | Put | Delete
Outcome = Versions | Written | StatorError


def request_of(item: Item, quorum: Any) -> Any:
    """What is sent for an item, alone or in a batch."""
    key = as_bytes(item.key)
    if isinstance(item, Get):
        return kv_pb2.GetRequest(
            keyspace=item.keyspace,
            key=key,
            r=item.r,
            quorum=quorum,
            view=kv_pb2.VIEW_MERGED,
            at_least=item.at_least,
        )
    common: dict[str, Any] = {
        "keyspace": item.keyspace,
        "key": key,
        "contexts": _contexts(item.context),
        "w": item.w,
        "quorum": quorum,
        "durability": f"DURABILITY_{(item.durability or 'unspecified').upper()}",
        "request_id": as_bytes(item.request_id),
        "only_if_current": item.only_if_current,
        "labels": item.labels,
    }
    if isinstance(item, Put):
        return kv_pb2.PutRequest(
            **common,
            value=as_bytes(item.value),
            schema=item.schema,
            ttl_ms=_milliseconds(item.ttl),
        )
    if not common["contexts"] and not item.observed:
        message = "a delete deletes what was read: pass the context of a get, or `observed`"
        raise refused_here("NO_CONTEXT", message)
    return kv_pb2.DeleteRequest(**common, observed=item.observed)


def batch_of(items: list[Item], quorum: Any) -> kv_pb2.BatchRequest:
    def packed(item: Item) -> kv_pb2.BatchItem:
        name = type(item).__name__.lower()
        return kv_pb2.BatchItem(**{name: request_of(item, quorum)})

    return kv_pb2.BatchRequest(items=[packed(item) for item in items])


def is_repeatable(item: Item) -> bool:
    return isinstance(item, Get) or bool(item.request_id)


def outcome_of(item: Item, told: kv_pb2.BatchOutcome) -> Outcome:
    kind = told.WhichOneof("outcome")
    if kind == "get":
        return versions(item.keyspace, as_bytes(item.key), told.get)
    if kind in ("put", "delete"):
        return written(getattr(told, kind))
    failure = told.failure
    code = next((code for code in Code if code.value[0] == failure.code), Code.UNKNOWN)
    metadata = dict(failure.metadata)
    # As of a request that was sent alone: what is full or refused was not done.
    is_nothing = code in REFUSALS or code == Code.RESOURCE_EXHAUSTED
    effect = metadata.get("effect", NONE if is_nothing else "MAYBE")
    return error_of(Told(code, failure.message, failure.reason, metadata, effect))


def as_bytes(data: Data) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def _contexts(context: Context | None) -> list[bytes]:
    if context is None:
        return []
    return [context] if isinstance(context, bytes) else list(context)


def _milliseconds(ttl: float | timedelta | None) -> int | None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    return None if seconds is None else round(seconds * 1000)
