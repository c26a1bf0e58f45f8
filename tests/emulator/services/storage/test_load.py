"""Large objects and many objects."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.storage import Bucket, Client

from emulator.services.storage import ObjectFiles
from emulator.services.storage.listing import Query, list_page
from tests.conftest import Emulator
from tests.emulator.services.storage.conftest import BUCKET

MIB = 1 << 20


def resident_bytes(emulator: Emulator) -> int:
    """Memory of the emulator's process."""
    pages = int(Path(f"/proc/{emulator.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def blocks(count: int) -> Iterator[bytes]:
    block = os.urandom(MIB)
    for _ in range(count):
        yield block


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_large_object_streams_through_little_memory(emulator: Emulator, client: Client, bucket: Bucket) -> None:
    bucket.blob("warm").upload_from_string("x" * MIB)
    bucket.blob("warm").download_as_bytes()
    before = resident_bytes(emulator)
    uri = f"https://storage.googleapis.com/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=large"
    response = client._http.post(uri, data=blocks(2048), timeout=600)
    assert response.status_code == 200
    after_upload = resident_bytes(emulator)
    uri = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/large?alt=media"
    with client._http.get(uri, stream=True) as download:
        assert sum(len(piece) for piece in download.iter_content(MIB)) == 2048 * MIB
    assert after_upload - before < 20 * MIB
    assert resident_bytes(emulator) - before < 20 * MIB
    bucket.blob("joined").compose([bucket.blob("large")])
    bucket.copy_blob(bucket.blob("joined"), bucket, "copy")
    assert resident_bytes(emulator) - before < 20 * MIB


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_objects_are_written_and_listed_as_fast_as_few(store: ObjectFiles) -> None:
    def fill(start: int, count: int) -> float:
        began = time.perf_counter()
        for number in range(start, start + count):
            store.write(f"gs://{BUCKET}/{number % 100:02}/{number:06}", [b"x" * 100])
        return (time.perf_counter() - began) / count

    def page_seconds(start: str) -> float:
        def one() -> float:
            began = time.perf_counter()
            assert len(list_page(store, Query(BUCKET, start=(start, 0), limit=100)).items) == 100
            return time.perf_counter() - began

        return min(one() for _ in range(10))

    first = fill(0, 2000)
    few = page_seconds("")
    fill(2000, 96_000)
    last = fill(98_000, 2000)
    assert last < 3 * first
    assert page_seconds("") < 3 * few
    assert page_seconds("50/") < 3 * few
    began = time.perf_counter()
    folded = list_page(store, Query(BUCKET, delimiter="/"))
    assert len(folded.prefixes) == 100
    assert time.perf_counter() - began < 2
