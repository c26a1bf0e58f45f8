"""gcloud storage and gsutil, unmodified, inside the emulator's exports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from google.cloud.storage import Bucket, Client

from tests.conftest import Emulator, require_program


@pytest.fixture(params=["gcloud", "gsutil"])
def tool(request: pytest.FixtureRequest) -> str:
    require_program(request.param)
    return str(request.param)


def run(emulator: Emulator, tool: str, *arguments: str, project: str = "") -> str:
    """What the command prints; the test fails unless it succeeds."""
    command = [tool, "storage", *arguments] if tool == "gcloud" else [tool, *arguments]
    extra = {"CLOUDSDK_CORE_PROJECT": project} if project else {}
    result = emulator.run(*command, timeout=240, **extra)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_bucket_is_made_listed_and_removed(emulator: Emulator, client: Client, tool: str, project: str) -> None:
    url = f"gs://{project}-made/"
    if tool == "gcloud":
        run(emulator, tool, "buckets", "create", url, project=project)
    else:
        run(emulator, tool, "mb", url, project=project)
    assert run(emulator, tool, "ls", project=project).split() == [url]
    if tool == "gcloud":
        run(emulator, tool, "buckets", "delete", url)
    else:
        run(emulator, tool, "rb", url)
    assert not client.bucket(f"{project}-made").exists()


def test_files_are_copied_there_and_back(emulator: Emulator, tool: str, bucket: Bucket, tmp_path: Path) -> None:
    # Below 8 MiB in one request, above in a resumable session; both tools check sums on either way.
    contents = {"empty": b"", "small.txt": b"ends in a newline\n", "large.bin": os.urandom(9_000_000)}
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    for name, data in contents.items():
        (there / name).write_bytes(data)
    url = f"gs://{bucket.name}"
    run(emulator, tool, "cp", *(str(there / name) for name in contents), f"{url}/dir/")
    assert run(emulator, tool, "ls", f"{url}/dir/").split() == [f"{url}/dir/{name}" for name in sorted(contents)]
    assert run(emulator, tool, "cat", f"{url}/dir/small.txt") == "ends in a newline\n"
    run(emulator, tool, "cp", f"{url}/dir/*", str(back))
    assert {name: (back / name).read_bytes() for name in contents} == contents


def test_objects_are_copied_moved_and_removed(emulator: Emulator, tool: str, bucket: Bucket) -> None:
    bucket.blob("a/x.txt").upload_from_string("x", content_type="text/plain")
    url = f"gs://{bucket.name}"
    run(emulator, tool, "cp", f"{url}/a/x.txt", f"{url}/b/x.txt")
    run(emulator, tool, "mv", f"{url}/b/x.txt", f"{url}/b/y.txt")
    assert [blob.name for blob in bucket.list_blobs()] == ["a/x.txt", "b/y.txt"]
    moved = bucket.get_blob("b/y.txt")
    assert moved is not None
    assert moved.content_type == "text/plain"
    run(emulator, tool, "rm", f"{url}/a/x.txt")
    assert [blob.name for blob in bucket.list_blobs()] == ["b/y.txt"]
    run(emulator, tool, "rm", "-r", f"{url}")
    assert not bucket.exists()


def test_what_is_not_there_is_said_to_be_missing(emulator: Emulator, tool: str, bucket: Bucket) -> None:
    command = [tool, "storage"] if tool == "gcloud" else [tool]
    result = emulator.run(*command, "cat", f"gs://{bucket.name}/nothing")
    assert result.returncode == 1
    assert "matched no objects" in result.stderr or "No URLs matched" in result.stderr
    result = emulator.run(*command, "ls", "gs://no-such-bucket-anywhere/")
    assert result.returncode == 1
    assert "404" in result.stderr


def test_stat_shows_type_size_and_checksums(emulator: Emulator, tool: str, bucket: Bucket) -> None:
    blob = bucket.blob("x.csv")
    blob.upload_from_string("1,2\n", content_type="text/csv")
    command = ["objects", "describe"] if tool == "gcloud" else ["stat"]
    shown = run(emulator, tool, *command, f"gs://{bucket.name}/x.csv")
    assert "text/csv" in shown
    assert blob.md5_hash in shown
    assert blob.crc32c in shown
    assert str(blob.generation) in shown


def test_folder_is_synchronised(emulator: Emulator, tool: str, bucket: Bucket, tmp_path: Path) -> None:
    for name in ("one", "sub/two", "sub/deeper/three"):
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text(name)
    recursive = "--recursive" if tool == "gcloud" else "-r"
    run(emulator, tool, "rsync", recursive, str(tmp_path / "there"), f"gs://{bucket.name}/copy")
    assert [blob.name for blob in bucket.list_blobs()] == ["copy/one", "copy/sub/deeper/three", "copy/sub/two"]
    (tmp_path / "back").mkdir()
    run(emulator, tool, "rsync", recursive, f"gs://{bucket.name}/copy", str(tmp_path / "back"))
    assert (tmp_path / "back" / "sub" / "deeper" / "three").read_text() == "sub/deeper/three"


def test_versions_are_kept_listed_and_brought_back(
    emulator: Emulator, tool: str, bucket: Bucket, tmp_path: Path
) -> None:
    url = f"gs://{bucket.name}"
    if tool == "gcloud":
        run(emulator, tool, "buckets", "update", "--versioning", url)
    else:
        run(emulator, tool, "versioning", "set", "on", url)
        assert run(emulator, tool, "versioning", "get", url).split() == [f"{url}:", "Enabled"]
    generations = []
    for data in ("one", "two"):
        blob = bucket.blob("x")
        blob.upload_from_string(data)
        generations.append(blob.generation)
    assert run(emulator, tool, "ls", "-a", f"{url}/x").split() == [f"{url}/x#{number}" for number in generations]
    assert run(emulator, tool, "cat", f"{url}/x#{generations[0]}") == "one"
    run(emulator, tool, "cp", f"{url}/x#{generations[0]}", f"{url}/x")
    assert bucket.blob("x").download_as_text() == "one"
    run(emulator, tool, "rm", "-a", f"{url}/x")
    assert list(bucket.list_blobs(versions=True)) == []


def test_rules_and_retention_of_a_bucket_are_set(
    emulator: Emulator, client: Client, tool: str, bucket: Bucket, tmp_path: Path
) -> None:
    url = f"gs://{bucket.name}"
    rules = tmp_path / "rules.json"
    rules.write_text('{"rule": [{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["tmp/"]}}]}')
    if tool == "gcloud":
        run(emulator, tool, "buckets", "update", f"--lifecycle-file={rules}", "--retention-period=60s", url)
    else:
        run(emulator, tool, "lifecycle", "set", str(rules), url)
        run(emulator, tool, "retention", "set", "60s", url)
    changed = client.get_bucket(bucket.name)
    assert list(changed.lifecycle_rules) == [
        {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["tmp/"]}}
    ]
    assert changed.retention_period == 60
    bucket.blob("kept").upload_from_string("x")
    command = [tool, "storage"] if tool == "gcloud" else [tool]
    refused = emulator.run(*command, "rm", f"{url}/kept")
    assert refused.returncode == 1
    assert "retention policy" in refused.stderr


def test_metadata_is_set_objects_composed_and_hashed(emulator: Emulator, tool: str, bucket: Bucket) -> None:
    url = f"gs://{bucket.name}"
    for name in ("one", "two"):
        bucket.blob(name).upload_from_string(name)
    if tool == "gcloud":
        run(emulator, tool, "objects", "update", "--content-type=text/csv", "--custom-metadata=a=b", f"{url}/one")
        run(emulator, tool, "objects", "compose", f"{url}/one", f"{url}/two", f"{url}/both")
    else:
        run(emulator, tool, "setmeta", "-h", "Content-Type:text/csv", "-h", "x-goog-meta-a:b", f"{url}/one")
        run(emulator, tool, "compose", f"{url}/one", f"{url}/two", f"{url}/both")
    changed = bucket.get_blob("one")
    assert changed is not None
    assert (changed.content_type, changed.metadata) == ("text/csv", {"a": "b"})
    both = bucket.get_blob("both")
    assert both is not None
    assert both.download_as_text() == "onetwo"
    shown = run(emulator, tool, "hash", f"{url}/both")
    assert both.crc32c in shown


def test_deleted_objects_are_restored(emulator: Emulator, bucket: Bucket) -> None:
    require_program("gcloud")
    for name in ("x", "y"):
        bucket.blob(name).upload_from_string(name)
        bucket.blob(name).delete()
    url = f"gs://{bucket.name}"
    shown = run(emulator, "gcloud", "ls", "--soft-deleted", f"{url}/**")
    assert [line.partition("#")[0] for line in shown.split()] == [f"{url}/x", f"{url}/y"]
    run(emulator, "gcloud", "restore", f"{url}/x")
    assert [blob.name for blob in bucket.list_blobs()] == ["x"]
    assert bucket.blob("x").download_as_text() == "x"
