"""Addresses that gcloud and gsutil sign with the emulator's key, used by curl."""

from __future__ import annotations

import re
from pathlib import Path

from google.cloud.storage import Bucket

from tests.conftest import Emulator, require_program
from tests.emulator.services.storage.test_command_line import run


def curl(emulator: Emulator, url: str, *options: str) -> tuple[int, str]:
    """Status and body, without any credentials but those in the address."""
    program = require_program("curl")
    done = emulator.run(program, "-sS", "-w", "\n%{http_code}", *options, url)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def check(emulator: Emulator, bucket: Bucket, tmp_path: Path, get: str, put: str) -> None:
    """get, put: addresses of the object `dir/a b`, for one verb each."""
    (tmp_path / "data").write_text("hello")
    upload = ("-X", "PUT", "--data-binary", f"@{tmp_path / 'data'}", "-H", "Content-Type: text/plain")
    assert curl(emulator, put, *upload) == (200, "")
    emulator.control("POST", "clock", {"advance_seconds": 48 * 3600})
    # Signatures follow real time: two days of the emulator's clock take nothing from them.
    assert curl(emulator, get) == (200, "hello")
    bucket.blob("dir/other").upload_from_string("secret")
    assert "/a%20b" in get
    refused: list[tuple[str, tuple[str, ...]]] = [
        (get, upload), (put, upload[-2:]), (get, ("-X", "DELETE")), (get.replace("a%20b", "other"), ()),
        (f"{get}&generation=1", ()),
    ]  # fmt: skip
    for url, options in refused:
        status, body = curl(emulator, url, *options)
        assert (status, re.findall("<Code>(.*?)</Code>", body)) == (403, ["SignatureDoesNotMatch"])
    assert bucket.blob("dir/a b").download_as_bytes() == b"hello"


def test_gcloud_signs_addresses_that_curl_uses(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gcloud")
    key = emulator.variables["GOOGLE_APPLICATION_CREDENTIALS"]
    bucket.blob("dir/a b").upload_from_string("before")  # what is read must be there before it is signed
    uri = f"gs://{bucket.name}/dir/a b"

    def signed(*options: str) -> str:
        sign = ("sign-url", uri, f"--private-key-file={key}", "--region=us", "--format=value(signed_url)", *options)
        return run(emulator, "gcloud", *sign).strip()

    put = signed("--http-verb=PUT", "--headers=content-type=text/plain", "--duration=10m")
    check(emulator, bucket, tmp_path, signed("--duration=10m"), put)


def test_gsutil_signs_addresses_that_curl_uses(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("gsutil")
    key = emulator.variables["GOOGLE_APPLICATION_CREDENTIALS"]
    bucket.blob("dir/a b").upload_from_string("before")  # what is read must be there before it is signed
    uri = f"gs://{bucket.name}/dir/a b"

    def signed(*options: str) -> str:
        return run(emulator, "gsutil", "signurl", "-r", "us", *options, key, uri).split("\t")[-1].strip()

    put = signed("-d", "10m", "-m", "PUT", "-c", "text/plain")
    check(emulator, bucket, tmp_path, signed("-d", "10m"), put)
