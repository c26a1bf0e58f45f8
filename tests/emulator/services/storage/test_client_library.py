"""google-cloud-storage beyond plain calls: STORAGE_EMULATOR_HOST, its transfer manager; and curl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from google.cloud.storage import Bucket, Client, transfer_manager

from tests.conftest import Emulator, require_program

MIB = 1 << 20


def test_storage_emulator_host_needs_nothing_else(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """A shell without the exports, without credentials and without a proxy."""
    script = """
        import os, sys
        from google.cloud.storage import Client
        (project,) = sys.argv[1:]
        with Client(project=project) as client:
            bucket = client.create_bucket(f"{project}-plain")
            large = os.urandom(9 * 2**20)
            bucket.blob("a/small.txt").upload_from_string("small", content_type="text/plain")
            bucket.blob("a/large").upload_from_string(large)
            with bucket.blob("a/written").open("wb", chunk_size=2**18) as file:
                for _ in range(5):
                    file.write(large[:200_000])
            assert bucket.blob("a/small.txt").download_as_text() == "small"
            assert bucket.blob("a/large").download_as_bytes() == large
            assert bucket.blob("a/large").download_as_bytes(start=5, end=9) == large[5:10]
            assert bucket.get_blob("a/written").size == 1_000_000
            bucket.rename_blob(bucket.blob("a/small.txt"), "b/renamed.txt")
            bucket.blob("joined").compose([bucket.get_blob("b/renamed.txt"), bucket.get_blob("b/renamed.txt")])
            assert bucket.blob("joined").download_as_bytes() == b"smallsmall"
            assert [blob.name for blob in client.list_blobs(bucket, prefix="b/")] == ["b/renamed.txt"]
            assert [one.name for one in client.list_buckets()] == [bucket.name]
            bucket.delete(force=True)
            assert not bucket.exists()
    """
    variables = {
        name: value for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(("GOOGLE_", "CLOUDSDK_", "PYTHONDONTWRITE"))
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), project],
        env={**variables, "STORAGE_EMULATOR_HOST": emulator.address, "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("workers", [transfer_manager.PROCESS, transfer_manager.THREAD])
def test_transfer_manager_moves_many_files(client: Client, bucket: Bucket, tmp_path: Path, workers: str) -> None:
    names = [f"sub-{number % 3}/file-{number:02}" for number in range(24)]
    there, back = tmp_path / "there", tmp_path / "back"
    for name in names:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(os.urandom(1000))
    results = transfer_manager.upload_many_from_filenames(
        bucket, names, source_directory=str(there), worker_type=workers, max_workers=4
    )
    assert results == [None] * len(names)
    results = transfer_manager.download_many_to_path(
        bucket, names, destination_directory=str(back), worker_type=workers, max_workers=4
    )
    assert results == [None] * len(names)
    assert {name: (back / name).read_bytes() for name in names} == {name: (there / name).read_bytes() for name in names}


def test_transfer_manager_cuts_a_large_file_in_chunks(bucket: Bucket, tmp_path: Path) -> None:
    """Up by the XML API's multipart upload, down by ranges, four at a time."""
    file, copy = tmp_path / "large", tmp_path / "copy"
    file.write_bytes(os.urandom(24 * MIB + 12345))
    blob = bucket.blob("large")
    transfer_manager.upload_chunks_concurrently(
        str(file), blob, chunk_size=6 * MIB, max_workers=4, worker_type=transfer_manager.THREAD
    )
    blob.reload()
    assert blob.size == file.stat().st_size
    transfer_manager.download_chunks_concurrently(
        blob, str(copy), chunk_size=7 * MIB, max_workers=4, worker_type=transfer_manager.THREAD
    )
    assert copy.read_bytes() == file.read_bytes()


def test_curl_goes_through_the_exports_or_by_the_plain_port(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    curl = require_program("curl")
    (tmp_path / "data").write_bytes(os.urandom(100_000))
    token = ["-H", f"Authorization: Bearer {emulator.token}"]
    for start in ("https://storage.googleapis.com", emulator.address):
        upload = f"{start}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=by%2Fcurl"
        done = emulator.run(curl, "-sSf", *token, "--data-binary", f"@{tmp_path / 'data'}", upload)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["size"] == "100000"
        download = f"{start}/storage/v1/b/{bucket.name}/o/by%2Fcurl?alt=media"
        done = emulator.run(curl, "-sSf", *token, "-r", "99000-", "-o", str(tmp_path / "back"), download)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "back").read_bytes() == (tmp_path / "data").read_bytes()[99_000:]
        done = emulator.run(curl, "-sS", "-o", str(tmp_path / "none"), "-w", "%{http_code}", f"{download}&generation=1")
        assert done.stdout == ("401" if start.startswith("https") else "404")
