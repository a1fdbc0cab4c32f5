"""What is read of a key, and what became of a write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from . import kv_pb2
from .errors import Code, Conflict, Told, refused_here


@dataclass(frozen=True)
class Version:
    """One version of a key."""

    #: None for a delete, and where only the metadata was asked for.
    value: bytes | None
    is_tombstone: bool
    #: The writes that it stands for, as NODE.INCARNATION.EPOCH:COUNTER.
    dots: tuple[str, ...]
    #: Milliseconds since 1970 (UTC).
    written_at_ms: int
    #: The same; None: never.
    expires_at_ms: int | None
    #: The number that its writer gave the format of the value; 0 if none.
    schema: int
    labels: Mapping[str, str]
    #: The size of the value.
    value_bytes: int
    #: The digest of the module that made it out of several; None if a client wrote it.
    merged_by: str | None


@dataclass(frozen=True)
class Merge:
    """What the keyspace's policy did for an answer."""

    #: Empty for built-in policies.
    module_digest: str
    #: How many siblings there were.
    sibling_count: int
    #: Whether several siblings became one answer.
    is_merged: bool
    #: Why the module gave no answer, or None.
    failure: str | None
    #: The module's remark, or None.
    note: str | None


@dataclass(frozen=True)
class Versions:
    """A key as it was read: its value, or its siblings, and the context to write with."""

    keyspace: str
    key: bytes
    #: What was read, in dot order: none for an absent key, several for a conflict that the
    #: keyspace's policy did not settle. A delete that others know nothing of is one of them.
    siblings: tuple[Version, ...]
    #: None where the siblings were asked for as they are stored.
    merge: Merge | None
    _context: bytes | None

    @property
    def value(self) -> bytes | None:
        """The value; None if the key is absent or deleted.

        Raises `Conflict` if there are several, so that none is overwritten unseen.
        """
        if len(self.siblings) > 1:
            why = f" ({self.merge.failure})" if self.merge and self.merge.failure else ""
            message = f"the key has {len(self.siblings)} siblings{why}: settle them, see `siblings`"
            raise Conflict(Told(Code.FAILED_PRECONDITION, message, "SIBLINGS"))
        return self.siblings[0].value if self.siblings else None

    @property
    def text(self) -> str | None:
        """The value as UTF-8."""
        value = self.value
        return None if value is None else value.decode()

    @property
    def values(self) -> tuple[bytes, ...]:
        """The values of all siblings."""
        return tuple(s.value for s in self.siblings if s.value is not None)

    @property
    def context(self) -> bytes:
        """What was seen. A put or delete with it replaces exactly these versions.

        Raises `Refused` (`NO_CONTEXT`) if the answer could not carry every sibling: then nothing
        may be replaced by it.
        """
        if self._context is None:
            message = (
                "the answer could not carry every sibling, so nothing may be replaced by it; "
                "read the metadata, and make the values smaller"
            )
            raise refused_here("NO_CONTEXT", message)
        return self._context


@dataclass(frozen=True)
class Written:
    """A write that was acknowledged."""

    #: Its name, as NODE.INCARNATION.EPOCH:COUNTER.
    dot: str
    #: Whether other versions are left beside it, which its context did not cover.
    siblings_remain: bool
    #: How many distinct nodes hold it.
    acked: int
    #: How many of them keep it for an absent owner.
    hinted: int
    #: To write on with, without another get. Only if no other version is left.
    context: bytes | None


def listed(keyspace: str, key: kv_pb2.ListedKey) -> Versions:
    return Versions(
        keyspace=keyspace,
        key=key.key,
        siblings=tuple(_version(version) for version in key.versions),
        merge=_merge(key.merge) if key.HasField("merge") else None,
        _context=key.context if key.HasField("context") else None,
    )


def versions(keyspace: str, key: bytes, answer: kv_pb2.GetResponse) -> Versions:
    return Versions(
        keyspace=keyspace,
        key=key,
        siblings=tuple(_version(version) for version in answer.versions),
        merge=_merge(answer.merge) if answer.HasField("merge") else None,
        _context=answer.context if answer.HasField("context") else None,
    )


def _version(version: kv_pb2.Version) -> Version:
    is_merged = version.origin.HasField("merge")
    return Version(
        value=version.value if version.HasField("value") else None,
        is_tombstone=version.tombstone,
        dots=tuple(version.dots),
        written_at_ms=version.written_at_ms,
        expires_at_ms=version.expires_at_ms if version.HasField("expires_at_ms") else None,
        schema=version.schema,
        labels=dict(version.labels),
        value_bytes=version.value_bytes,
        merged_by=version.origin.merge.module_digest if is_merged else None,
    )


def _merge(info: kv_pb2.MergeInfo) -> Merge:
    return Merge(
        module_digest=info.module_digest,
        sibling_count=info.sibling_count,
        is_merged=info.merged,
        failure=info.failure or None,
        note=info.note or None,
    )


def written(answer: kv_pb2.PutResponse | kv_pb2.DeleteResponse) -> Written:
    return Written(
        dot=answer.dot,
        siblings_remain=answer.siblings_remain,
        acked=answer.acked,
        hinted=answer.hinted,
        context=answer.context if answer.HasField("context") else None,
    )
