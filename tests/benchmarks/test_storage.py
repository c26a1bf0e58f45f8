"""The object store's benchmark measures what it says, in small."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import measure, storage
from benchmarks.http_socket import HttpSocket, head


@pytest.mark.parametrize("name", ["selfloop", "bare ASGI, files"])
def test_a_run_measures_everything_that_the_server_can_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"LARGE_BYTES": 4 << 20, "SECONDS": 0.1, "CLIENT_CALLS": 3, "LISTED": (10, 40), "PAGE": 10}
    for constant, value in small.items():
        monkeypatch.setattr(storage, constant, value)
    measured = storage.one_run(storage.SERVERS[name], tmp_path)
    wanted = {"PUT", "GET", "256 MiB up", "256 MiB down", "memory added"}
    assert set(measured) == wanted | ({"client PUT", "client GET"} if name == "selfloop" else set())
    filled = storage.fill_run(storage.SERVERS[name], tmp_path, 40, 60)
    wanted = {"filled", "fill, all", "fill, last/first"}
    assert set(filled) == wanted | ({"page at 10", "page at 40"} if name == "selfloop" else set())
    assert filled["filled"] == 40
    assert all(value > 0 for metric, value in (measured | filled).items() if metric != "memory added")


def test_aims_are_judged_by_what_was_measured_beside() -> None:
    def subject(name: str, **values: float) -> measure.Subject:
        return measure.Subject(name, dict, {metric.replace("_", " "): [value] for metric, value in values.items()})

    ours = subject("selfloop", PUT=2700, GET=3000, memory_added=21)
    ours.values["256 MiB up"] = [400]
    theirs = subject("fake-gcs-server", GET=2000)
    fill = measure.Subject("selfloop", dict, {"fill, last/first": [0.5]})
    table = storage.aims({"selfloop": ours, "fake-gcs-server": theirs}, {"selfloop": fill}).splitlines()
    judged = {line.split(" | ")[0]: line.split(" | ")[-1].removesuffix(" |") for line in table[2:]}
    assert judged == {
        "| raw PUT": "yes",
        "| 256 MiB up, memory added": "no",
        "| rate of a fill, end over start": "no",
        "| raw GET over fake-gcs-server's": "yes",
    }


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
