"""The one port: CONNECT, TLS and plain HTTP, told apart by the first bytes that a client sends.

They are looked at without being taken, so that the connection can then be given, as a whole, to whoever speaks
its protocol: the HTTP server in this process, or by a relay to the gRPC server. A sandbox's own listener is
served in the same way, and everything that comes in through it is known to come from that sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from emulator.core import client_hello
from emulator.core.certificates import CertificateAuthority, is_ours
from emulator.core.client_hello import ClientHello
from emulator.core.connection_loops import ConnectionLoops
from emulator.core.egress import Egress, is_loopback
from emulator.core.interfaces import SandboxCaller
from emulator.core.relay import Relay

logger = logging.getLogger(__name__)

_HELLO_SECONDS = 60.0
_LONGEST_HEAD = 16 * 1024
_BACKLOG = 512
#: So many connections have a thread and an event loop of their own.
_LOOPS = 32
#: The rest of a message that has begun is awaited so often, so long each time: two seconds.
_STALLED_LOOKS, _LOOK_SECONDS = 400, 0.005
_H2_PREFACE = b"PRI * HTTP/2.0\r\n"


@dataclass(frozen=True)
class Connection:
    """How a request came in."""

    is_tls: bool
    sandbox: SandboxCaller | None
    has_own_loop: bool = False
    """nobody else is served by the event loop that it is on: there, a handler may take its time"""


HttpApp = Callable[[Any, Any, Any, Connection], Awaitable[None]]


class Front:
    """Listens, sniffs, hands on. grpc_tls and grpc_plain: paths of the gRPC server's two UNIX sockets."""

    def __init__(
        self,
        app: HttpApp,
        authority: CertificateAuthority,
        egress: Egress,
        relay: Relay,
        *,
        grpc_tls: str,
        grpc_plain: str,
    ) -> None:
        import uvicorn
        from uvicorn.server import ServerState

        self._app = app
        self._authority = authority
        self._egress = egress
        self._relay = relay
        self._grpc_tls, self._grpc_plain = grpc_tls, grpc_plain
        self._config = uvicorn.Config(
            self._not_bound, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=True, timeout_keep_alive=75,
        )  # fmt: skip
        self._config.load()
        self._http_state = ServerState()
        self.loop = asyncio.get_running_loop()
        self._loops = ConnectionLoops(_LOOPS, type(self.loop))
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def listen(self, host: str, port: int) -> None:
        """Begin to accept. Raises OSError when the port is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._accept_on(listener, None)

    def attach(self, listener: socket.socket, caller: SandboxCaller) -> Callable[[], None]:
        """Accept on a sandbox's listener; what is given back closes it. From any thread."""
        accepting = asyncio.run_coroutine_threadsafe(self._attach(listener, caller), self.loop).result()

        def close() -> None:
            self.loop.call_soon_threadsafe(accepting.cancel)

        return close

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for protocol in list(self._http_state.connections):
            protocol.loop.call_soon_threadsafe(protocol.shutdown)
        self._loops.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _attach(self, listener: socket.socket, caller: SandboxCaller) -> asyncio.Task[None]:
        return self._accept_on(listener, caller)

    def _accept_on(self, listener: socket.socket, caller: SandboxCaller | None) -> asyncio.Task[None]:
        listener.setblocking(False)
        return self._start(self._accept(listener, caller))

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket, caller: SandboxCaller | None) -> None:
        with listener:
            while True:
                try:
                    client, _ = await self.loop.sock_accept(listener)
                except OSError as error:
                    # Out of descriptors: those that are open must get a chance to close.
                    logger.warning("a connection could not be accepted: %s", error)
                    await asyncio.sleep(0.1)
                    continue
                self._start(self._serve(client, caller))

    async def _serve(self, client: socket.socket, caller: SandboxCaller | None) -> None:
        try:
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_HELLO_SECONDS):
                handed_on = await self._hand_on(client, caller)
        except (OSError, ValueError, TimeoutError) as error:
            logger.debug("a connection was dropped before its first request: %s", error)
            handed_on = False
        except BaseException:
            client.close()
            raise
        if not handed_on:
            client.close()

    async def _hand_on(self, client: socket.socket, caller: SandboxCaller | None) -> bool:
        """Give the connection to whoever speaks its protocol; False when there is nobody."""
        first = await self._peek(client, lambda data: len(data) >= 8 or b"\n" in data)
        if first.startswith(b"CONNECT "):
            if not await self._connect(client):
                return False
            if client.fileno() < 0:
                return True  # tunnelled
            first = await self._peek(client, lambda data: len(data) >= 8 or b"\n" in data)
        if first[:1] == b"\x16":
            hello = await self._hello(client)
            if hello.is_grpc:
                await self._to_grpc(client, self._grpc_tls)
            else:
                context = self._authority.context_for(hello.server_name)
                self._to_http(client, Connection(is_tls=True, sandbox=caller), context)
            return True
        if first and _H2_PREFACE.startswith(first[: len(_H2_PREFACE)]):
            await self._to_grpc(client, self._grpc_plain)
            return True
        if not first:
            return False
        self._to_http(client, Connection(is_tls=False, sandbox=caller), None)
        return True

    async def _connect(self, client: socket.socket) -> bool:
        """Answer a CONNECT. True when TLS follows for us, or when the socket went to a tunnel (then detached)."""
        data = await self._peek(client, lambda data: b"\r\n\r\n" in data or b"\n\n" in data)
        head = re.match(rb"CONNECT +(\S+?):(\d+) +HTTP/1\.[01]\r?\n(?:.*\n)*?\r?\n", data)
        if head is None:
            client.recv(len(data))  # a socket closed over unread bytes takes its answer with it
            await self._refuse(client, 400, "the CONNECT request is malformed")
            return False
        client.recv(head.end())
        host, port = head[1].decode("latin-1").strip("[]"), int(head[2])
        if is_ours(host) or (is_loopback(host) and port == self.port):
            await self.loop.sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
            return True
        if is_loopback(host) or not await self.loop.run_in_executor(None, self._egress.allows, host):
            await self._refuse(
                client,
                403,
                f"the emulator lets nothing out to {host}:{port}; emulator.egress in config/<env>.yaml lists what may "
                f"leave (now: {', '.join(self._egress.allowed) or 'nothing'})",
            )
            return False
        try:
            upstream = await self.loop.run_in_executor(None, self._egress.connect, host, port)
        except OSError as error:
            await self._refuse(client, 502, f"{host}:{port} cannot be reached: {error}")
            return False
        await self.loop.sock_sendall(client, b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._relay.join(_detach(client), upstream)
        return True

    async def _refuse(self, client: socket.socket, status: int, sentence: str) -> None:
        body = f"{sentence}\n".encode()
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain; charset=utf-8\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        await self.loop.sock_sendall(client, head.encode() + body)

    async def _hello(self, client: socket.socket) -> ClientHello:
        found: list[ClientHello] = []

        def complete(data: bytes) -> bool:
            hello = client_hello.parse(data)
            if hello:
                found.append(hello)
            return hello is not None

        await self._peek(client, complete, client_hello.LONGEST)
        if not found:
            raise ValueError("the client left before its hello was complete")
        return found[-1]

    async def _to_grpc(self, client: socket.socket, address: str) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.setblocking(False)
        await self.loop.sock_connect(server, address)
        self._relay.join(_detach(client), server)

    def _to_http(self, client: socket.socket, connection: Connection, context: Any) -> None:
        loop = self._loops.take()
        if loop is None:
            self._start(self._serve_http(client, connection, context))
        else:
            connection = replace(connection, has_own_loop=True)
            self._loops.serve(loop, self._serve_http(client, connection, context))

    async def _serve_http(self, client: socket.socket, connection: Connection, context: Any) -> None:
        """From its first request, or TLS handshake, until it is closed, on the loop that runs this."""
        loop = asyncio.get_running_loop()
        protocol = _protocol_class()(self._config, self._http_state, {}, loop)
        protocol.accepted = client
        protocol.lost = loop.create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self._app(scope, receive, send, connection)

        protocol.app = app
        try:
            await loop.connect_accepted_socket(lambda: protocol, client, ssl=context)
        except OSError as error:
            logger.debug("a connection was dropped before its first request: %s", error)
            client.close()
            return
        await protocol.lost

    async def _peek(
        self, client: socket.socket, is_enough: Callable[[bytes], bool], longest: int = _LONGEST_HEAD
    ) -> bytes:
        """What waits to be read, once it is enough or the client is done sending; nothing is taken."""
        seen, stalled = 0, 0
        while True:
            await self._readable(client)
            data = client.recv(longest, socket.MSG_PEEK)
            if not data or is_enough(data):
                return data
            # What is here keeps the socket readable, as its end would: waiting for that would spin.
            stalled = 0 if len(data) > seen else stalled + 1
            if len(data) >= longest or stalled > _STALLED_LOOKS:
                raise ValueError("the first bytes make no sense")
            seen = len(data)
            await asyncio.sleep(_LOOK_SECONDS if stalled else 0)

    async def _readable(self, client: socket.socket) -> None:
        ready: asyncio.Future[None] = self.loop.create_future()
        descriptor = client.fileno()

        def look() -> None:
            if not ready.done():
                ready.set_result(None)

        self.loop.add_reader(descriptor, look)
        try:
            await ready
        finally:
            with contextlib.suppress(ValueError, OSError):
                self.loop.remove_reader(descriptor)

    @staticmethod
    async def _not_bound(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("every connection has an application of its own")


@cache
def _protocol_class() -> Any:
    """uvicorn's HTTP, with acknowledgements sent at once; made late, because importing uvicorn takes its time."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Protocol(HttpToolsProtocol):
        accepted: socket.socket
        lost: asyncio.Future[None]

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if not self.lost.done():
                self.lost.set_result(None)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # Clients behind a proxy variable send headers and body in two pieces, and hold the second back until
            # the first is acknowledged: urllib3 leaves Nagle's algorithm on for proxies. Linux would wait 40 ms.
            if sys.platform == "linux":
                with contextlib.suppress(OSError):
                    self.accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    return Protocol


def _detach(client: socket.socket) -> socket.socket:
    """The same connection under a socket object of its own; the old one is empty afterwards."""
    return socket.socket(fileno=client.detach())
