"""HTTP over a Unix socket, against servers that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.runners.http_client import HttpClient

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
Behaviour = Callable[[socket.socket], None]


class Server:
    """Does what a test says with each connection, in order, and counts them."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "s")
        self.accepted = 0
        self.behaviours: list[Behaviour] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def connect(self, timeout_seconds: float) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_seconds)
        connection.connect(self.path)
        return connection

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                self.behaviours.pop(0)(connection)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(server: Server) -> Iterator[HttpClient]:
    made = HttpClient(server.connect)
    yield made
    made.close()


def answering(*answers: bytes) -> Behaviour:
    """Answer one request after the other, then close."""

    def behave(connection: socket.socket) -> None:
        for answer in answers:
            connection.recv(65536)
            connection.sendall(answer)

    return behave


def post(client: HttpClient, timeout: float = 10) -> tuple[int, bytes]:
    answer = client.request("POST", "/predict", b"{}", "application/json", timeout)
    return answer.status, answer.body


def test_request_sends_method_path_length_and_body(server: Server, client: HttpClient) -> None:
    received: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        received.append(connection.recv(65536))
        connection.sendall(OK)

    server.behaviours = [behave]
    answer = client.request("POST", "/predict", b"{}", "application/json", 10)
    assert (answer.status, answer.content_type, answer.body) == (200, "text/plain", b"hello")
    assert received[0].startswith(b"POST /predict HTTP/1.1\r\n")
    assert received[0].endswith(b"Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")


def test_a_connection_is_used_again(server: Server, client: HttpClient) -> None:
    server.behaviours = [answering(OK, OK, OK)]
    assert [post(client) for _ in range(3)] == [(200, b"hello")] * 3
    assert server.accepted == 1


def test_a_kept_connection_that_the_server_closed_is_replaced(server: Server, client: HttpClient) -> None:
    server.behaviours = [answering(OK), answering(OK)]
    assert [post(client), post(client)] == [(200, b"hello")] * 2
    assert server.accepted == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["chunked", "until the end", "close"],
)
def test_other_forms_of_an_answer_are_read(server: Server, client: HttpClient, answer: bytes) -> None:
    server.behaviours = [answering(answer), answering(answer)]
    assert [post(client), post(client)] == [(200, b"hello")] * 2


def test_no_answer_is_a_connection_reset(server: Server, client: HttpClient) -> None:
    server.behaviours = [answering(b"")]
    with pytest.raises(ConnectionResetError):
        post(client)


def test_an_answer_that_is_cut_off_is_an_error(server: Server, client: HttpClient) -> None:
    server.behaviours = [answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")]
    with pytest.raises(OSError, match="before its answer was complete"):
        post(client)


def test_what_is_not_http_is_an_error(server: Server, client: HttpClient) -> None:
    server.behaviours = [answering(b"SSH-2.0-OpenSSH\r\n")]
    with pytest.raises(ValueError, match="HTTP"):
        post(client)


def test_a_server_that_is_slow_times_out(server: Server, client: HttpClient) -> None:
    done = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.recv(65536)
        done.wait(10)

    server.behaviours = [stall]
    with pytest.raises(TimeoutError):
        post(client, timeout=0.05)
    done.set()


def test_a_server_that_drips_times_out_as_a_whole(server: Server, client: HttpClient) -> None:
    done = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        try:
            for byte in OK:
                connection.sendall(bytes([byte]))
                if done.wait(0.02):
                    return
        except OSError:
            return

    server.behaviours = [drip]
    with pytest.raises(TimeoutError):
        post(client, timeout=0.1)
    done.set()
