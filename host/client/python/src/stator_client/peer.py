"""One endpoint: its connection, and whether it is left alone for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from . import kv_pb2, routing_pb2
from .errors import (
    NO_ANSWER,
    NOT_CONNECTED,
    StatorError,
    not_connected,
    of_call,
    refused_here,
    silent,
)
from .pace import Pace

State = grpc.ChannelConnectivity

#: The largest answer taken: as many siblings as a node may send.
ANSWER_BYTES_MAX = 64 << 20
#: How long making a connection may take.
CONNECT_SECONDS = 2.0
#: How long to wait for the next attempt to connect, where the last one failed.
RECONNECT_SECONDS = 0.25
AVOID_MIN = 1.0
AVOID_MAX = 30.0

#: Of a node that is there and cannot serve: another one can.
_ELSEWHERE = {"STOPPING", "STORE_UNAVAILABLE", "NODE_NOT_ACCEPTED", "NODE_REMOVED", "SECOND_HOLDER"}

_ANSWERS: dict[str, type[Message]] = {
    "Get": kv_pb2.GetResponse,
    "Put": kv_pb2.PutResponse,
    "Delete": kv_pb2.DeleteResponse,
    "Batch": kv_pb2.BatchResponse,
    "GetRing": routing_pb2.GetRingResponse,
}
_STREAMS: dict[str, type[Message]] = {
    "List": kv_pb2.ListResponse,
    "Watch": kv_pb2.WatchResponse,
}

_CHANNEL: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # What is sent again is decided here alone.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # This one bounds an attempt to connect, too.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_SECONDS * 1000)),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
]


@dataclass(frozen=True)
class Tls:
    """How to speak TLS: certificates and keys in PEM form."""

    #: The authority to trust. None: those of the system.
    ca: bytes | None = None
    #: The client's own certificate with its chain, and its key, where nodes ask for one.
    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    #: The name in the nodes' certificates, if it is not that in their address.
    domain: str | None = None


class Peer:
    """One endpoint."""

    def __init__(self, endpoint: str, tls: Tls | None) -> None:
        self.address = _address(endpoint, tls)
        self._tls = tls
        self._channel: grpc.aio.Channel | None = None
        self._calls: dict[str, Any] = {}
        self._change: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = self._avoided_until = 0.0
        #: How fast it answers.
        self.pace = Pace()

    def _open(self) -> grpc.aio.Channel:
        # When it is first used: a channel belongs to the running loop.
        if self._channel is None:
            options, tls = list(_CHANNEL), self._tls
            if tls is None:
                self._channel = grpc.aio.insecure_channel(self.address, options)
            else:
                if tls.domain is not None:
                    options.append(("grpc.ssl_target_name_override", tls.domain))
                shown = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
                self._channel = grpc.aio.secure_channel(self.address, shown, options)
            for name, answer in (_ANSWERS | _STREAMS).items():
                channel = self._channel
                made = channel.unary_stream if name in _STREAMS else channel.unary_unary
                service = "Routing" if name == "GetRing" else "Kv"
                self._calls[name] = made(
                    f"/stator.v1.{service}/{name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=answer.FromString,
                )
        return self._channel

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection, once what is under way has ended or `grace` is over."""
        if self._change is not None:
            self._change.cancel()
        if self._channel is not None:
            await self._channel.close(grace)

    def is_ready(self) -> bool:
        """Whether a connection stands; begins to make one if not."""
        return bool(self._state() == State.READY)

    def is_avoided(self, now: float) -> bool:
        if self._failures == 0:
            return False
        return now < self._avoided_until or self._state() != State.READY

    def taken(self, now: float) -> None:
        """It is asked. If that is to find out whether it serves again, others wait for the end."""
        if self._failures:
            self._avoid(now)

    def judge(self, error: StatorError | None, started: float) -> None:
        """What the end of a request says of the node."""
        if error is None or not (is_silence(error) or error.reason in _ELSEWHERE):
            self._failures = 0
        elif started >= self._failed_at:
            # What was under way when it failed says nothing new.
            self._failures += 1
            self._failed_at = time.monotonic()
            self._avoid(self._failed_at)

    def _avoid(self, now: float) -> None:
        self._avoided_until = now + min(AVOID_MIN * 2 ** min(self._failures - 1, 16), AVOID_MAX)

    async def stream(
        self, method: str, request: Message, silence_max: float, metadata: Any
    ) -> AsyncGenerator[Any]:
        """The messages of a stream, which may not be silent for longer than that."""
        if not await self._connect(time.monotonic() + CONNECT_SECONDS):
            raise not_connected(self.address)
        call = self._calls[method](request, metadata=metadata)
        try:
            while True:
                message = await asyncio.wait_for(call.read(), silence_max)
                if message is grpc.aio.EOF:
                    return
                yield message
        except asyncio.TimeoutError:
            raise silent(silence_max) from None
        except grpc.aio.AioRpcError as error:
            raise of_call(error) from None
        finally:
            call.cancel()

    async def ask(self, method: str, request: Message, timeout: float, metadata: Any) -> Any:
        started = time.monotonic()
        if not await self._connect(started + min(timeout, CONNECT_SECONDS)):
            raise not_connected(self.address)
        left = _exact(timeout - (time.monotonic() - started))
        try:
            return await self._calls[method](request, timeout=left, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise of_call(error) from None

    def _state(self, connect: bool = True) -> grpc.ChannelConnectivity:
        return self._open().get_state(try_to_connect=connect)

    async def _connect(self, deadline: float) -> bool:
        state = self._state()
        if state == State.TRANSIENT_FAILURE:
            # From before: give it one more chance, if that comes soon.
            await self._changed(state, RECONNECT_SECONDS)
            state = self._state()
        while state in (State.IDLE, State.CONNECTING) and time.monotonic() < deadline:
            before = state
            await self._changed(state, deadline - time.monotonic())
            state = self._state(connect=False)
            if state == State.IDLE != before:
                break  # Lost as soon as it stood: the node does not want it.
        return bool(state == State.READY)

    async def _changed(self, state: grpc.ChannelConnectivity, seconds: float) -> None:
        """Waits for another state; all requests by one watch, which is not given up."""
        if self._change is None or self._change.done():
            self._change = asyncio.ensure_future(self._open().wait_for_state_change(state))
        await asyncio.wait({self._change}, timeout=seconds)


def _exact(seconds: float) -> float:
    """The same or a little less, in three digits: gRPC rounds what it tells the node up to so many,
    and with more time than there is the node would answer too late."""
    unit = 0.001
    while seconds >= 1000 * unit:
        unit *= 10
    return max(int(seconds / unit), 1) * unit


def _address(endpoint: str, tls: Tls | None) -> str:
    scheme, _, address = endpoint.rpartition("://")
    wanted = ("", "https") if tls else ("", "http")
    if scheme not in wanted:
        what = "needs `tls`" if scheme == "https" else f"is not dialled by {scheme}"
        raise refused_here("BAD_ENDPOINT", f"{endpoint} {what}")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or any(c in address for c in " /?#@"):
        raise refused_here("BAD_ENDPOINT", f"{endpoint!r} is no address of a node: HOST:PORT")
    return address


def is_silence(error: StatorError) -> bool:
    return error.reason in (NOT_CONNECTED, NO_ANSWER)
