"""`kill -9` of the whole emulator while clients write: what was acknowledged is whole, the rest is old or new."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.conftest import Emulator

QUANTUM = 256 * 1024
BUCKET = "killed-bucket"
_SESSION_LENGTH = 64

#: What a name may hold: bytes, or None for no object.
Content = bytes | None


class Ledger:
    """What clients know of each name: what was acknowledged last, and what is under way."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, Content] = {}
        self.pending: dict[str, Content] = {}

    @contextmanager
    def change(self, name: str, content: Content) -> Iterator[None]:
        """Around one request that makes this the content. When it fails, either may be there."""
        self.pending[name] = content
        yield
        self.acknowledged[name] = self.pending.pop(name)

    def allowed(self, name: str) -> list[Content]:
        before = self.acknowledged.get(name)
        return [before, self.pending[name]] if name in self.pending else [before]


class Writer:
    """A client of its own names, which stops when the emulator is gone. kind: how it writes."""

    def __init__(self, emulator: Emulator, kind: str, ledger: Ledger, seed: int) -> None:
        self.kind = kind
        self.ledger = ledger
        self.session_address = ""
        self.session_data = b""
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._emulator = emulator
        self._http = new_session(emulator)
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()
        self._http.close()

    def _run(self) -> None:
        number = 0
        try:
            while True:
                getattr(self, f"_{self.kind}")(number % 5)
                number += 1
        except requests.RequestException:
            pass  # it was killed

    def _data(self) -> bytes:
        return self._random.randbytes(self._random.choice([0, 10, 5_000, 300_000]))

    def _check(self, response: requests.Response, *statuses: int) -> requests.Response:
        assert response.status_code in (statuses or (200,)), response.text
        return response

    def _media(self, number: int) -> None:
        data, name = self._data(), f"media/{number}"
        with self.ledger.change(name, data):
            url = f"{self._emulator.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
            self._check(self._http.post(url, params={"name": name}, data=data))

    def _multipart(self, number: int) -> None:
        data, name = self._data(), f"awkward//{number}"
        head = b"--b\r\ncontent-type: application/json\r\n\r\n" + json.dumps({"name": name}).encode()
        body = head + b"\r\n--b\r\ncontent-type: a/b\r\n\r\n" + data + b"\r\n--b--"
        with self.ledger.change(name, data):
            url = f"{self._emulator.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=multipart"
            self._check(self._http.post(url, data=body, headers={"Content-Type": "multipart/related; boundary=b"}))

    def _resumable(self, number: int) -> None:
        data, name = self._random.randbytes(3 * QUANTUM + 100), f"resumable/{number}"
        self.ledger.pending[name] = data
        url = f"{self._emulator.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable"
        begun = self._check(self._http.post(url, params={"name": name}, json={}))
        self.session_address, self.session_data = begun.headers["Location"], data
        with self.ledger.change(name, data):
            finish(self._http, self.session_address, data, 0)
        self.session_address = ""

    def _compose(self, number: int) -> None:
        parts = {f"compose/{number}/{part}": self._data() for part in "ab"}
        for name, data in parts.items():
            with self.ledger.change(name, data):
                url = f"{self._emulator.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
                self._check(self._http.post(url, params={"name": name}, data=data))
        whole = f"compose/{number}/whole"
        with self.ledger.change(whole, b"".join(parts.values())):
            url = f"{self._emulator.address}/storage/v1/b/{BUCKET}/o/{whole.replace('/', '%2F')}/compose"
            self._check(self._http.post(url, json={"sourceObjects": [{"name": name} for name in parts]}))

    def _deletion(self, number: int) -> None:
        name = f"deletion/{number}"
        with self.ledger.change(name, b"soon gone"):
            url = f"{self._emulator.address}/upload/storage/v1/b/{BUCKET}/o?uploadType=media"
            self._check(self._http.post(url, params={"name": name}, data=b"soon gone"))
        with self.ledger.change(name, None):
            url = f"{self._emulator.address}/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}"
            self._check(self._http.delete(url), 204)


KINDS = ("media", "multipart", "resumable", "compose", "deletion")


def new_session(emulator: Emulator) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {emulator.token}"
    return session


def finish(http: requests.Session, address: str, data: bytes, held: int) -> None:
    """Send the rest of a resumable upload, a quantum at a time."""
    while True:
        chunk = data[held : held + QUANTUM]
        span = f"bytes {held}-{held + len(chunk) - 1}/{len(data)}"
        answer = http.put(address, data=chunk, headers={"Content-Range": span})
        if answer.status_code == 200:
            return
        assert answer.status_code == 308, answer.text
        held = int(answer.headers["Range"].rpartition("-")[2]) + 1


def read(http: requests.Session, emulator: Emulator, name: str) -> Content:
    url = f"{emulator.address}/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}?alt=media"
    answer = http.get(url)
    return None if answer.status_code == 404 else answer.content


def go_on(http: requests.Session, emulator: Emulator, writer: Writer) -> None:
    """A session that was interrupted says what it holds, and is completed from there."""
    # The emulator has another port now.
    address = urlsplit(writer.session_address)._replace(netloc=urlsplit(emulator.address).netloc).geturl()
    status = http.put(address, headers={"Content-Range": f"bytes */{len(writer.session_data)}"})
    assert status.status_code in (200, 308), status.text
    if status.status_code == 308:
        held = int(status.headers["Range"].rpartition("-")[2]) + 1 if "Range" in status.headers else 0
        assert held % QUANTUM == 0
        finish(http, address, writer.session_data, held)


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("versioned", [False, True])
def test_acknowledged_writes_survive_kill_nine(
    new_emulator: Callable[..., Emulator], rounds: int, versioned: bool
) -> None:
    emulator = new_emulator()
    ledger = Ledger()
    chance = random.Random(os.getpid())  # noqa: S311  # no secret
    settings: dict[str, Any] = {"name": BUCKET, "versioning": {"enabled": versioned}}
    with new_session(emulator) as http:
        url = f"{emulator.address}/storage/v1/b?project=a-project"
        assert http.post(url, json=settings).status_code == 200
    for number in range(rounds):
        writers = [Writer(emulator, kind, ledger, chance.randrange(1 << 30)) for kind in KINDS]
        for writer in writers:
            writer.start()
        # Any moment will do: there is nothing to wait for.
        time.sleep(chance.uniform(0.05, 0.6))
        emulator.stop(signal.SIGKILL)
        for writer in writers:
            writer.join()
        emulator = new_emulator(state=emulator.state)
        with new_session(emulator) as http:
            for writer in writers:
                if writer.session_address:
                    go_on(http, emulator, writer)
            listed = http.get(f"{emulator.address}/storage/v1/b/{BUCKET}/o").json().get("items", [])
            found = {item["name"]: read(http, emulator, item["name"]) for item in listed}
            for name in ledger.acknowledged.keys() | ledger.pending.keys() | found.keys():
                content = found.get(name)
                assert content in ledger.allowed(name), f"round {number}: {name} holds {len(content or b'')} bytes"
            for item in listed:
                assert int(item["size"]) == len(found[item["name"]] or b"")
        ledger.acknowledged = dict(found)
        ledger.pending.clear()
    # A session whose address never reached its client stays for its week; what has no name to be found by is gone.
    kept = [path.name for path in (emulator.state / "objects" / "incoming").iterdir()]
    assert [name for name in kept if len(name) != _SESSION_LENGTH] == []
