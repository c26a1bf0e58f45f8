"""Batch requests: through the official client, as gcsfs writes them, and what is wrong with them."""

from __future__ import annotations

import re

import pytest
import requests
from google.api_core.exceptions import NotFound
from google.cloud.storage import Bucket, Client

from emulator.core import batch
from tests.conftest import Emulator

BATCH = "https://storage.googleapis.com/batch/storage/v1"


def test_batch_of_the_official_client(client: Client, bucket: Bucket) -> None:
    for number in range(5):
        bucket.blob(f"folder/{number}").upload_from_string(b"x")
    with client.batch():
        for number in range(4):
            bucket.delete_blob(f"folder/{number}")
    assert [blob.name for blob in bucket.list_blobs()] == ["folder/4"]


def test_batch_changes_and_reads(client: Client, bucket: Bucket) -> None:
    blob = bucket.blob("ünï code/a b")
    blob.upload_from_string(b"x")
    with client.batch():
        blob.metadata = {"key": "välue"}
        blob.patch()
        other = bucket.get_blob("ünï code/a b")
    assert other is not None
    blob.reload()
    assert blob.metadata == {"key": "välue"}


def test_batch_with_a_missing_object_does_the_rest(client: Client, bucket: Bucket) -> None:
    bucket.blob("there").upload_from_string(b"x")
    with pytest.raises(NotFound), client.batch():  # noqa: PT012  # both calls are sent at the end of the block
        bucket.blob("missing").delete()
        bucket.blob("there").delete()
    assert list(bucket.list_blobs()) == []


def post(client: Client, body: bytes, content_type: str = "multipart/mixed; boundary=b") -> requests.Response:
    response: requests.Response = client._http.post(BATCH, data=body, headers={"Content-Type": content_type})
    return response


def test_batch_as_gcsfs_writes_and_reads_it(client: Client, bucket: Bucket) -> None:
    names = ["a", "b"]
    for name in names:
        bucket.blob(name).upload_from_string(b"x")
    parts = "".join(
        "\n--==0==\nContent-Type: application/http\nContent-Transfer-Encoding: binary\n"
        f"Content-ID: <b29c5de2-0db4-490b-b421-6a51b598bd11+{number}>\n\n"
        f"DELETE https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/{name} HTTP/1.1\n"
        "Content-Type: application/json\naccept: application/json\ncontent-length: 0\n"
        for number, name in enumerate([*names, "missing"])
    )
    response = post(client, f"{parts}\n--==0==--".encode(), 'multipart/mixed; boundary="==0=="')
    text = response.text
    boundary = response.headers["Content-Type"].split("=", 1)[1]
    answers = text.split(boundary)[1:-1]
    codes = [re.search("HTTP/[0-9.]+ ([0-9]+)", answer) for answer in answers]
    assert [code[1] for code in codes if code] == ["204", "204", "404"]
    assert "Content-ID: <response-b29c5de2-0db4-490b-b421-6a51b598bd11+1>" in answers[1]


def test_every_call_of_a_batch_is_authenticated_and_journaled(
    emulator: Emulator, client: Client, bucket: Bucket
) -> None:
    call = f"--b\r\nContent-Type: application/http\r\n\r\nDELETE /storage/v1/b/{bucket.name} HTTP/1.1\r\n\r\n\r\n--b--"
    response = requests.post(BATCH, data=call, headers={"Content-Type": "multipart/mixed; boundary=b"}, timeout=30)
    assert "HTTP/1.1 401 Unauthorized" in response.text
    assert "HTTP/1.1 204 No Content" in post(client, call.encode()).text
    calls = emulator.control("GET", "journal?method=storage.buckets.delete&limit=2")["calls"]
    assert [call["status"] for call in calls] == ["OK", "UNAUTHENTICATED"]


@pytest.mark.parametrize(
    "target", ["/upload/storage/v1/b/x/o?name=y", "/batch/storage/v1", "/storage/v1/b/x/o/y?alt=media"]
)
def test_media_cannot_be_part_of_a_batch(client: Client, target: str) -> None:
    call = f"--b\r\nContent-Type: application/http\r\n\r\nPOST {target} HTTP/1.1\r\n\r\nx\r\n--b--"
    assert "HTTP/1.1 400 Bad Request" in post(client, call.encode()).text


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"x"),
        ("multipart/mixed", b"x"),
        ("multipart/mixed; boundary=b", b"--c--"),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\nGET / HTTP/1.1\r\n"),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\nnonsense\r\n--b--"),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\nGET / HTTP/1.1\r\n" * 101 + b"--b--"),
    ],
)
def test_malformed_batch_is_refused(client: Client, content_type: str, body: bytes) -> None:
    assert post(client, body, content_type).status_code == 400


def test_batch_part_cannot_change_its_host_or_origin() -> None:
    text = b"--b\n\nGET /x HTTP/1.1\nHost: evil.example\nOrigin: null\nX-Own: 1\n\n\n--b--"
    (part,) = batch.parse("multipart/mixed; boundary=b", text)
    headers = dict(batch._headers({"host": "127.0.0.1:1", "authorization": "Bearer t"}, part))
    assert headers[b"host"] == b"127.0.0.1:1"
    assert b"origin" not in headers
    assert headers[b"authorization"] == b"Bearer t"
    assert headers[b"x-own"] == b"1"
