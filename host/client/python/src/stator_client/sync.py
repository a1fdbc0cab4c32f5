"""The client for programs without asyncio: the same calls, each of which waits for its end.

An event loop runs in a thread of its own. Any number of threads may use one client. What is passed
to `update` is called in that thread, so it should be short.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from .client import Change, Client, Data
from .values import Versions, Written

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

    def close(self) -> None:
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
