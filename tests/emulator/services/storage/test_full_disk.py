"""A disk without room: the caller is told so, nothing is half there, and afterwards everything goes on."""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterator

import pytest
import requests

from emulator.services.storage import ObjectFiles
from tests.conftest import Emulator
from tests.emulator.services.storage.conftest import BUCKET

QUANTUM = 256 * 1024
_LIMIT = 1 << 20

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process: Linux alone")


@pytest.fixture
def small(new_emulator: Callable[..., Emulator]) -> Emulator:
    """An emulator that cannot write files beyond a mebibyte: to it, a disk that is full there."""
    emulator = new_emulator()
    limit(emulator, _LIMIT)
    return emulator


def limit(emulator: Emulator, size: int) -> None:
    if sys.platform == "linux":
        resource.prlimit(emulator.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def session(small: Emulator) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {small.token}"
        session.params = {"project": "a-project"}
        made = session.post(f"{small.address}/storage/v1/b", json={"name": "full-bucket"})
        assert made.status_code == 200, made.text
        yield session


def test_upload_beyond_the_room_is_507_and_leaves_nothing(small: Emulator, session: requests.Session) -> None:
    url = f"{small.address}/upload/storage/v1/b/full-bucket/o"
    assert session.post(f"{url}?uploadType=media&name=x", data=b"before").status_code == 200
    head = b'--b\r\ncontent-type: application/json\r\n\r\n{"name": "x"}\r\n--b\r\ncontent-type: a/b\r\n\r\n'
    bodies = [
        ("media&name=x", b"n" * 2 * _LIMIT, "a/b"),
        ("multipart", head + b"n" * 2 * _LIMIT + b"\r\n--b--", "multipart/related; boundary=b"),
    ]
    for kind, body, content_type in bodies:
        refused = session.post(f"{url}?uploadType={kind}", data=body, headers={"Content-Type": content_type})
        assert refused.status_code == 507
        assert "No space is left" in refused.json()["error"]["message"]
    kept = session.get(f"{small.address}/storage/v1/b/full-bucket/o/x?alt=media")
    assert kept.content == b"before"
    assert list((small.state / "objects" / "incoming").iterdir()) == []
    for number in range(3):
        session.post(f"{url}?uploadType=media&name=part{number}", data=bytes(_LIMIT // 2))
    composed = session.post(
        f"{small.address}/storage/v1/b/full-bucket/o/all/compose",
        json={"sourceObjects": [{"name": f"part{number}"} for number in range(3)]},
    )
    assert composed.status_code == 507
    names = [item["name"] for item in session.get(f"{small.address}/storage/v1/b/full-bucket/o").json()["items"]]
    assert names == ["part0", "part1", "part2", "x"]


def test_resumable_upload_goes_on_once_there_is_room(small: Emulator, session: requests.Session) -> None:
    data = bytes(range(256)) * (8 * QUANTUM // 256)
    url = f"{small.address}/upload/storage/v1/b/full-bucket/o?uploadType=resumable&name=x"
    location = session.post(url, json={}).headers["Location"]
    refused = session.put(location, data=data, headers={"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"})
    assert refused.status_code == 507
    status = session.put(location, headers={"Content-Range": f"bytes */{len(data)}"})
    assert status.status_code == 308
    held = int(status.headers["Range"].rpartition("-")[2]) + 1 if "Range" in status.headers else 0
    assert held % QUANTUM == 0
    assert held <= _LIMIT
    assert session.get(f"{small.address}/storage/v1/b/full-bucket/o/x").status_code == 404
    limit(small, resource.RLIM_INFINITY)
    rest = {"Content-Range": f"bytes {held}-{len(data) - 1}/{len(data)}"}
    done = session.put(location, data=data[held:], headers=rest)
    assert done.status_code == 200
    assert session.get(f"{small.address}/storage/v1/b/full-bucket/o/x?alt=media").content == data


def test_row_without_room_takes_its_file_back(store: ObjectFiles) -> None:
    store.write(f"gs://{BUCKET}/a/x", [b"before"])
    with store.database.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    fields = {"contentType": "a/b", "storageClass": "STANDARD", "metadata": {"long": "m" * 8000}}

    def fill(name: str) -> None:
        staged = store.files.stage()
        staged.write(b"after")
        store.commit(staged, BUCKET, name, fields)

    def fill_up() -> None:
        for number in range(100):
            fill(f"n{number}")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill_up()
    names = list(store.names(f"gs://{BUCKET}/"))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill("a/x")
    store.publish()
    assert list(store.names(f"gs://{BUCKET}/")) == names
    assert b"".join(store.read(f"gs://{BUCKET}/a/x")) == b"before"
    assert json.loads(store.find(BUCKET, "a/x").fields)["contentType"] == "application/octet-stream"
    assert list((store.tree.parent / "incoming").iterdir()) == []
    assert list((store.tree.parent / "apart").iterdir()) == []
