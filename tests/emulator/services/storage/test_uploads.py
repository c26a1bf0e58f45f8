"""Resumable uploads on the wire: status queries, chunks that lie, cancellation, a restart."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from google.cloud.storage import Bucket, Client

from tests.conftest import Emulator, wait_until

API = "https://storage.googleapis.com"
QUANTUM = 256 * 1024


class Upload:
    """A session, driven by hand. Its address needs no credentials."""

    def __init__(self, client: Client, bucket: Bucket, name: str = "x", query: str = "", **headers: str):
        response = client._http.post(
            f"{API}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable{query}",
            json={"name": name},
            headers=headers,
        )
        assert response.status_code == 200, response.text
        assert response.content == b""
        assert response.headers["x-guploader-uploadid"] in response.headers["location"]
        self.uri = response.headers["location"]
        self.session = requests.Session()

    def put(self, data: bytes = b"", span: str | None = None, verb: str = "PUT", **headers: str) -> requests.Response:
        if span is not None:
            headers["Content-Range"] = f"bytes {span}"
        return self.session.request(verb, self.uri, data=data, headers=headers, allow_redirects=False, timeout=60)


@pytest.fixture
def begin(client: Client, bucket: Bucket) -> Callable[..., Upload]:
    def begin(name: str = "x", query: str = "", **headers: str) -> Upload:
        return Upload(client, bucket, name, query, **headers)

    return begin


def message(response: requests.Response) -> str:
    return str(response.json()["error"]["message"])


def test_upload_in_chunks_answers_308_until_it_is_complete(begin: Callable[..., Upload], bucket: Bucket) -> None:
    data = os.urandom(2 * QUANTUM + 5)
    upload = begin()
    assert "range" not in upload.put(span="*/*").headers
    first = upload.put(data[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert (first.status_code, first.headers["range"], first.content) == (308, f"bytes=0-{QUANTUM - 1}", b"")
    assert "location" not in first.headers
    assert not bucket.blob("x").exists()
    assert upload.put(span="*/*").headers["range"] == f"bytes=0-{QUANTUM - 1}"
    second = upload.put(data[QUANTUM : 2 * QUANTUM], f"{QUANTUM}-{2 * QUANTUM - 1}/{len(data)}", verb="POST")
    assert second.headers["range"] == f"bytes=0-{2 * QUANTUM - 1}"
    last = upload.put(data[2 * QUANTUM :], f"{2 * QUANTUM}-{len(data) - 1}/{len(data)}")
    assert last.status_code == 200
    assert last.json()["size"] == str(len(data))
    assert bucket.blob("x").download_as_bytes() == data
    # Asked again, also by who lost the answer.
    assert upload.put(span=f"*/{len(data)}").json() == last.json()


def test_upload_whole_in_one_request(begin: Callable[..., Upload], bucket: Bucket) -> None:
    assert begin("a").put(b"hello").json()["size"] == "5"
    assert begin("b").put(b"hello", "0-4/5").json()["size"] == "5"
    assert begin("c").put(b"", "*/0").json()["size"] == "0"
    assert begin("d").put(b"").json()["size"] == "0"
    assert [blob.name for blob in bucket.list_blobs()] == ["a", "b", "c", "d"]


def test_upload_is_finished_by_naming_the_bytes_held(begin: Callable[..., Upload], bucket: Bucket) -> None:
    upload = begin()
    upload.put(b"x" * QUANTUM, f"0-{QUANTUM - 1}/*")
    assert upload.put(span=f"*/{QUANTUM}").json()["size"] == str(QUANTUM)
    assert bucket.blob("x").exists()


def test_chunk_sent_twice_is_taken_once(begin: Callable[..., Upload], bucket: Bucket) -> None:
    data = os.urandom(2 * QUANTUM)
    upload = begin()
    upload.put(data[:QUANTUM], f"0-{QUANTUM - 1}/*")
    again = upload.put(data[:QUANTUM], f"0-{QUANTUM - 1}/*")
    assert again.headers["range"] == f"bytes=0-{QUANTUM - 1}"
    # From a byte held already on: only the rest is new.
    assert upload.put(data[1000:], f"1000-{len(data) - 1}/{len(data)}").status_code == 200
    assert bucket.blob("x").download_as_bytes() == data


def test_chunk_beyond_what_is_held_is_refused(begin: Callable[..., Upload]) -> None:
    upload = begin()
    response = upload.put(b"x" * 10, f"{QUANTUM}-{QUANTUM + 9}/*")
    assert response.status_code == 400
    assert message(response) == (
        "Invalid request.  According to the Content-Range header, the upload offset is 262144 byte(s), "
        "which exceeds already uploaded size of 0 byte(s)."
    )


@pytest.mark.parametrize("span", ["0-99/100", "0-3/4", "0-3/*", "0-99/*"])
def test_content_range_that_lies_is_refused_and_changes_nothing(
    begin: Callable[..., Upload], bucket: Bucket, span: str
) -> None:
    upload = begin()
    response = upload.put(b"hello", span)
    assert response.status_code == 400
    assert "There were 5 byte(s) in the request body." in message(response)
    assert "range" not in upload.put(span="*/*").headers
    assert upload.put(b"right", "0-4/5").status_code == 200
    assert bucket.blob("x").download_as_bytes() == b"right"


@pytest.mark.parametrize("span", ["0-4", "4-0/5", "x-y/z", "*", "0-4/3", "-5/5"])
def test_content_range_without_meaning_is_refused(begin: Callable[..., Upload], span: str) -> None:
    assert begin().put(b"hello", span).status_code == 400


def test_total_size_that_changes_is_refused(begin: Callable[..., Upload]) -> None:
    upload = begin("x", "", **{"X-Upload-Content-Length": "10"})
    assert upload.put(b"hello", "0-4/5").status_code == 400
    short = upload.put(b"hello")
    assert (short.status_code, message(short)) == (400, "Invalid request.  5 byte(s) came where 10 were announced.")
    assert upload.put(b"x" * 10, "0-9/10").status_code == 200


def test_cancelled_upload_is_gone(begin: Callable[..., Upload], bucket: Bucket) -> None:
    upload = begin()
    upload.put(b"x" * QUANTUM, f"0-{QUANTUM - 1}/*")
    assert upload.put(verb="DELETE").status_code == 499
    assert upload.put(span="*/*").status_code == 404
    assert upload.put(b"hello").status_code == 404
    assert not bucket.blob("x").exists()


def test_unknown_session_is_not_found(client: Client, bucket: Bucket) -> None:
    for upload_id in ("nothing", "..%2F..%2Femulator.db", "%00"):
        uri = f"{API}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&upload_id={upload_id}"
        assert requests.put(uri, data=b"x", timeout=30).status_code == 404


def test_preconditions_of_a_session_apply_when_it_ends(begin: Callable[..., Upload], bucket: Bucket) -> None:
    upload = begin("x", "&ifGenerationMatch=0")
    bucket.blob("x").upload_from_string("sooner")
    assert upload.put(b"later").status_code == 412
    assert bucket.blob("x").download_as_bytes() == b"sooner"


def test_wrong_checksum_at_the_end_is_refused(begin: Callable[..., Upload], bucket: Bucket) -> None:
    response = begin().put(b"hello", "0-4/5", **{"X-Goog-Hash": "crc32c=AAAAAA=="})
    assert response.status_code == 400
    assert "doesn't match calculated CRC32C" in message(response)
    assert not bucket.blob("x").exists()


def test_session_names_type_and_fields_for_its_end(begin: Callable[..., Upload]) -> None:
    upload = begin("a b", "&fields=name,contentType", **{"X-Upload-Content-Type": "text/csv"})
    assert upload.put(b"1,2").json() == {"name": "a b", "contentType": "text/csv"}


def test_session_of_apitools_begins_at_its_own_address(client: Client, bucket: Bucket) -> None:
    response = client._http.post(
        f"{API}/resumable/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name=dir%2Fx&alt=json", json={}
    )
    location = response.headers["location"]
    assert requests.put(location, data=b"hello", timeout=30).json()["name"] == "dir/x"


@pytest.mark.parametrize("query", ["", "?uploadType=other", "?uploadType=media"])
def test_upload_at_the_wrong_address_is_refused(client: Client, bucket: Bucket, query: str) -> None:
    response = client._http.post(f"{API}/storage/v1/b/{bucket.name}/o{query}", json={"name": "x"})
    assert response.status_code == 400
    assert response.json()["error"]["errors"][0]["reason"] == "wrongUrlForUpload"


def test_media_upload_takes_type_and_name_from_the_request(client: Client, bucket: Bucket) -> None:
    uri = f"{API}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=a%2Fb"
    stored = client._http.post(uri, data=b"x,y", headers={"Content-Type": "text/csv"}).json()
    assert (stored["name"], stored["contentType"], stored["size"]) == ("a/b", "text/csv", "3")
    wrong = client._http.post(uri, data=b"x", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert wrong.status_code == 400
    assert client._http.post(uri.partition("&name")[0], data=b"x").status_code == 400


def test_multipart_upload_that_is_cut_short_stores_nothing(client: Client, bucket: Bucket) -> None:
    body = b'--B\r\nContent-Type: application/json\r\n\r\n{"name": "x"}\r\n--B\r\n\r\nhalf of the da'
    response = client._http.post(
        f"{API}/upload/storage/v1/b/{bucket.name}/o?uploadType=multipart",
        data=body,
        headers={"Content-Type": "multipart/related; boundary=B"},
    )
    assert response.status_code == 400
    assert not bucket.blob("x").exists()


def test_connection_cut_in_the_middle_keeps_whole_quanta(
    emulator: Emulator, begin: Callable[..., Upload], bucket: Bucket
) -> None:
    data = os.urandom(4 * QUANTUM)
    upload = begin()
    with _tunnel(emulator, "storage.googleapis.com") as connection:
        parts = urlsplit(upload.uri)
        head = (
            f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Length: {len(data)}\r\nContent-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n\r\n"
        )
        connection.sendall(head.encode() + data[: 3 * QUANTUM + 1000])
        # To close with something unread, such as a session ticket, would discard what is on its way.
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)

    def held() -> int:
        """Bytes held; what was on its way when the connection broke may be lost."""
        _, _, last = upload.put(span="*/*").headers.get("range", "").partition("-")
        return int(last) + 1 if last else 0

    count = wait_until(held)
    assert count % QUANTUM == 0
    assert not bucket.blob("x").exists()
    assert upload.put(data[count:], f"{count}-{len(data) - 1}/{len(data)}").status_code == 200
    assert bucket.blob("x").download_as_bytes() == data


def _tunnel(emulator: Emulator, host: str) -> ssl.SSLSocket:
    """TLS to a host through the emulator's CONNECT."""
    raw = socket.create_connection(("127.0.0.1", emulator.port), timeout=30)
    raw.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    assert b" 200 " in answer.splitlines()[0]
    context = ssl.create_default_context(cafile=emulator.variables["REQUESTS_CA_BUNDLE"])
    return context.wrap_socket(raw, server_hostname=host)


def test_session_goes_on_after_a_kill_of_the_emulator(new_emulator: Callable[..., Emulator], project: str) -> None:
    first = new_emulator()
    data = os.urandom(3 * QUANTUM)
    with first.exported():
        upload, client, bucket = _begin_on(first, project)
        assert upload.put(data[:QUANTUM], f"0-{QUANTUM - 1}/*").status_code == 308
        client.close()
    first.stop(9)
    second = new_emulator(state=first.state, SELFLOOP_PORT=str(first.port))
    with second.exported():
        assert upload.put(span="*/*").headers["range"] == f"bytes=0-{QUANTUM - 1}"
        assert upload.put(data[QUANTUM:], f"{QUANTUM}-{len(data) - 1}/{len(data)}").status_code == 200
        with Client(project=project) as client:
            assert client.bucket(bucket.name).blob("x").download_as_bytes() == data


def _begin_on(emulator: Emulator, project: str) -> tuple[Upload, Any, Any]:
    client = Client(project=project)
    bucket = client.create_bucket(f"{project}-bucket")
    return Upload(client, bucket), client, bucket
