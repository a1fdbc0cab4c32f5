"""Why a request failed, with what programs need to know of it.

A node answers a failure with a `google.rpc.ErrorInfo` of domain `stator`: a reason, and facts such
as the effect. `docs/api.md` lists all reasons. Where no node has said anything, the reason is
`NOT_CONNECTED` (certainly nothing was done) or `NO_ANSWER` (it may have been).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2

Code = grpc.StatusCode

#: It certainly changed nothing.
NONE = "NONE"
#: It may have been applied, or may yet be.
MAYBE = "MAYBE"

NOT_CONNECTED = "NOT_CONNECTED"
NO_ANSWER = "NO_ANSWER"

DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True)
class Violation:
    """What is wrong with one part of a request."""

    #: The field, or what the precondition or limit is about.
    subject: str
    #: In words.
    description: str


@dataclass(frozen=True)
class Told:
    """What is known of a failure."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] | None = None
    effect: str = NONE
    retry_after: float | None = None
    violations: tuple[Violation, ...] = ()


class StatorError(Exception):
    """A request that failed. `reason` is what to branch on, where the class does not say enough."""

    def __init__(self, told: Told) -> None:
        super().__init__(told.message)
        self.code = told.code
        self.message = told.message
        #: In capitals; empty if what answered is no node of Stator.
        self.reason = told.reason
        #: What belongs to the reason, by name.
        self.metadata: Mapping[str, str] = dict(told.metadata or {})
        #: `NONE` or `MAYBE`.
        self.effect = told.effect
        #: How many seconds the node asks to wait before another attempt.
        self.retry_after = told.retry_after
        self.violations = told.violations

    @property
    def may_be_applied(self) -> bool:
        """Whether a write may stand, now or later, all the same."""
        return self.effect != NONE

    def __str__(self) -> str:
        return f"{self.message} [{self.reason or self.code.name}]"


class Refused(StatorError):
    """The request is not one that the cluster takes: nothing was done, mend it."""


class UnknownKeyspace(Refused):
    """There is no keyspace of this name."""


class StaleContext(Refused):
    """The context does not serve any more, has not seen all (`only_if_current`), or is of another
    key: get, and write with what comes."""


class RequestIdReused(Refused):
    """Another write of the key has this request id: a new write needs a new one."""

    @property
    def dot(self) -> str:
        """The write that has it."""
        return self.metadata.get("dot", "")


class NotAllowed(Refused):
    """The token, or the certificate, does not allow this."""


class Conflict(StatorError):
    """One value was asked for, and there are siblings: settle them, or have the keyspace do it."""


class LimitReached(StatorError):
    """A limit is full: the key has too many siblings, for instance."""


class QuotaExceeded(LimitReached):
    """The keyspace's quota has no room for it; nothing was done. To repeat a put does not help: delete,
    make values smaller, or have the quota raised. Of `requests` `retry_after` says when to come back,
    and the client has waited for that as long as it was told to."""

    @property
    def quota(self) -> str:
        """Which: `keys`, `bytes` or `requests`."""
        return self.metadata.get("quota", "")

    @property
    def found(self) -> int:
        """How much of it there was."""
        return int(self.metadata.get("found", 0))

    @property
    def max(self) -> int:
        """How much there may be."""
        return int(self.metadata.get("max", 0))


class Unavailable(StatorError):
    """It cannot be done now. Look at `may_be_applied` before you write again."""


class NotReached(Unavailable):
    """Too few replicas have answered."""

    @property
    def needed(self) -> int:
        """How many had to answer."""
        return int(self.metadata.get("needed", 0))

    @property
    def answered(self) -> int:
        """How many did."""
        return int(self.metadata.get("answered", 0))


class Unreachable(Unavailable):
    """No node could be connected to, or the connection broke before the answer was there."""


class DeadlineExceeded(Unavailable):
    """Time was up before a node had said what became of it."""


class Overloaded(Unavailable):
    """The node has too much to do; `retry_after` tells when to come back."""


