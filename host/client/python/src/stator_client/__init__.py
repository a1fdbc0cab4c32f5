"""A client for Stator, a replicated key-value store. Start with `Client.connect`."""

from .client import DELETE, Client
from .errors import (
    MAYBE,
    NONE,
    Conflict,
    DeadlineExceeded,
    LimitReached,
    NotAllowed,
    NotReached,
    Overloaded,
    Refused,
    RequestIdReused,
    StaleContext,
    StatorError,
    Unavailable,
    UnknownKeyspace,
    Unreachable,
    Violation,
)
from .peer import Tls
from .sync import BlockingClient
from .values import Merge, Version, Versions, Written

__all__ = [
    "DELETE",
    "MAYBE",
    "NONE",
    "BlockingClient",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "LimitReached",
    "Merge",
    "NotAllowed",
    "NotReached",
    "Overloaded",
    "Refused",
    "RequestIdReused",
    "StaleContext",
    "StatorError",
    "Tls",
    "Unavailable",
    "UnknownKeyspace",
    "Unreachable",
    "Version",
    "Versions",
    "Violation",
    "Written",
]
