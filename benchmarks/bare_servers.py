"""Servers that do nothing: what grpcio and uvicorn reach when each call answers the same bytes.

`python -m benchmarks.bare_servers grpc|http FILE` answers with the file's bytes and prints its port; `objects FOLDER`
keeps what is PUT as a file and gives it back.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any

THREADS = 16
_PIECE_BYTES = 256 * 1024


def serve_grpc(answer: bytes) -> None:
    """grpcio's sync server with a thread pool, any method, messages left as bytes."""
    import grpc

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[AnyMethod()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def serve_http(answer: bytes) -> None:
    """A bare ASGI application."""

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        headers = [(b"content-type", b"application/json; charset=UTF-8"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    _serve_asgi(application)


def serve_objects(folder: Path) -> None:
    """Bodies as files, written and read on the event loop: nothing that a store needs but the bytes."""

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        file = folder / scope["path"].replace("/", "_")
        if scope["method"] != "PUT":
            with file.open("rb") if file.is_file() else BytesIO() as source:
                length = source.seek(0, SEEK_END)
                source.seek(0)
                headers = [(b"content-length", b"%d" % length)]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                while piece := source.read(_PIECE_BYTES):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        with file.open("wb") as target:
            more = True
            while more:
                message = await receive()
                target.write(message["body"])
                more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    _serve_asgi(application)


def _serve_asgi(application: Any) -> None:
    """uvicorn with httptools and uvloop."""
    import uvicorn

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(
            application, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="error"
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1] == "objects":
        serve_objects(Path(sys.argv[2]))
    else:
        {"grpc": serve_grpc, "http": serve_http}[sys.argv[1]](Path(sys.argv[2]).read_bytes())
