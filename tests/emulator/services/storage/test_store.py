"""The store below the API: names, files that jobs leave, writers at once, readers during a change."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed, ServiceUnavailable

from emulator.core.clock import MovableClock
from emulator.core.errors import DiskFull
from emulator.core.interfaces import ObjectStore
from emulator.services.storage import ObjectFiles
from emulator.services.storage.catalogue import StoredBucket, StoredObject
from emulator.services.storage.checksums import Expected, extend_crc32c
from emulator.services.storage.preconditions import Preconditions
from tests.conftest import wait_until
from tests.emulator.services.storage.conftest import BUCKET

AWKWARD = [
    "a//b", "/leading", "trailing/", "../../escape", "a/../../../b", "./a", "a/./b", "x" * 300, "é" * 512, "nul\0",
    "e\u0301", "../a-bucket/x", "\U0001f600",
]  # fmt: skip


def put(store: ObjectFiles, name: str, data: bytes, conditions: Preconditions | None = None) -> StoredObject:
    staged = store.files.stage()
    staged.write(data)
    fields = {"contentType": "text/plain", "storageClass": "STANDARD"}
    return store.commit(staged, BUCKET, name, fields, conditions=conditions or Preconditions())


def get(store: ObjectFiles, name: str) -> bytes:
    return b"".join(store.read(f"gs://{BUCKET}/{name}"))


def names(store: ObjectFiles, prefix: str = "") -> list[str]:
    start = f"gs://{BUCKET}/"
    return [uri.removeprefix(start) for uri in store.names(start + prefix)]


def is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_store_is_the_object_store_of_the_interfaces(store: ObjectFiles) -> None:
    as_seen_by_others: ObjectStore = store
    as_seen_by_others.write(f"gs://{BUCKET}/a/b", [b"one", b"two"], "text/plain")
    assert b"".join(as_seen_by_others.read(f"gs://{BUCKET}/a/b")) == b"onetwo"
    assert (as_seen_by_others.tree / BUCKET / "a" / "b").read_bytes() == b"onetwo"


@pytest.mark.parametrize("uri", ["gs://no-such-bucket/x", f"gs://{BUCKET}/no-such-object"])
def test_read_of_what_is_not_there_is_not_found(store: ObjectFiles, uri: str) -> None:
    with pytest.raises(NotFound):
        store.read(uri)


def test_names_and_write_in_a_missing_bucket_are_not_found(store: ObjectFiles) -> None:
    with pytest.raises(NotFound, match="The specified bucket does not exist"):
        store.names("gs://no-such-bucket/")
    with pytest.raises(NotFound):
        store.write("gs://no-such-bucket/x", [b""])


@pytest.mark.parametrize("bucket", ["..", ".", "/etc", "../..", f"{BUCKET}/..", "", "\0"])
def test_bucket_name_is_never_a_path(store: ObjectFiles, tmp_path: Path, bucket: str) -> None:
    (tmp_path / "objects" / "x").write_text("outside the tree")
    (store.tree / "x").write_text("beside the buckets")
    for attempt in (
        lambda: store.find(bucket, "x"),
        lambda: store.open(bucket, "x"),
        lambda: store.delete(bucket, "x"),
        lambda: store.change(bucket, "x", lambda fields, *_: fields),
        lambda: store.publish(bucket or "."),
        lambda: store.delete_bucket(bucket, lambda _: None),
    ):
        with pytest.raises(NotFound, match="The specified bucket does not exist"):
            attempt()


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_name_is_kept_inside_the_store(store: ObjectFiles, tmp_path: Path, name: str) -> None:
    put(store, name, b"data")
    assert get(store, name) == b"data"
    assert names(store) == [name]
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(tmp_path / "objects")]
    assert [path for path in outside if not path.name.startswith("emulator.db")] == []
    store.delete(BUCKET, name)
    assert names(store) == []
    assert is_empty(tmp_path / "objects" / "apart")


def test_all_awkward_names_live_side_by_side(store: ObjectFiles) -> None:
    everything = [*AWKWARD, "a", "a/b", "A", "é"]
    for name in everything:
        put(store, name, name.encode())
    assert names(store) == sorted(everything, key=lambda name: name.encode())
    assert [get(store, name) for name in everything] == [name.encode() for name in everything]


@pytest.mark.parametrize("order", [["a", "a/b"], ["a/b", "a"]])
def test_object_beside_a_folder_of_its_name_keeps_its_bytes(store: ObjectFiles, order: list[str]) -> None:
    for name in order:
        put(store, name, name.encode())
    assert [get(store, name) for name in order] == [name.encode() for name in order]
    for name in order:
        store.delete(BUCKET, name)
    assert names(store) == []


def test_name_longer_than_1024_bytes_is_refused_and_leaves_nothing(store: ObjectFiles, tmp_path: Path) -> None:
    put(store, "é" * 512, b"longest")
    with pytest.raises(BadRequest, match="maximum object length"):
        put(store, "é" * 512 + "a", b"")
    assert is_empty(tmp_path / "objects" / "incoming")


def test_delete_removes_empty_folders_and_leaves_others(store: ObjectFiles) -> None:
    put(store, "a/b/c", b"")
    put(store, "a/d", b"")
    store.delete(BUCKET, "a/b/c")
    assert not (store.tree / BUCKET / "a" / "b").exists()
    store.delete(BUCKET, "a/d")
    assert is_empty(store.tree / BUCKET)


def test_object_whose_file_cannot_be_deleted_stays(store: ObjectFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = put(store, "a/b", b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        store.delete(BUCKET, "a/b")
    monkeypatch.undo()
    assert store.find(BUCKET, "a/b") == stored


def test_object_in_a_folder_that_a_job_locked_is_kept_apart(store: ObjectFiles) -> None:
    (store.tree / BUCKET / "a").mkdir(mode=0o500)
    put(store, "a/b", b"x")
    assert get(store, "a/b") == b"x"
    assert names(store) == ["a/b"]
    store.delete(BUCKET, "a/b")
    assert names(store) == []


# What jobs leave


def test_file_that_a_job_wrote_is_an_object(store: ObjectFiles) -> None:
    folder = store.tree / BUCKET / "out" / "model"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    assert store.find(BUCKET, "out/model/metrics.json").crc32c == extend_crc32c(0, b"{}")
    assert '"application/json"' in store.find(BUCKET, "out/model/metrics.json").fields
    (folder / "weights").write_bytes(b"w")
    assert names(store, "out/") == ["out/model/metrics.json", "out/model/weights"]


def test_file_that_a_job_changed_is_a_new_generation(store: ObjectFiles) -> None:
    first = put(store, "log", b"one")
    with open(store.tree / BUCKET / "log", "ab") as file:
        file.write(b"two")
    second = store.find(BUCKET, "log")
    assert second.generation > first.generation
    assert get(store, "log") == b"onetwo"
    assert store.find(BUCKET, "log") == second


def test_file_that_a_job_deleted_or_renamed_is_gone_under_its_name(store: ObjectFiles) -> None:
    put(store, "a", b"1")
    put(store, "b", b"2")
    (store.tree / BUCKET / "a").unlink()
    (store.tree / BUCKET / "b").rename(store.tree / BUCKET / "c")
    with pytest.raises(NotFound, match=f"No such object: {BUCKET}/a"):
        store.find(BUCKET, "a")
    assert names(store) == ["c"]


def test_publish_takes_in_everything_at_once(store: ObjectFiles) -> None:
    put(store, "gone/x", b"")
    put(store, "changed", b"1")
    (store.tree / BUCKET / "gone" / "x").unlink()
    (store.tree / BUCKET / "gone").rmdir()
    (store.tree / BUCKET / "changed").write_bytes(b"22")
    (store.tree / BUCKET / "new").mkdir()
    for number in range(50):
        (store.tree / BUCKET / "new" / str(number)).write_bytes(b"n")
    store.publish()
    rows = {row.name: row.size for row in store.catalogue.objects(BUCKET, "", None, 100)}
    assert rows == {"changed": 2} | {f"new/{number}": 1 for number in range(50)}


def test_listing_sees_files_added_one_after_another(store: ObjectFiles) -> None:
    seen = []
    for number in range(20):
        (store.tree / BUCKET / f"{number:02}").write_bytes(b"x")
        seen.append(f"{number:02}")
        put(store, f"api-{number:02}", b"y")
        assert [name for name in names(store) if not name.startswith("api")] == seen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs leases of Linux")
def test_file_that_a_job_still_writes_appears_when_it_is_closed(store: ObjectFiles) -> None:
    put(store, "old", b"before")
    with open(store.tree / BUCKET / "new", "wb") as new, open(store.tree / BUCKET / "old", "wb") as old:
        new.write(b"half")
        new.flush()
        old.write(b"ha")
        old.flush()
        assert names(store) == ["old"]
        with pytest.raises(NotFound):
            store.find(BUCKET, "new")
        assert store.find(BUCKET, "old").size == len(b"before")
        with pytest.raises(ServiceUnavailable, match="being written by a job"):
            store.read(f"gs://{BUCKET}/old")
        new.write(b" whole")
        # Long enough for the folder to count as one to which nothing is added.
        wait_until(lambda: time.time_ns() - os.stat(store.tree / BUCKET).st_mtime_ns > 100_000_000)
        assert names(store) == ["old"]
    assert names(store) == ["new", "old"]
    assert get(store, "new") == b"half whole"
    assert get(store, "old") == b"ha"


def test_file_named_in_decomposed_unicode_is_an_object(store: ObjectFiles) -> None:
    put(store, "e\u0301", b"apart")
    (store.tree / BUCKET / "e\u0301").write_text("by a job")
    assert names(store) == ["e\u0301"]
    assert get(store, "e\u0301") == b"by a job"
    assert is_empty(store.tree.parent / "apart")


def test_listing_below_a_prefix_looks_only_there(store: ObjectFiles) -> None:
    for name in ("a1/x", "a1/deep/y", "a2/z", "b/w"):
        (store.tree / BUCKET / name).parent.mkdir(parents=True, exist_ok=True)
        (store.tree / BUCKET / name).write_text("x")
    assert names(store, "a1") == ["a1/deep/y", "a1/x"]
    assert names(store, "a1/d") == ["a1/deep/y"]
    assert [row.name for row in store.catalogue.objects(BUCKET, "", None, 10)] == ["a1/deep/y", "a1/x"]
    assert names(store, "") == ["a1/deep/y", "a1/x", "a2/z", "b/w"]


def test_symbolic_link_is_never_followed(store: ObjectFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    bucket = store.tree / BUCKET
    (bucket / "passwd").symlink_to("/etc/passwd")
    (bucket / "folder").symlink_to(secret)
    store.publish()
    assert names(store) == []
    for name in ("passwd", "folder/key"):
        with pytest.raises(NotFound):
            store.read(f"gs://{BUCKET}/{name}")
    # Writing does not go through it either.
    put(store, "folder/key", b"mine")
    put(store, "passwd", b"mine too")
    assert (secret / "key").read_text() == "secret"
    assert get(store, "folder/key") == b"mine"
    assert get(store, "passwd") == b"mine too"


def test_symbolic_link_in_place_of_a_bucket_is_never_followed(store: ObjectFiles, tmp_path: Path) -> None:
    put(store, "x", b"1")
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "x").write_text("secret")
    (store.tree / BUCKET / "x").unlink()
    (store.tree / BUCKET).rmdir()
    (store.tree / BUCKET).symlink_to(victim)
    assert names(store) == []
    put(store, "y", b"2")
    assert get(store, "y") == b"2"
    store.delete(BUCKET, "y")
    store.delete_bucket(BUCKET, lambda _: None)
    assert (victim / "x").read_text() == "secret"


def test_fifo_socket_and_device_are_never_opened(store: ObjectFiles) -> None:
    bucket = store.tree / BUCKET
    os.mkfifo(bucket / "fifo")
    left = ["fifo"]
    try:
        os.mknod(bucket / "device", 0o600 | 0o020000, os.makedev(1, 5))
        left.append("device")
    except PermissionError:
        pass  # an ordinary user cannot, nor can a job
    done = threading.Event()

    def look() -> None:
        store.publish()
        assert names(store) == []
        for name in left:
            with pytest.raises(NotFound):
                store.read(f"gs://{BUCKET}/{name}")
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(look).result(timeout=20)
    assert done.is_set()
    put(store, "fifo", b"now an object")
    assert get(store, "fifo") == b"now an object"


def test_files_that_cannot_be_objects_are_left_alone(store: ObjectFiles) -> None:
    folder = os.fsencode(store.tree / BUCKET)
    for name in (b"not-utf8-\xff", b"line\nbreak"):
        with open(folder + b"/" + name, "wb"):
            pass
    store.publish()
    assert names(store) == []


def test_top_level_folder_without_a_bucket_is_ignored(store: ObjectFiles) -> None:
    (store.tree / "no-such-bucket").mkdir()
    (store.tree / "no-such-bucket" / "x").write_text("x")
    store.publish()
    with pytest.raises(NotFound):
        store.read("gs://no-such-bucket/x")


# Writers and readers at once


def test_two_writers_with_generation_zero_make_one_object(store: ObjectFiles) -> None:
    absent = Preconditions(generation_match=0)

    def write(number: int) -> bool:
        try:
            put(store, "lock", str(number).encode(), absent)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for round_ in range(20):
            won = list(pool.map(write, range(8)))
            assert won.count(True) == 1, round_
            assert get(store, "lock") == str(won.index(True)).encode()
            store.delete(BUCKET, "lock")


def test_reader_keeps_the_generation_that_it_opened(store: ObjectFiles) -> None:
    put(store, "x", b"a" * 3_000_000)
    reader = store.read(f"gs://{BUCKET}/x")
    first = next(reader)
    put(store, "x", b"b" * 3_000_000)
    assert first + b"".join(reader) == b"a" * 3_000_000
    reader = store.read(f"gs://{BUCKET}/x")
    store.delete(BUCKET, "x")
    assert b"".join(reader) == b"b" * 3_000_000


def test_readers_during_many_overwrites_see_whole_generations(store: ObjectFiles) -> None:
    put(store, "x", b"0" * 5000)
    stop = threading.Event()
    torn: list[bytes] = []

    def read() -> int:
        count = 0
        while not stop.is_set():
            row, descriptor = store.open(BUCKET, "x")
            data = os.read(descriptor, 10_000)
            os.close(descriptor)
            if len(set(data)) != 1 or extend_crc32c(0, data) != row.crc32c:
                torn.append(data)
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for number in range(300):
            put(store, "x", str(number % 10).encode() * (4000 + number))
        stop.set()
        assert sum(reader.result() for reader in readers) > 0
    assert torn == []


def test_full_disk_is_said_and_leaves_nothing(
    store: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "x", b"before")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DiskFull, match="No space is left for objects") as raised:
        store.write(f"gs://{BUCKET}/x", [b"after"])
    assert raised.value.code == 507
    monkeypatch.undo()
    assert get(store, "x") == b"before"
    assert is_empty(tmp_path / "objects" / "incoming")


def test_generations_of_a_name_only_grow(store: ObjectFiles) -> None:
    generations = [put(store, "x", b"").generation for _ in range(20)]
    assert generations == sorted(set(generations))


def test_bucket_with_a_file_that_a_job_just_wrote_is_not_empty(store: ObjectFiles) -> None:
    (store.tree / BUCKET / "x").write_text("x")
    with pytest.raises(Conflict, match="not empty"):
        store.delete_bucket(BUCKET, lambda _: None)
    store.delete(BUCKET, "x")
    (store.tree / BUCKET / "empty" / "folders").mkdir(parents=True)
    with pytest.raises(Conflict, match="not empty"):
        store.delete_bucket(BUCKET, lambda _: None)
    store.delete(BUCKET, "empty/folders/")
    store.delete_bucket(BUCKET, lambda _: None)
    assert not (store.tree / BUCKET).exists()


def test_descriptors_are_all_closed(store: ObjectFiles) -> None:
    def work() -> None:
        put(store, "a/b/c", b"x")
        get(store, "a/b/c")
        names(store)
        store.publish()
        store.delete(BUCKET, "a/b/c")
        with pytest.raises(NotFound):
            store.read(f"gs://{BUCKET}/a/b/c")

    work()
    gc.collect()  # of connections that threads of earlier tests had
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        work()
    assert len(os.listdir("/dev/fd")) == before


def test_upload_session_is_good_for_a_week(store: ObjectFiles, tmp_path: Path) -> None:
    def begin() -> str:
        return store.uploads.begin(
            BUCKET, "x", {"storageClass": "STANDARD"}, conditions=Preconditions(), expected=Expected(), total=None
        )

    session = begin()
    assert isinstance(store.clock, MovableClock)
    store.clock.advance(timedelta(days=6))
    assert store.uploads.receive(session, {"content-range": "bytes */*"}, [], store.find) == 0
    store.clock.advance(timedelta(days=2))
    with pytest.raises(NotFound, match="resumable upload"):
        store.uploads.receive(session, {"content-range": "bytes */*"}, [], store.find)
    other = begin()
    assert [path.name for path in (tmp_path / "objects" / "incoming").iterdir()] == [other]


# Copies out


def test_download_copies_a_folder_and_cannot_leave_it(store: ObjectFiles, tmp_path: Path) -> None:
    for name in ("m/model.joblib", "m/sub/x", "m/", "m/../../out", "m//x", "other/y", "mm/z"):
        put(store, name, name.encode())
    target = tmp_path / "copies" / "inner"
    assert store.download(f"gs://{BUCKET}/m", target) == 2
    found = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "copies").rglob("*") if path.is_file())
    assert found == ["copies/inner/model.joblib", "copies/inner/sub/x"]
    assert (target / "sub" / "x").read_bytes() == b"m/sub/x"


def test_restart_finds_everything(open_store: Callable[[], ObjectFiles]) -> None:
    store = open_store()
    store.create_bucket(BUCKET, "a-project", {})
    before = [put(store, name, name.encode()) for name in ("a", "b//c", "d/e")]
    store = open_store()
    assert [store.find(BUCKET, row.name) for row in before] == before
    assert [get(store, row.name) for row in before] == [b"a", b"b//c", b"d/e"]


def test_bucket_whose_change_is_rolled_back_is_as_before(store: ObjectFiles) -> None:
    before = store.bucket(BUCKET)

    def fails(bucket: StoredBucket, now: int) -> StoredBucket:
        store.catalogue.save_bucket(replace(bucket, fields="{}"))
        assert store.bucket(BUCKET).fields == "{}"
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        store.change_bucket(BUCKET, fails)
    assert store.bucket(BUCKET) == before
    store.change_bucket(BUCKET, lambda bucket, now: replace(bucket, policy="{}"))
    assert store.bucket(BUCKET).policy == "{}"
