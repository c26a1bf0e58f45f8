"""What a job overwrites or deletes leaves what the API's own overwriting and deleting would leave."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound

from emulator.services.storage import ObjectFiles
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.resources import microseconds
from tests.emulator.services.storage.conftest import BUCKET, NOTHING_KEPT

VERSIONED = {**NOTHING_KEPT, "versioning": {"enabled": True}}
SOFT_DELETE = {"softDeletePolicy": {"retentionDurationSeconds": "604800"}}
RETAINED = {**NOTHING_KEPT, "retentionPolicy": {"retentionPeriod": "3600"}}


@pytest.fixture
def bucket(open_store: Callable[[], ObjectFiles], request: pytest.FixtureRequest) -> ObjectFiles:
    store = open_store()
    store.create_bucket(BUCKET, "a-project", request.param)
    return store


def put(store: ObjectFiles, name: str, data: bytes) -> StoredObject:
    store.write(f"gs://{BUCKET}/{name}", [data])
    return store.find(BUCKET, name)


def read(store: ObjectFiles, name: str, generation: int | None = None) -> bytes:
    row, descriptor = store.open(BUCKET, name, generation)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read()
    assert len(data) == row.size
    return data


def file(store: ObjectFiles, name: str) -> Path:
    return store.tree / BUCKET / name


def soft_deleted(store: ObjectFiles) -> list[StoredObject]:
    return store.versions.soft_deleted(BUCKET, ("", 0), None, 100, microseconds(store.clock.now()))


def hold(fields: dict[str, Any], *_: object) -> dict[str, Any]:
    return {**fields, "temporaryHold": True}


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_file_that_a_job_rewrites_in_place_is_noncurrent(bucket: ObjectFiles) -> None:
    before = put(bucket, "a/b", b"before")
    assert bucket.begin_job() == []
    file(bucket, "a/b").write_bytes(b"by the job")
    assert bucket.end_job() == []
    assert read(bucket, "a/b") == b"by the job"
    assert read(bucket, "a/b", before.generation) == b"before"
    assert bucket.md5(bucket.find(BUCKET, "a/b", before.generation)).md5 is not None


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_file_that_a_job_deletes_is_noncurrent_and_survives_a_restart(
    bucket: ObjectFiles, open_store: Callable[[], ObjectFiles]
) -> None:
    before = put(bucket, "a", b"before")
    bucket.begin_job()
    file(bucket, "a").unlink()
    bucket.end_job()
    store = open_store()
    with pytest.raises(NotFound):
        store.find(BUCKET, "a")
    assert read(store, "a", before.generation) == b"before"


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_generations_that_come_about_while_a_job_runs_are_kept_too(bucket: ObjectFiles) -> None:
    bucket.begin_job()
    generations = [put(bucket, "a", b"by the API").generation]
    for number in range(3):
        file(bucket, "a").write_bytes(b"by the job" * number)
        generations.append(bucket.find(BUCKET, "a").generation)
    bucket.end_job()
    contents = [read(bucket, "a", generation) for generation in generations]
    assert contents == [b"by the API", b"", b"by the job", b"by the job" * 2]
    assert generations == sorted(set(generations))


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_job_of_a_killed_emulator_leaves_what_it_overwrote(
    bucket: ObjectFiles, open_store: Callable[[], ObjectFiles]
) -> None:
    before = put(bucket, "a", b"before")
    bucket.begin_job()
    file(bucket, "a").write_bytes(b"by the job")
    store = open_store()
    assert read(store, "a") == b"by the job"
    assert read(store, "a", before.generation) == b"before"
    assert not any((store.tree.parent / "kept").iterdir())


@pytest.mark.parametrize("bucket", [SOFT_DELETE], indirect=True)
def test_file_that_a_job_deletes_or_replaces_is_soft_deleted(bucket: ObjectFiles) -> None:
    gone, replaced = put(bucket, "gone", b"gone"), put(bucket, "replaced", b"before")
    bucket.begin_job()
    file(bucket, "gone").unlink()
    file(bucket, "new").write_bytes(b"after")
    file(bucket, "new").rename(file(bucket, "replaced"))
    bucket.end_job()
    kept = {row.name: row for row in soft_deleted(bucket)}
    assert {name: row.generation for name, row in kept.items()} == {
        "gone": gone.generation,
        "replaced": replaced.generation,
    }
    for name, data in (("gone", b"gone"), ("replaced", b"before")):
        opened = bucket.files.open(BUCKET, name, kept[name].apart)
        assert opened is not None
        with os.fdopen(opened[0], "rb") as kept_file:
            assert kept_file.read() == data


@pytest.mark.parametrize("bucket", [SOFT_DELETE], indirect=True)
def test_file_rewritten_in_place_under_soft_delete_alone_is_not_kept_as_something_else(bucket: ObjectFiles) -> None:
    put(bucket, "a", b"before")
    bucket.begin_job()
    with file(bucket, "a").open("r+b") as target:
        target.write(b"REWRIT")
    bucket.end_job()
    assert read(bucket, "a") == b"REWRIT"
    assert soft_deleted(bucket) == []


@pytest.mark.parametrize("bucket", [SOFT_DELETE], indirect=True)
def test_file_that_a_job_renames_is_under_one_name_alone(bucket: ObjectFiles) -> None:
    put(bucket, "a", b"before")
    bucket.begin_job()
    file(bucket, "a").rename(file(bucket, "b"))
    bucket.end_job()
    assert [uri.rpartition("/")[2] for uri in bucket.names(f"gs://{BUCKET}/")] == ["b"]
    assert soft_deleted(bucket) == []
    assert file(bucket, "b").stat().st_nlink == 1


@pytest.mark.parametrize("bucket", [RETAINED, VERSIONED], indirect=True)
@pytest.mark.parametrize("does", ["rewrites", "deletes", "replaces"])
def test_what_a_job_does_to_a_protected_object_is_undone_and_told(bucket: ObjectFiles, does: str) -> None:
    before = put(bucket, "folder/a", b"before")
    if "versioning" in json.loads(bucket.bucket(BUCKET).fields):
        bucket.change(BUCKET, "folder/a", hold)
    bucket.begin_job()
    if does == "rewrites":
        file(bucket, "folder/a").write_bytes(b"by the job")
    elif does == "deletes":
        file(bucket, "folder/a").unlink()
        file(bucket, "folder").rmdir()
    else:
        file(bucket, "new").write_bytes(b"by the job")
        file(bucket, "new").rename(file(bucket, "folder/a"))
    said = bucket.end_job()
    assert len(said) == 1
    assert said[0].startswith(f"/gcs/{BUCKET}/folder/a: Object '{BUCKET}/folder/a' is ")
    assert said[0].endswith("It was put back.")
    assert file(bucket, "folder/a").read_bytes() == b"before"
    assert read(bucket, "folder/a") == b"before"
    assert bucket.find(BUCKET, "folder/a").generation == before.generation
    assert bucket.end_job() == []


@pytest.mark.parametrize("bucket", [RETAINED], indirect=True)
def test_protected_object_is_put_back_as_often_as_a_job_rewrites_it(bucket: ObjectFiles) -> None:
    put(bucket, "a", b"before")
    bucket.begin_job()
    for _ in range(3):
        file(bucket, "a").write_bytes(b"by the job")
        assert read(bucket, "a") == b"before"
    assert len(bucket.end_job()) == 3


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_kept_files_go_with_the_last_job(bucket: ObjectFiles) -> None:
    put(bucket, "a", b"before")
    kept = bucket.tree.parent / "kept"
    bucket.begin_job()
    bucket.begin_job()
    bucket.end_job()
    assert len(list(kept.iterdir())) == 1
    bucket.end_job()
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("bucket", [VERSIONED], indirect=True)
def test_full_disk_lets_the_job_run_and_says_so(bucket: ObjectFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    put(bucket, "a", b"before")

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("emulator.services.storage.safekeeping._copy_bytes", refuse)
    said = bucket.begin_job()
    assert said == ["What this run overwrites or deletes under /gcs may be lost for good: No space left on device."]
    assert list((bucket.tree.parent / "kept").iterdir()) == []
    bucket.end_job()


@pytest.mark.parametrize("bucket", [NOTHING_KEPT], indirect=True)
def test_empty_folder_of_a_job_is_an_object_until_it_goes(bucket: ObjectFiles) -> None:
    prefix = f"gs://{BUCKET}/"
    put(bucket, "given/file", b"")
    file(bucket, "out/empty").mkdir(parents=True)
    (file(bucket, "given/file")).unlink()
    # The folder of an upload is implied by what is in it, and gone with that.
    assert list(bucket.names(prefix)) == [f"{prefix}out/empty/"]
    made = bucket.find(BUCKET, "out/empty/")
    assert (made.size, read(bucket, "out/empty/")) == (0, b"")
    file(bucket, "out/empty").rename(file(bucket, "out/moved"))
    assert list(bucket.names(prefix)) == [f"{prefix}out/moved/"]
    put(bucket, "out/moved/file", b"x")
    bucket.delete(BUCKET, "out/moved/file")
    assert file(bucket, "out/moved").is_dir()
    bucket.delete(BUCKET, "out/moved/")
    assert not file(bucket, "out").exists()
    assert list(bucket.names(prefix)) == []


@pytest.mark.parametrize("bucket", [NOTHING_KEPT], indirect=True)
def test_folder_object_of_the_api_is_a_folder_for_jobs(bucket: ObjectFiles) -> None:
    prefix = f"gs://{BUCKET}/"
    put(bucket, "made/here/", b"")
    put(bucket, "file", b"")
    put(bucket, "file/", b"in the way")
    assert list(file(bucket, "made").iterdir()) == [file(bucket, "made/here")]
    file(bucket, "made/here").rename(file(bucket, "renamed"))
    assert list(bucket.names(prefix)) == [f"{prefix}file", f"{prefix}file/", f"{prefix}renamed/"]
    file(bucket, "renamed").rmdir()
    assert list(bucket.names(prefix)) == [f"{prefix}file", f"{prefix}file/"]
    assert read(bucket, "file/") == b"in the way"
