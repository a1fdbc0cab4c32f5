"""Keys of a keyspace, page by page: a stream that goes on by itself where one breaks off.

A node that stops, or a connection that breaks, ends a stream in the middle. The last page's token tells
where it was; the next stream begins there, on another node if there is one. No key is given twice by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from . import kv_pb2
from .errors import StatorError
from .nodes import Nodes
from .retry import is_worth_it, pause
from .values import Versions, listed

#: How often in a row a stream may fail without a page in between.
FAILURES_MAX = 30
#: Seconds that a stream may be silent. A page takes its owners five at most.
SILENCE_MAX = 30.0


class Listing:
    """Keys with their versions, in order within each partition of the ring: `async for key in listing`.

    It is no snapshot: a key that is written meanwhile is listed or not.
    """

    def __init__(self, nodes: Nodes, request: kv_pb2.ListRequest) -> None:
        self._nodes = nodes
        self._request = request
        self._left = request.limit or None
        self._token = request.page_token
        #: How much of the partitions is listed, of 1,000.
        self.permille = 0

    @property
    def token(self) -> str:
        """To go on with `client.list(…, token=…)`: behind the last page of which every key was given, so
        up to a page of keys comes again. Empty at the end, and before the first page."""
        return self._token

    def __aiter__(self) -> AsyncIterator[Versions]:
        return self._keys()

    async def _keys(self) -> AsyncIterator[Versions]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for key in page.keys:
                    yield listed(self._request.keyspace, key)

    async def pages(self) -> AsyncGenerator[kv_pb2.ListResponse]:
        """The answers of the nodes as they are; one may be empty and not the last."""
        failures = 0
        while True:
            try:
                async with aclosing(self._stream()) as stream:
                    async for page in stream:
                        failures, self.permille = 0, page.permille
                        is_last = not page.page_token or self._cut(page)
                        yield page
                        # Not before all of it was taken.
                        self._token = page.page_token
                        if is_last:
                            return
                return
            except StatorError as error:
                failures += 1
                if failures > FAILURES_MAX or not is_worth_it(error, True):
                    raise
                await asyncio.sleep(pause(failures, error.retry_after))

    def _cut(self, page: kv_pb2.ListResponse) -> bool:
        """Counts the keys down; whether these are the last that were asked for."""
        if self._left is None:
            return False
        del page.keys[self._left :]
        self._left -= len(page.keys)
        return self._left == 0

    def _stream(self) -> AsyncGenerator[kv_pb2.ListResponse]:
        request = kv_pb2.ListRequest()
        request.CopyFrom(self._request)
        # What was listed before a break is counted here.
        request.page_token, request.limit = self._token, 0
        return self._nodes.stream("List", request, SILENCE_MAX)


def request(
    keyspace: str,
    view: Any,
    *,
    prefix: bytes,
    start: bytes,
    until: bytes,
    r: int | None,
    deleted: bool,
    limit: int,
    token: str,
) -> kv_pb2.ListRequest:
    asked = kv_pb2.ListRequest(
        keyspace=keyspace,
        prefix=prefix,
        until=until,
        view=view,
        r=r,
        deleted=deleted,
        limit=limit,
        page_token=token,
    )
    setattr(asked, "from", start)
    return asked
