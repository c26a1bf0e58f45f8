"""Servers that do nothing: what grpcio and uvicorn reach when each call answers the same bytes.

`python -m benchmarks.bare_servers grpc|http FILE` answers with the file's bytes and prints its port.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

THREADS = 16


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
    """uvicorn with httptools and uvloop, a bare ASGI application."""
    import uvicorn

    async def application(
        scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        headers = [(b"content-type", b"application/json; charset=UTF-8"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(
            application, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_level="error"
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    {"grpc": serve_grpc, "http": serve_http}[sys.argv[1]](Path(sys.argv[2]).read_bytes())
