"""storage.objects, as google-cloud-storage sees it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed, RequestRangeNotSatisfiable
from google.cloud.storage import Bucket, Client

from tests.conftest import Emulator

NAMES = [
    "plain",
    "a/b/c",
    "a//b",
    "/x",
    "x/",
    "..//..",
    "with space+plus%25",
    "é/ü",
    "emoji \U0001f600",
    "q?&=#[]*",
    "a:b",
]


def put(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.blob(name).upload_from_string(name)


def test_upload_from_string_comes_back(bucket: Bucket) -> None:
    blob = bucket.blob("notes.txt")
    blob.upload_from_string("one\n\n", content_type="text/plain")
    assert (blob.size, blob.content_type, blob.metageneration) == (5, "text/plain", 1)
    assert blob.md5_hash == base64.b64encode(hashlib.md5(b"one\n\n", usedforsecurity=False).digest()).decode()
    assert blob.crc32c == base64.b64encode(google_crc32c.value(b"one\n\n").to_bytes(4)).decode()
    assert blob.storage_class == "STANDARD"
    assert blob.time_created == blob.updated
    assert bucket.blob("notes.txt").download_as_bytes() == b"one\n\n"


@pytest.mark.parametrize("name", NAMES)
def test_any_legal_name_can_be_written_read_and_deleted(bucket: Bucket, name: str) -> None:
    put(bucket, name)
    assert [blob.name for blob in bucket.list_blobs()] == [name]
    blob = bucket.get_blob(name)
    assert blob is not None
    assert blob.name == name
    assert blob.download_as_text() == name
    blob.delete()
    assert not blob.exists()


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "é" * 513])
def test_upload_under_an_illegal_name_is_a_bad_request(bucket: Bucket, name: str) -> None:
    with pytest.raises((BadRequest, ValueError)):
        bucket.blob(name).upload_from_string("x")
    assert list(bucket.list_blobs()) == []


@pytest.mark.parametrize("size", [0, 1, 262_144, 8_388_609])
@pytest.mark.parametrize("chunk_size", [None, 524_288])
def test_upload_from_file_comes_back(bucket: Bucket, size: int, chunk_size: int | None) -> None:
    data = os.urandom(size)
    bucket.blob("data", chunk_size=chunk_size).upload_from_file(io.BytesIO(data))
    assert bucket.blob("data").download_as_bytes() == data
    assert bucket.blob("data", chunk_size=chunk_size).download_as_bytes() == data


def test_file_opened_for_writing_and_reading_streams(bucket: Bucket) -> None:
    lines = [f"line {number}\n" for number in range(100_000)]
    with bucket.blob("lines").open("w") as file:
        file.writelines(lines)
    with bucket.blob("lines").open("r") as file:
        assert list(file) == lines


def test_download_of_part_of_an_object(bucket: Bucket) -> None:
    blob = bucket.blob("digits")
    blob.upload_from_string("0123456789")
    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=7) == b"789"
    assert blob.download_as_bytes(end=100) == b"0123456789"
    assert blob.download_as_bytes(start=-3) == b"789"
    with pytest.raises(RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_missing_object_and_bucket_are_not_found(client: Client, bucket: Bucket) -> None:
    with pytest.raises(NotFound, match=f"No such object: {bucket.name}/nothing"):
        bucket.blob("nothing").download_as_bytes()
    with pytest.raises(NotFound, match=f"No such object: {bucket.name}/nothing"):
        bucket.blob("nothing").reload()
    with pytest.raises(NotFound, match="The specified bucket does not exist"):
        client.bucket("no-such-bucket").blob("x").upload_from_string("x")
    with pytest.raises(NotFound):
        list(client.list_blobs("no-such-bucket"))
    assert bucket.get_blob("nothing") is None


def test_upload_with_a_wrong_checksum_is_refused_and_stores_nothing(bucket: Bucket) -> None:
    blob = bucket.blob("x")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(BadRequest, match=r"Provided CRC32C .*AAAAAA==.* doesn't match calculated CRC32C"):
        blob.upload_from_string("data", checksum=None)
    blob = bucket.blob("x")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(BadRequest, match="Provided MD5 hash"):
        blob.upload_from_string("data", checksum=None)
    assert not bucket.blob("x").exists()


@pytest.mark.parametrize("checksum", ["md5", "crc32c"])
def test_upload_and_download_with_a_checksum_pass(bucket: Bucket, checksum: str) -> None:
    bucket.blob("x").upload_from_string("data", checksum=checksum)
    assert bucket.blob("x").download_as_bytes(checksum=checksum) == b"data"


# Preconditions and generations


def test_generation_preconditions_of_an_upload(bucket: Bucket) -> None:
    blob = bucket.blob("x")
    with pytest.raises(PreconditionFailed, match="At least one of the pre-conditions you specified did not hold"):
        blob.upload_from_string("x", if_generation_match=123)
    blob.upload_from_string("first", if_generation_match=0)
    first = blob.generation
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string("x", if_generation_match=0)
    blob.upload_from_string("second", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(PreconditionFailed):
        blob.upload_from_string("x", if_generation_not_match=blob.generation)
    assert blob.download_as_bytes() == b"second"


def test_two_clients_with_generation_zero_and_one_of_them_wins(bucket: Bucket) -> None:
    def take(number: int) -> bool:
        try:
            bucket.blob("lock").upload_from_string(str(number), if_generation_match=0)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(take, range(8)))
    assert won.count(True) == 1
    assert bucket.blob("lock").download_as_text() == str(won.index(True))


def test_read_and_delete_of_another_generation_is_not_found(bucket: Bucket) -> None:
    put(bucket, "x")
    with pytest.raises(NotFound):
        bucket.blob("x", generation=1).reload()
    with pytest.raises(NotFound):
        bucket.blob("x", generation=1).delete()
    assert bucket.blob("x").exists()


def test_delete_and_patch_with_preconditions(bucket: Bucket) -> None:
    put(bucket, "x")
    blob = bucket.get_blob("x")
    assert blob is not None
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=1)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_metageneration_match=7)
    blob.metadata = {"a": "1"}
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=2)
    blob.patch(if_metageneration_match=1)
    blob.delete(if_generation_match=blob.generation, if_metageneration_match=2)
    assert not blob.exists()


def test_read_that_is_not_modified_is_304(bucket: Bucket, client: Client) -> None:
    put(bucket, "x")
    blob = bucket.get_blob("x")
    assert blob is not None
    url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x"
    for parameters in (f"ifGenerationNotMatch={blob.generation}", f"ifGenerationNotMatch={blob.generation}&alt=media"):
        response = client._http.get(f"{url}?{parameters}")
        assert (response.status_code, response.content) == (304, b"")
    response = client._http.get(url, headers={"If-None-Match": blob.etag})
    assert response.status_code == 304
    response = client._http.get(url, headers={"If-Match": "other"})
    assert response.status_code == 412
    error = response.json()["error"]
    assert error["errors"][0]["reason"] == "conditionNotMet"
    assert "status" not in error


def test_precondition_that_is_no_number_is_invalid(bucket: Bucket, client: Client) -> None:
    response = client._http.get(f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x?ifGenerationMatch=abc")
    assert response.status_code == 400


# Metadata


def test_patch_merges_metadata_and_null_removes(bucket: Bucket) -> None:
    put(bucket, "x")
    blob = bucket.blob("x")
    blob.metadata = {"keep": "1", "drop": "2"}
    blob.cache_control = "no-cache"
    blob.patch()
    assert blob.metageneration == 2
    blob.metadata = {"drop": None, "new": "é"}
    blob.cache_control = None
    blob.patch()
    blob.reload()
    assert blob.metadata == {"keep": "1", "new": "é"}
    assert blob.cache_control is None
    assert blob.generation
    assert blob.time_created < blob.updated


def test_update_replaces_what_is_left_out(bucket: Bucket) -> None:
    blob = bucket.blob("x")
    blob.metadata = {"a": "1"}
    blob.content_language = "de"
    blob.upload_from_string("x", content_type="text/plain")
    assert bucket.get_blob("x").metadata == {"a": "1"}
    other = bucket.blob("x")
    other.metadata = {"b": "2"}
    other.update()
    blob.reload()
    assert blob.metadata == {"b": "2"}
    assert blob.content_language is None


def test_client_cannot_set_what_is_the_servers(bucket: Bucket, client: Client) -> None:
    put(bucket, "x")
    response = client._http.patch(
        f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x",
        json={"size": "99", "generation": "7", "md5Hash": "zzz", "contentType": "text/x", "unknownField": 1},
    )
    assert response.status_code == 200
    assert response.json()["size"] == "1"
    assert response.json()["generation"] != "7"
    assert response.json()["contentType"] == "text/x"
    assert "unknownField" not in response.json()


@pytest.mark.parametrize("body", [{"metadata": "text"}, {"contentType": {}}, {"temporaryHold": "maybe"}, []])
def test_patch_with_a_wrong_type_is_a_bad_request(bucket: Bucket, client: Client, body: object) -> None:
    put(bucket, "x")
    response = client._http.patch(f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x", json=body)
    assert response.status_code == 400


def test_object_has_the_links_and_kinds_of_the_real_service(bucket: Bucket, client: Client) -> None:
    put(bucket, "a/é")
    resource = client._http.get(f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/a%2F%C3%A9").json()
    assert resource["kind"] == "storage#object"
    assert resource["id"] == f"{bucket.name}/a/é/{resource['generation']}"
    assert resource["selfLink"] == f"https://www.googleapis.com/storage/v1/b/{bucket.name}/o/a%2F%C3%A9"
    assert resource["mediaLink"] == (
        f"https://storage.googleapis.com/download/storage/v1/b/{bucket.name}/o/a%2F%C3%A9"
        f"?generation={resource['generation']}&alt=media"
    )
    assert isinstance(resource["size"], str)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", resource["timeCreated"])
    assert client._http.get(resource["mediaLink"]).content == "a/é".encode()


def test_fields_gives_a_part_of_the_answer(bucket: Bucket, client: Client) -> None:
    put(bucket, "a", "b")
    url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o"
    assert client._http.get(f"{url}?fields=items(name,size),nextPageToken").json() == {
        "items": [{"name": "a", "size": "1"}, {"name": "b", "size": "1"}]
    }
    assert client._http.get(f"{url}/a?fields=name").json() == {"name": "a"}
    assert client._http.get(f"{url}/a?fields=name(").status_code == 400


# Copies


def test_copy_keeps_bytes_and_metadata(client: Client, bucket: Bucket, project: str) -> None:
    other = client.create_bucket(f"{project}-other")
    blob = bucket.blob("x")
    blob.metadata = {"a": "1"}
    blob.upload_from_string("data", content_type="text/csv")
    copy = bucket.copy_blob(blob, other, "y")
    assert (copy.content_type, copy.metadata, copy.md5_hash) == ("text/csv", {"a": "1"}, blob.md5_hash)
    assert other.blob("y").download_as_bytes() == b"data"
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(blob, other, "y", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.copy_blob(blob, other, "z", if_source_generation_match=1)
    with pytest.raises(NotFound):
        bucket.copy_blob(bucket.blob("nothing"), other, "z")


def test_rename_moves_an_object(bucket: Bucket) -> None:
    put(bucket, "old")
    bucket.rename_blob(bucket.blob("old"), "new")
    assert [blob.name for blob in bucket.list_blobs()] == ["new"]
    assert bucket.blob("new").download_as_text() == "old"


def test_move_takes_an_object_to_another_name_at_once(bucket: Bucket, client: Client) -> None:
    put(bucket, "old", "taken")
    bucket.move_blob(bucket.blob("old"), "dir/new")
    assert [blob.name for blob in bucket.list_blobs()] == ["dir/new", "taken"]
    assert bucket.blob("dir/new").download_as_text() == "old"
    with pytest.raises(PreconditionFailed):
        bucket.move_blob(bucket.blob("dir/new"), "taken", if_generation_match=0)
    with pytest.raises(BadRequest):
        bucket.move_blob(bucket.blob("taken"), "taken")
    with pytest.raises(NotFound):
        bucket.move_blob(bucket.blob("nothing"), "x")
    assert [blob.name for blob in bucket.list_blobs()] == ["dir/new", "taken"]


def test_rewrite_is_done_in_one_call(bucket: Bucket) -> None:
    put(bucket, "x")
    token, written, total = bucket.blob("y").rewrite(bucket.blob("x"))
    assert (token, written, total) == (None, 1, 1)
    bucket.blob("x").update_storage_class("NEARLINE")
    assert bucket.get_blob("x").storage_class == "NEARLINE"


def test_compose_joins_objects(bucket: Bucket) -> None:
    put(bucket, "a", "b", "c")
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose([bucket.blob("a"), bucket.blob("b"), bucket.blob("a")])
    assert whole.download_as_bytes() == b"aba"
    assert (whole.component_count, whole.md5_hash, whole.content_type) == (3, None, "text/plain")
    # Onto itself, as appending is done.
    whole.compose([whole, bucket.blob("c")], if_generation_match=whole.generation)
    assert whole.download_as_bytes() == b"abac"
    assert whole.component_count == 4
    with pytest.raises(PreconditionFailed):
        whole.compose([bucket.blob("a")], if_generation_match=1)
    with pytest.raises(NotFound):
        whole.compose([bucket.blob("a"), bucket.blob("nothing")])
    with pytest.raises(BadRequest, match=re.escape("(33) exceeds the maximum (32)")):
        whole.compose([bucket.blob("a")] * 33)
    assert whole.download_as_bytes() == b"abac"


# Listing


def listed(bucket: Bucket, **query: object) -> tuple[list[str], list[str]]:
    pages = bucket.list_blobs(**query)
    names = [blob.name for blob in pages]
    return names, sorted(pages.prefixes)


def test_listing_folds_by_delimiter_and_prefix(bucket: Bucket) -> None:
    put(bucket, "a", "d/1", "d/2", "d/e/3", "d/e/4", "dd", "z/9")
    assert listed(bucket, delimiter="/") == (["a", "dd"], ["d/", "z/"])
    assert listed(bucket, delimiter="/", prefix="d/") == (["d/1", "d/2"], ["d/e/"])
    assert listed(bucket, prefix="d") == (["d/1", "d/2", "d/e/3", "d/e/4", "dd"], [])
    assert listed(bucket, delimiter="e/") == (["a", "d/1", "d/2", "dd", "z/9"], ["d/e/"])
    assert listed(bucket, prefix="nothing") == ([], [])


def test_listing_keeps_a_folders_own_object_apart(bucket: Bucket) -> None:
    put(bucket, "d/", "d/1")
    assert listed(bucket, delimiter="/") == ([], ["d/"])
    assert listed(bucket, delimiter="/", include_trailing_delimiter=True) == (["d/"], ["d/"])


def test_listing_by_offsets_and_glob(bucket: Bucket) -> None:
    put(bucket, "a", "b", "c", "d/x.txt", "d/y.bin")
    assert listed(bucket, start_offset="b", end_offset="d")[0] == ["b", "c"]
    assert listed(bucket, match_glob="**.txt")[0] == ["d/x.txt"]
    assert listed(bucket, match_glob="d/?.*", prefix="d/")[0] == ["d/x.txt", "d/y.bin"]
    with pytest.raises(BadRequest):
        listed(bucket, match_glob="[")


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
def test_pages_hold_everything_once_in_byte_order(bucket: Bucket, page_size: int) -> None:
    names = ["A", "Z/1", "Z/2", "a", "b/1", "b/2", "b/3", "c", "é", "z", "\U0001f600", "\uffee"]
    put(bucket, *names)
    pages = bucket.list_blobs(delimiter="/", page_size=page_size)
    found, sizes = [], []
    for page in pages.pages:
        blobs = list(page)
        found += [blob.name for blob in blobs]
        sizes.append(len(blobs) + len(page.prefixes))
    assert found == sorted((name for name in names if "/" not in name), key=str.encode)
    assert pages.prefixes == {"Z/", "b/"}
    assert sum(sizes) == len(found) + 2
    assert max(sizes) <= page_size


def test_empty_listing_has_no_items(bucket: Bucket, client: Client) -> None:
    url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o"
    assert client._http.get(f"{url}?pageToken=&includeTrailingDelimiter=false").json() == {"kind": "storage#objects"}
    assert client._http.get(f"{url}?pageToken=%21%21").status_code == 400
    assert client._http.get(f"{url}?maxResults=0").status_code == 400


# What surrounds them


def test_stored_gzip_is_inflated_for_who_does_not_take_it(bucket: Bucket, client: Client) -> None:
    blob = bucket.blob("x.txt")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"plain" * 1000))
    url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x.txt?alt=media"
    plain = client._http.get(url, headers={"Accept-Encoding": "identity"})
    assert plain.content == b"plain" * 1000
    assert "content-encoding" not in plain.headers
    assert plain.headers["x-goog-stored-content-encoding"] == "gzip"
    assert blob.download_as_bytes() == b"plain" * 1000
    assert gzip.decompress(blob.download_as_bytes(raw_download=True)) == b"plain" * 1000


def test_stored_page_cannot_act_in_a_browser(bucket: Bucket, client: Client) -> None:
    blob = bucket.blob("x.html")
    blob.content_disposition = "inline"
    blob.content_language = "de\r\nSet-Cookie: a=b"
    blob.upload_from_string("<script></script>", content_type="text/html")
    page = client._http.get(f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/x.html?alt=media")
    assert page.content == b"<script></script>"
    assert page.headers["content-security-policy"] == "sandbox"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in page.headers
    missing = client._http.get(f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o/%3Cscript%3E?alt=media")
    assert missing.headers["content-type"].startswith("text/plain")


def test_objects_through_storage_emulator_host(emulator: Emulator, project: str) -> None:
    with emulator.exported():
        os.environ["STORAGE_EMULATOR_HOST"] = emulator.address
        with Client.create_anonymous_client() as client:
            bucket = client.create_bucket(f"{project}-plain", project=project)
            bucket.blob("a/b").upload_from_string("x" * 100_000)
            assert bucket.blob("a/b").download_as_bytes() == b"x" * 100_000
            bucket.delete(force=True)


def test_file_put_under_gcs_is_listed_and_read(emulator: Emulator, bucket: Bucket) -> None:
    folder = emulator.state / "objects" / "tree" / bucket.name / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text('{"auc": 1}')
    (folder / "leak").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    assert listed(bucket) == (["run/metrics.json"], [])
    assert bucket.blob("run/metrics.json").download_as_text() == '{"auc": 1}'
    for name in ("run/leak", "run/fifo"):
        with pytest.raises(NotFound):
            bucket.blob(name).download_as_bytes()


def test_names_that_differ_in_unicode_form_or_case_are_different_objects(bucket: Bucket) -> None:
    names = ["\u00c5/x", "A\u030a/x", "\u212b/x", "\u00e5/x", "FILE", "File", "file"]
    put(bucket, *names)
    assert [blob.name for blob in bucket.list_blobs()] == sorted(names, key=str.encode)
    assert {name: bucket.blob(name).download_as_text() for name in names} == {name: name for name in names}
    bucket.blob(names[1]).delete()
    assert bucket.blob(names[0]).exists()
    assert not bucket.blob(names[1]).exists()
