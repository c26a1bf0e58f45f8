"""gcloud storage and gsutil moving much at once: parallel composite uploads, many files there and back."""

from __future__ import annotations

import filecmp
import os
import random
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from tests.conftest import Emulator, require_program
from tests.emulator.services.storage.test_command_line import run

MIB = 1 << 20


def test_gcloud_uploads_in_parts_and_composes_them(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gcloud")
    (tmp_path / "large").write_bytes(os.urandom(8 * MIB))
    settings = {
        "CLOUDSDK_STORAGE_PARALLEL_COMPOSITE_UPLOAD_ENABLED": "True",
        "CLOUDSDK_STORAGE_PARALLEL_COMPOSITE_UPLOAD_THRESHOLD": "4M",
        "CLOUDSDK_STORAGE_PARALLEL_COMPOSITE_UPLOAD_COMPONENT_SIZE": "2M",
        # gcloud cleans up after resumable uploads alone, which parts of the usual size are.
        "CLOUDSDK_STORAGE_RESUMABLE_THRESHOLD": "1M",
    }
    url = f"gs://{bucket.name}/large"
    done = emulator.run("gcloud", "storage", "cp", str(tmp_path / "large"), url, timeout=240, **settings)
    assert done.returncode == 0, done.stderr
    _check_composed(bucket, tmp_path / "large")


def test_gsutil_uploads_in_parts_and_composes_them(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gsutil")
    (tmp_path / "large").write_bytes(os.urandom(8 * MIB))
    options = ["-o", "GSUtil:parallel_composite_upload_threshold=4M"]
    options += ["-o", "GSUtil:parallel_composite_upload_component_size=2M"]
    done = emulator.run("gsutil", *options, "cp", str(tmp_path / "large"), f"gs://{bucket.name}/large", timeout=240)
    assert done.returncode == 0, done.stderr
    _check_composed(bucket, tmp_path / "large")


def _check_composed(bucket: Bucket, file: Path) -> None:
    (only,) = bucket.list_blobs()
    assert only.name == "large"
    assert only.component_count > 1
    assert only.md5_hash is None
    assert only.download_as_bytes(checksum="crc32c") == file.read_bytes()


def test_many_files_are_synchronised_there_and_back(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gsutil")
    _there_and_back(emulator, bucket, tmp_path, 300)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_files_are_synchronised_there_and_back(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gsutil")
    _there_and_back(emulator, bucket, tmp_path, 10_000)


def _there_and_back(emulator: Emulator, bucket: Bucket, folder: Path, count: int) -> None:
    source = random.Random(7)  # noqa: S311  # contents of files
    there, back = folder / "there", folder / "back"
    back.mkdir()
    for number in range(count):
        file = there / f"folder-{number % 7}" / f"sub {number % 3}" / f"file-{number:05}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.randbytes(source.randrange(2000)))
    url = f"gs://{bucket.name}/copy"
    timeout = 120 + count / 8
    for origin, target in ((str(there), url), (url, str(back))):
        done = emulator.run("gsutil", "-m", "-q", "rsync", "-r", origin, target, timeout=timeout)
        assert done.returncode == 0, done.stderr[-2000:]
    assert sum(1 for _ in bucket.list_blobs(prefix="copy/")) == count
    assert _files(back) == _files(there)
    _, mismatches, errors = filecmp.cmpfiles(there, back, _files(there), shallow=False)
    assert (mismatches, errors) == ([], [])
    # Nothing is left to do, and what is deleted there is deleted here.
    (there / "folder-0" / "sub 0" / "file-00000.txt").unlink()
    run(emulator, "gsutil", "-m", "rsync", "-r", "-d", str(there), url)
    assert sum(1 for _ in bucket.list_blobs(prefix="copy/")) == count - 1


def _files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