_BY_REASON: dict[str, type[StatorError]] = {
    "UNKNOWN_KEYSPACE": UnknownKeyspace,
    "CONTEXT_FORGED": StaleContext,
    "CONTEXT_TOO_LARGE": StaleContext,
    "CONTEXT_SECRET_UNKNOWN": StaleContext,
    "PARTLY_FOLDED": StaleContext,
    "CHANGED": StaleContext,
    "REQUEST_ID_REUSED": RequestIdReused,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "QUORUM_NOT_REACHED": NotReached,
    "NODE_REMOVED": Unavailable,
    "SECOND_HOLDER": Unavailable,
    "EXPIRED": DeadlineExceeded,
    "BODY_TOO_SLOW": DeadlineExceeded,
}

#: Codes of a connection that was lost or closed, unless a node says otherwise.
_LOST = {
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.CANCELLED,
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.RESOURCE_EXHAUSTED,
}

#: Codes that say what the request is, not how it went.
REFUSALS = {
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.PERMISSION_DENIED,
    Code.UNAUTHENTICATED,
    Code.FAILED_PRECONDITION,
    Code.ABORTED,
    Code.OUT_OF_RANGE,
    Code.UNIMPLEMENTED,
}


def error_of(told: Told) -> StatorError:
    """The error of the class that fits."""
    return _kind(told)(told)


def _kind(told: Told) -> type[StatorError]:
    code, is_silence = told.code, told.reason in (NOT_CONNECTED, NO_ANSWER)
    if told.reason in _BY_REASON:
        return _BY_REASON[told.reason]
    if is_silence:
        return DeadlineExceeded if code == Code.DEADLINE_EXCEEDED else Unreachable
    if code in (Code.PERMISSION_DENIED, Code.UNAUTHENTICATED):
        return NotAllowed
    if code in REFUSALS:
        return Refused
    if code == Code.RESOURCE_EXHAUSTED:
        return LimitReached if told.retry_after is None else Overloaded
    return Unavailable if code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) else StatorError


def refused_here(reason: str, message: str) -> Refused:
    """What is refused before anything is sent."""
    return Refused(Told(Code.INVALID_ARGUMENT, message, reason))


def not_connected(address: str) -> StatorError:
    message = f"{address} is not reached: no connection could be made"
    return error_of(Told(Code.UNAVAILABLE, message, NOT_CONNECTED))


def silent(seconds: float) -> StatorError:
    message = f"a stream has said nothing for {seconds:g} s"
    return error_of(Told(Code.UNAVAILABLE, message, NO_ANSWER, effect=MAYBE))


def of_call(error: grpc.aio.AioRpcError) -> StatorError:
    """What a call ended with, once it was under way."""
    blobs = [value for name, value in error.trailing_metadata() or () if name == DETAILS]
    code, message = error.code(), error.details() or error.code().name
    return error_of(told_by(code, message, blobs[0] if blobs else b""))


def told_by(code: grpc.StatusCode, message: str, details: bytes | str) -> Told:
    """What a node says, or the library in its place: then there are no details."""
    info, retry_after, violations = rpc.ErrorInfo(), None, []
    for packed in status_pb2.Status.FromString(details).details if details else ():
        retry, bad = rpc.RetryInfo(), rpc.BadRequest()
        unmet, quota = rpc.PreconditionFailure(), rpc.QuotaFailure()
        if packed.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Unpack(bad):
            violations += [Violation(v.field, v.description) for v in bad.field_violations]
        elif packed.Unpack(unmet):
            violations += [Violation(v.subject, v.description) for v in unmet.violations]
        elif packed.Unpack(quota):
            violations += [Violation(v.subject, v.description) for v in quota.violations]
        else:
            packed.Unpack(info)
    is_told = info.domain == "stator"
    facts = dict(info.metadata) if is_told else {}
    silence = NO_ANSWER if code in _LOST else ""
    reason = info.reason if is_told else silence
    effect = _effect(code, facts.get("effect"), is_told)
    return Told(code, message, reason, facts, effect, retry_after, tuple(violations))


def _effect(code: grpc.StatusCode, said: str | None, is_told: bool) -> str:
    if said is not None:
        return NONE if said == NONE else MAYBE
    is_full = code == Code.RESOURCE_EXHAUSTED and is_told
    return NONE if code in REFUSALS or is_full else MAYBE
