"""The XML API on the wire: objects, lists, buckets, errors, multipart uploads."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from google.auth import default
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Bucket, Client, transfer_manager

from tests.conftest import Emulator, require_program

HOST = "https://storage.googleapis.com"
PART = 5 * 1024 * 1024
MD5_OF_HELLO = "5d41402abc4b2a76b9719d911017c592"


@pytest.fixture
def http(emulator: Emulator) -> Iterator[AuthorizedSession]:
    credentials, _ = default(scopes=["https://www.googleapis.com/auth/devstorage.full_control"])
    with AuthorizedSession(credentials) as session:
        yield session


def code(response: requests.Response) -> str:
    match = re.search("<Code>(.*?)</Code>", response.text)
    assert match, response.text
    assert response.headers["content-type"] == "application/xml; charset=UTF-8"
    return match[1]


def texts(response: requests.Response, name: str) -> list[str]:
    assert response.status_code == 200, response.text
    return re.findall(f"<{name}>(.*?)</{name}>", response.text)


NAMES = ["a", "a/b", "a//b", "/a", "a/", "../x", "a/../b", "a%2Fb", "ü/日本", "a b+c", "a?b#c", "e\u0301"]


@pytest.mark.parametrize("name", NAMES)
def test_object_of_any_name_goes_in_and_out(http: AuthorizedSession, bucket: Bucket, name: str) -> None:
    path = quote(name, safe="")
    url = f"{HOST}/{bucket.name}/{path}"
    stored = http.put(url, data=b"hello", headers={"Content-Type": "text/plain", "x-goog-meta-key": "välue".encode()})
    assert stored.status_code == 200, stored.text
    assert stored.headers["etag"] == f'"{MD5_OF_HELLO}"'
    blob = bucket.get_blob(name)
    assert blob is not None
    assert (blob.metadata, blob.content_type) == ({"key": "välue"}, "text/plain")
    got = http.get(url)
    assert (got.content, got.headers["content-type"]) == (b"hello", "text/plain")
    assert got.headers["x-goog-meta-key"].encode("latin-1").decode() == "välue"
    assert got.headers["x-goog-generation"] == str(blob.generation)
    assert "content-disposition" not in got.headers
    assert http.delete(url).status_code == 204
    assert code(http.get(url)) == "NoSuchKey"


def test_slashes_may_stand_unencoded_and_the_bucket_in_the_host(http: AuthorizedSession, bucket: Bucket) -> None:
    bucket.blob("storage/v1/b").upload_from_string(b"x")
    assert http.get(f"{HOST}/{bucket.name}/storage/v1/b").content == b"x"
    assert http.get(f"https://{bucket.name}.storage.googleapis.com/storage/v1/b").content == b"x"


def test_ranges_heads_and_conditions(http: AuthorizedSession, bucket: Bucket) -> None:
    data = os.urandom(200_000)
    blob = bucket.blob("x")
    blob.upload_from_string(data)
    url = f"{HOST}/{bucket.name}/x"
    part = http.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, data[10:20], "bytes 10-19/200000")
    assert code(http.get(url, headers={"Range": "bytes=200000-"})) == "InvalidRange"
    head = http.head(url)
    assert (head.headers["content-length"], head.content) == ("200000", b"")
    etag = head.headers["etag"]
    assert http.get(url, headers={"If-None-Match": etag}).status_code == 304
    assert http.get(url, headers={"If-Match": etag}).status_code == 200
    assert http.get(url, headers={"If-Modified-Since": head.headers["last-modified"]}).status_code == 304
    past = {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert code(http.get(url, headers=past)) == "PreconditionFailed"
    stale = {"x-goog-if-generation-match": "1"}
    assert code(http.put(url, data=b"y", headers=stale)) == "PreconditionFailed"
    assert code(http.put(url, data=b"y", headers={"If-None-Match": "*"})) == "PreconditionFailed"
    assert code(http.put(url, data=b"y", headers={"If-Match": '"0"'})) == "PreconditionFailed"
    assert code(http.delete(url, headers=stale)) == "PreconditionFailed"
    assert http.put(url, data=b"y", headers={"If-Match": etag}).status_code == 200
    assert code(http.get(f"{url}?generation=1")) == "NoSuchKey"
    assert code(http.get(f"{url}?generation=x")) == "InvalidArgument"


def test_wrong_checksum_is_refused_and_nothing_is_stored(http: AuthorizedSession, bucket: Bucket) -> None:
    for header in ({"x-goog-hash": "crc32c=AAAAAA=="}, {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}):
        assert code(http.put(f"{HOST}/{bucket.name}/x", data=b"hello", headers=header)) == "BadDigest"
    assert not bucket.blob("x").exists()


def test_copy_source(http: AuthorizedSession, bucket: Bucket) -> None:
    blob = bucket.blob("a/ü")
    blob.metadata = {"key": "value"}
    blob.upload_from_string(b"hello", content_type="text/plain")
    source = f"{bucket.name}/a/%C3%BC"
    answer = http.put(f"{HOST}/{bucket.name}/copy", headers={"x-goog-copy-source": source})
    assert texts(answer, "ETag") == [f"&#34;{MD5_OF_HELLO}&#34;"]
    copy = bucket.get_blob("copy")
    assert copy is not None
    assert (copy.metadata, copy.content_type) == ({"key": "value"}, "text/plain")
    missing = http.put(f"{HOST}/{bucket.name}/copy", headers={"x-goog-copy-source": f"{bucket.name}/none"})
    assert code(missing) == "NoSuchKey"
    replaced = {"x-goog-copy-source": source, "x-goog-metadata-directive": "REPLACE", "x-goog-meta-new": "1"}
    assert http.put(f"{HOST}/{bucket.name}/copy", headers=replaced).status_code == 200
    copy = bucket.get_blob("copy")
    assert copy is not None
    assert copy.metadata == {"new": "1"}


@pytest.mark.parametrize("version", ["", "&list-type=2"])
def test_list_in_pages(http: AuthorizedSession, bucket: Bucket, version: str) -> None:
    for name in ["a", "b/1", "b/2", "c & d", "e/1"]:
        bucket.blob(name).upload_from_string(b"x")
    url = f"{HOST}/{bucket.name}?delimiter=/&max-keys=2{version}"
    keys, prefixes, more = [], [], ""
    for _ in range(3):
        page = http.get(url + more)
        keys += texts(page, "Key")
        prefixes += re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", page.text)
        if texts(page, "IsTruncated") == ["false"]:
            break
        name, parameter = ("NextContinuationToken", "continuation-token") if version else ("NextMarker", "marker")
        more = f"&{parameter}={quote(texts(page, name)[0])}"
    assert keys == ["a", "c &#38; d"]
    assert prefixes == ["b/", "e/"]
    after = "start-after" if version else "marker"
    page = http.get(f"{HOST}/{bucket.name}?{after}=b/1&encoding-type=url{version}")
    assert texts(page, "Key") == ["b/2", "c%20%26%20d", "e/1"]
    assert texts(http.get(f"{HOST}/{bucket.name}?prefix=b/{version}"), "Size") == ["1", "1"]


def test_buckets(http: AuthorizedSession, client: Client, project: str) -> None:
    name, url = f"{project}-xml", f"{HOST}/{project}-xml"
    body = "<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>"
    headers = {"x-goog-project-id": project}
    assert http.put(url, data=body, headers=headers).status_code == 200
    assert code(http.put(url, headers=headers)) == "BucketAlreadyOwnedByYou"
    assert code(http.put(url, headers={"x-goog-project-id": "another-project"})) == "BucketAlreadyExists"
    assert code(http.put(f"{HOST}/goog-x", headers=headers)) == "InvalidBucketName"
    assert texts(http.get(HOST, headers=headers), "Name") == [name]
    assert texts(http.get(f"{url}?location"), "LocationConstraint") == []
    assert ">EU</LocationConstraint>" in http.get(f"{url}?location").text
    bucket = client.get_bucket(name)
    bucket.versioning_enabled = True
    bucket.cors = [{"origin": ["http://x"], "method": ["GET"], "maxAgeSeconds": 60}]
    bucket.add_lifecycle_delete_rule(age=3)
    bucket.patch()
    assert texts(http.get(f"{url}?versioning"), "Status") == ["Enabled"]
    assert texts(http.get(f"{url}?cors"), "MaxAgeSec") == ["60"]
    assert texts(http.get(f"{url}?lifecycle"), "Age") == ["3"]
    assert "FULL_CONTROL" in texts(http.get(f"{url}?acl"), "Permission")
    assert http.head(url).headers["x-goog-bucket-location"] == "EU"
    bucket.blob("x").upload_from_string(b"x")
    assert code(http.delete(url)) == "BucketNotEmpty"
    for blob in bucket.list_blobs(versions=True):
        blob.delete()
    assert http.delete(url).status_code == 204
    assert code(http.get(url)) == "NoSuchBucket"
    assert http.head(url).status_code == 404
    assert code(http.get(f"{url}?policy")) == "NotImplemented"


@pytest.mark.parametrize(
    "document",
    [b"<a", b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>", b"<CompleteMultipartUpload/>",
     b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a>" * 100_000],
    ids=["open", "empty part", "no part", "entity", "deep"],
)  # fmt: skip
def test_malformed_document_is_refused(http: AuthorizedSession, bucket: Bucket, document: bytes) -> None:
    url = f"{HOST}/{bucket.name}/x"
    (upload,) = texts(http.post(f"{url}?uploads"), "UploadId")
    assert code(http.post(f"{url}?uploadId={upload}", data=document)) == "MalformedXML"


def test_who_calls_is_checked(emulator: Emulator, http: AuthorizedSession, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string(b"x")
    url = f"{HOST}/{bucket.name}/x"
    assert code(requests.get(url, timeout=30)) == "AccessDenied"
    refused = requests.get(url, headers={"Authorization": "Bearer nonsense"}, timeout=30)
    assert (refused.status_code, code(refused)) == (401, "AuthenticationRequired")
    # The plain port serves Storage to anybody on this machine, but to no page of another origin.
    plain = f"{emulator.address}/{bucket.name}/x"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(plain).content == b"x"
        assert session.get(plain, headers={"Origin": "https://evil.example"}).status_code == 403
        assert session.get(plain, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert session.get(f"{emulator.address}/x/y/z").status_code == 404


@pytest.mark.parametrize(
    ("verb", "address", "content_type"),
    [
        ("GET", "/x?upload_id=1", ""),
        ("HEAD", "/x?upload_id=1", ""),
        ("DELETE", "?upload_id=1", ""),
        ("PUT", "/x?upload_id=1&partNumber=1&uploadId=2", ""),
        ("POST", "/x?uploads&upload_id=1", ""),
        ("POST", "/x?uploads", "multipart/form-data; boundary=b"),
        ("POST", "", "multipart/form-data; boundary=b"),
    ],
)
def test_what_looks_like_a_session_or_a_form_opens_nothing_else(
    bucket: Bucket, verb: str, address: str, content_type: str
) -> None:
    bucket.blob("x").upload_from_string(b"secret")
    body = b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\ny\r\n'
    body += b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nz\r\n--b--'
    answer = requests.request(
        verb, f"{HOST}/{bucket.name}{address}", data=body, headers={"Content-Type": content_type}, timeout=30
    )
    assert answer.status_code in (401, 403, 404, 405), answer.text
    assert b"secret" not in answer.content
    assert [blob.name for blob in bucket.list_blobs()] == ["x"]


def test_curl_puts_and_gets_a_large_file_on_the_plain_port(emulator: Emulator, bucket: Bucket, tmp_path: Path) -> None:
    require_program("curl")
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(os.urandom(20 * 1024 * 1024))
    url = f"{emulator.address}/{bucket.name}/dir/file"
    curl = ["curl", "--fail", "--silent", "--show-error", "--noproxy", "*"]
    subprocess.run([*curl, "--upload-file", file, url], check=True, timeout=60)
    subprocess.run([*curl, "--output", back, url], check=True, timeout=60)
    assert back.read_bytes() == file.read_bytes()


def test_resumable_upload_begun_in_the_xml_api(http: AuthorizedSession, bucket: Bucket) -> None:
    url = f"{HOST}/{bucket.name}/x"
    begun = http.post(url, headers={"x-goog-resumable": "start", "Content-Type": "text/plain"})
    assert begun.status_code == 201
    session, data = begun.headers["location"], os.urandom(300_000)
    half = {"Content-Range": f"bytes 0-262143/{len(data)}"}
    first = requests.put(session, data=data[:262144], headers=half, allow_redirects=False, timeout=30)
    assert (first.status_code, first.headers["range"]) == (308, "bytes=0-262143")
    rest = {"Content-Range": f"bytes 262144-{len(data) - 1}/{len(data)}"}
    assert requests.put(session, data=data[262144:], headers=rest, timeout=30).status_code == 200
    blob = bucket.get_blob("x")
    assert blob is not None
    assert (blob.download_as_bytes(), blob.content_type) == (data, "text/plain")
    begun = http.post(url, headers={"x-goog-resumable": "start"})
    assert requests.delete(begun.headers["location"], timeout=30).status_code == 499


def completed(*parts: tuple[int, str]) -> str:
    inner = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>"


class Multipart:
    def __init__(self, http: AuthorizedSession, bucket: Bucket, name: str = "x", **headers: str) -> None:
        self.http, self.url = http, f"{HOST}/{bucket.name}/{name}"
        (self.id,) = texts(http.post(f"{self.url}?uploads", headers=headers), "UploadId")

    def put(self, number: object, data: bytes) -> requests.Response:
        response: requests.Response = self.http.put(f"{self.url}?partNumber={number}&uploadId={self.id}", data=data)
        return response

    def complete(self, *parts: tuple[int, str]) -> requests.Response:
        response: requests.Response = self.http.post(f"{self.url}?uploadId={self.id}", data=completed(*parts))
        return response


def test_parts_in_any_order_one_twice(http: AuthorizedSession, bucket: Bucket) -> None:
    upload = Multipart(http, bucket, **{"Content-Type": "text/plain", "x-goog-meta-key": "value"})
    one, two = os.urandom(PART), b"the end"
    second = upload.put(2, two).headers["etag"]
    upload.put(1, b"wrong")
    first = upload.put(1, one).headers["etag"]
    assert texts(http.get(f"{upload.url}?uploadId={upload.id}"), "PartNumber") == ["1", "2"]
    assert texts(http.get(f"{HOST}/{bucket.name}?uploads"), "UploadId") == [upload.id]
    assert not bucket.blob("x").exists()
    assert code(upload.complete((2, second), (1, first))) == "InvalidPartOrder"
    assert code(upload.complete((1, first), (2, second), (3, second))) == "InvalidPart"
    assert code(upload.complete((1, second), (2, second))) == "InvalidPart"
    assert texts(upload.complete((1, first), (2, second)), "Key") == ["x"]
    blob = bucket.get_blob("x")
    assert blob is not None
    assert blob.download_as_bytes() == one + two
    assert (blob.content_type, blob.metadata, blob.md5_hash) == ("text/plain", {"key": "value"}, None)
    assert code(upload.complete((1, first), (2, second))) == "NoSuchUpload"
    assert texts(http.get(f"{HOST}/{bucket.name}?uploads"), "UploadId") == []


def test_parts_that_do_not_fit(http: AuthorizedSession, bucket: Bucket) -> None:
    upload = Multipart(http, bucket)
    small = upload.put(1, b"small").headers["etag"]
    assert code(upload.complete((1, small), (2, upload.put(2, b"small").headers["etag"]))) == "EntityTooSmall"
    for number in (0, 10_001, "x", -1):
        assert code(upload.put(number, b"x")) == "InvalidArgument"
    other = http.put(f"{HOST}/{bucket.name}/y?partNumber=1&uploadId={upload.id}", data=b"x")
    assert code(other) == "NoSuchUpload"


def test_abort_drops_the_parts(emulator: Emulator, http: AuthorizedSession, bucket: Bucket) -> None:
    upload = Multipart(http, bucket)
    before = set((emulator.state / "objects" / "incoming").iterdir())
    etag = upload.put(1, b"x" * 1000).headers["etag"]
    assert len(set((emulator.state / "objects" / "incoming").iterdir()) - before) == 1
    assert http.delete(f"{upload.url}?uploadId={upload.id}").status_code == 204
    assert set((emulator.state / "objects" / "incoming").iterdir()) <= before
    assert code(upload.complete((1, etag))) == "NoSuchUpload"
    assert code(http.delete(f"{upload.url}?uploadId={upload.id}")) == "NoSuchUpload"


def test_multipart_upload_goes_on_after_a_kill(new_emulator: Callable[..., Emulator]) -> None:
    first = new_emulator()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["x-goog-project-id"] = "a-project"
        base = first.address
        session.put(f"{base}/a-bucket").raise_for_status()
        (upload,) = texts(session.post(f"{base}/a-bucket/x?uploads"), "UploadId")
        data = os.urandom(PART)
        kept = session.put(f"{base}/a-bucket/x?partNumber=1&uploadId={upload}", data=data).headers["etag"]
        first.stop(signal.SIGKILL)
        stray = first.state / "objects" / "incoming" / "part-half"
        stray.write_bytes(b"half a part")
        second = new_emulator(state=first.state)
        base = second.address
        assert not stray.exists()
        assert session.get(f"{base}/a-bucket/x").status_code == 404
        last = session.put(f"{base}/a-bucket/x?partNumber=2&uploadId={upload}", data=b"end").headers["etag"]
        answer = session.post(f"{base}/a-bucket/x?uploadId={upload}", data=completed((1, kept), (2, last)))
        assert answer.status_code == 200
        assert session.get(f"{base}/a-bucket/x").content == data + b"end"


def test_transfer_manager_uploads_chunks_concurrently(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * PART + 17))
    blob = bucket.blob("a dir/fïle")
    transfer_manager.upload_chunks_concurrently(
        str(file), blob, chunk_size=PART, max_workers=2, worker_type=transfer_manager.THREAD
    )
    assert blob.download_as_bytes() == file.read_bytes()
