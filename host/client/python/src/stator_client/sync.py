"""The client for programs without asyncio: the same calls, each of which waits for its end.

An event loop runs in a thread of its own. Any number of threads may use one client. What is passed
to `update` is called in that thread, so it should be short.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from .batch import Data, Item, Outcome
from .client import Change, Client
from .values import Versions, Written
from .watch import Event

T = TypeVar("T")


class BlockingClient:
    """See `Client`: the arguments are the same."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stator", daemon=True)
        self._thread.start()

    @classmethod
    def connect(cls, endpoints: Iterable[str], **options: Any) -> BlockingClient:
        return cls(Client.connect(endpoints, **options))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def get(self, keyspace: str, key: Data, **options: Any) -> Versions:
        return self._wait(self._client.get(keyspace, key, **options))

    def siblings(self, keyspace: str, key: Data, **options: Any) -> Versions:
        return self._wait(self._client.siblings(keyspace, key, **options))

    def metadata(self, keyspace: str, key: Data, **options: Any) -> Versions:
        return self._wait(self._client.metadata(keyspace, key, **options))

    def put(self, keyspace: str, key: Data, value: Data, **options: Any) -> Written:
        return self._wait(self._client.put(keyspace, key, value, **options))

    def delete(self, keyspace: str, key: Data, **options: Any) -> Written:
        return self._wait(self._client.delete(keyspace, key, **options))

    def update(self, keyspace: str, key: Data, change: Change, **options: Any) -> Written | None:
        return self._wait(self._client.update(keyspace, key, change, **options))

    def batch(self, items: Iterable[Item], **options: Any) -> Sequence[Outcome]:
        return self._wait(self._client.batch(items, **options))

    def list(self, keyspace: str, **options: Any) -> Iterator[Versions]:
        return self._iterate(self._client.list(keyspace, **options).__aiter__())

    def watch(self, keyspace: str, **options: Any) -> Iterator[tuple[Event, str]]:
        """The events, each with the token behind which another watch goes on."""
        watch = self._client.watch(keyspace, **options)
        for event in self._iterate(watch.__aiter__()):
            yield event, watch.token

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        over = object()

        async def following() -> Any:
            return await anext(items, over)

        try:
            while (item := self._wait(following())) is not over:
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                self._wait(items.aclose())

    def close(self) -> None:
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
