"""A client for Stator, a replicated key-value store. Start with `Client.connect`."""

from .batch import Delete, Get, Put
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
    QuotaExceeded,
    Refused,
    RequestIdReused,
    StaleContext,
    StatorError,
    Unavailable,
    UnknownKeyspace,
    Unreachable,
    Violation,
)
from .listing import Listing
from .peer import Tls
from .sync import BlockingClient
from .values import Merge, Version, Versions, Written
from .watch import Away, Back, Begun, Changed, Event, Listed, ListingBegun, Watch

__all__ = [
    "DELETE",
    "MAYBE",
    "NONE",
    "Away",
    "Back",
    "Begun",
    "BlockingClient",
    "Changed",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Delete",
    "Event",
    "Get",
    "LimitReached",
    "Listed",
    "Listing",
    "ListingBegun",
    "Merge",
    "NotAllowed",
    "NotReached",
    "Overloaded",
    "Put",
    "QuotaExceeded",
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
    "Watch",
    "Written",
]
