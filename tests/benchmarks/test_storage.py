"""The object store's benchmark measures what it says, in small."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from benchmarks import storage
from benchmarks.http_socket import HttpSocket, head


@pytest.mark.parametrize("name", ["selfloop", "bare ASGI, files"])
def test_a_run_measures_everything_that_the_server_can_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"LARGE_BYTES": 4 << 20, "SECONDS": 0.1, "CLIENT_CALLS": 3, "LISTED": 40, "SLOWEST": 1}
    for constant, value in small.items():
        monkeypatch.setattr(storage, constant, value)
    measured = storage.one_run(storage.SERVERS[name], 40)
    wanted = {"PUT", "GET", "filled", "fill, last/first", "256 MiB up", "256 MiB down", "memory added"}
    if name == "selfloop":
        wanted |= {"client PUT", "client GET", "list 10,000"}
    assert set(measured) == wanted
    assert measured["filled"] == 40
    assert all(value > 0 for metric, value in measured.items() if metric != "memory added")


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
        (b"HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 201, b"hello"),
        (b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\nuntil the end", 404, b"until the end"),
    ],
)
def test_answers_of_every_framing_are_read_whole(answer: bytes, status: int, body: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the listener closes while the next connection is waited for
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while connection.recv(4096):
                            for byte in answer:
                                connection.send(bytes([byte]))
                            if answer.startswith(b"HTTP/1.0"):
                                break

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        with HttpSocket(port) as first:
            # Twice: a server that closes after an answer is called on a new connection.
            for _ in range(2):
                assert first.call(head("GET", "/")) == (status, body)
