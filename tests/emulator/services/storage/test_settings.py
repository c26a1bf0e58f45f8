"""What an object may be given besides its bytes: keys, classes, contexts; and a bucket: notifications, a location."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, MethodNotImplemented, NotFound
from google.cloud.storage import Bucket, Client
from google.cloud.storage.blob import Blob

from emulator.core.service import Caller, Context, JsonRequest
from emulator.services.storage import ObjectFiles
from emulator.services.storage.notifications import Notifications
from tests.emulator.services.storage.conftest import BUCKET
from tests.emulator.services.storage.test_access import call

MEBIBYTE = 1 << 20


def test_object_with_a_customer_s_key_wants_the_key(bucket: Bucket) -> None:
    key, other = os.urandom(32), os.urandom(32)
    bucket.blob("x", encryption_key=key).upload_from_string("secret")
    assert bucket.blob("x", encryption_key=key).download_as_text() == "secret"
    plain = bucket.get_blob("x")
    assert plain is not None
    assert plain._properties["customerEncryption"]["encryptionAlgorithm"] == "AES256"
    assert (plain.crc32c, plain.md5_hash) == (None, None)
    known = bucket.get_blob("x", encryption_key=key)
    assert known is not None
    with pytest.raises(BadRequest, match="encrypted by a customer-supplied encryption key"):
        plain.download_as_bytes()
    with pytest.raises(BadRequest, match="The provided encryption key is incorrect"):
        bucket.blob("x", encryption_key=other).download_as_bytes()
    bucket.blob("plain").upload_from_string("open")
    with pytest.raises(BadRequest, match="not encrypted by a customer-supplied encryption key"):
        bucket.blob("plain", encryption_key=key).download_as_bytes()


def test_customer_s_key_is_changed_by_a_rewrite(bucket: Bucket) -> None:
    old, new = os.urandom(32), os.urandom(32)
    source = bucket.blob("x", encryption_key=old)
    source.upload_from_string("secret")
    target = bucket.blob("x", encryption_key=new)
    with pytest.raises(BadRequest):
        target.rewrite(bucket.blob("x"))
    token, done, size = target.rewrite(source)
    assert (token, done, size) == (None, 6, 6)
    assert target.download_as_text() == "secret"
    with pytest.raises(BadRequest):
        bucket.blob("x", encryption_key=old).download_as_bytes()


def rewrite(target: Blob, source: Blob, token: str | None = None, limit: int = MEBIBYTE) -> dict[str, Any]:
    """A call as the client cannot make it: with a limit of bytes."""
    query = {"maxBytesRewrittenPerCall": limit, **({"rewriteToken": token} if token else {})}
    answer: dict[str, Any] = target.client._connection.api_request(
        method="POST", path=f"{source.path}/rewriteTo{target.path}", data=target._properties, query_params=query
    )
    return answer


def test_rewrite_to_another_class_goes_on_by_its_token(bucket: Bucket) -> None:
    data = os.urandom(2 * MEBIBYTE + 10)
    source = bucket.blob("x")
    source.upload_from_string(data)
    target = bucket.blob("y")
    target.storage_class = "NEARLINE"
    first = rewrite(target, source)
    assert (first["done"], first["totalBytesRewritten"], first["objectSize"]) == (False, str(MEBIBYTE), str(len(data)))
    assert not bucket.blob("y").exists()
    second = rewrite(target, source, first["rewriteToken"])
    last = rewrite(target, source, second["rewriteToken"])
    assert last["done"] is True
    assert last["resource"]["storageClass"] == "NEARLINE"
    assert "rewriteToken" not in last
    assert bucket.blob("y").download_as_bytes() == data
    with pytest.raises(BadRequest, match="Invalid rewrite token"):
        rewrite(target, source, first["rewriteToken"])


def test_rewrite_token_is_of_one_source_and_one_destination(bucket: Bucket) -> None:
    source = bucket.blob("x")
    source.upload_from_string(os.urandom(2 * MEBIBYTE))
    target = bucket.blob("y")
    target.storage_class = "COLDLINE"
    token = rewrite(target, source)["rewriteToken"]
    other = bucket.blob("z")
    other.storage_class = "COLDLINE"
    with pytest.raises(BadRequest, match="Invalid rewrite token"):
        rewrite(other, source, token)
    source.upload_from_string(os.urandom(2 * MEBIBYTE))
    with pytest.raises(BadRequest, match="Invalid rewrite token"):
        rewrite(target, source, token)


@pytest.mark.parametrize("limit", [1, MEBIBYTE + 1, 0, -MEBIBYTE])
def test_limit_of_a_rewrite_is_a_multiple_of_a_mebibyte(bucket: Bucket, limit: int) -> None:
    bucket.blob("x").upload_from_string("x")
    with pytest.raises(BadRequest, match="maxBytesRewrittenPerCall"):
        rewrite(bucket.blob("y"), bucket.blob("x"), limit=limit)


def test_rewrite_that_moves_no_bytes_is_done_at_once(bucket: Bucket) -> None:
    source = bucket.blob("x")
    source.upload_from_string(os.urandom(2 * MEBIBYTE))
    assert rewrite(bucket.blob("y"), source)["done"] is True


def test_object_takes_the_class_of_its_bucket_unless_it_names_one(client: Client, project: str) -> None:
    bucket = client.bucket(f"{project}-cold")
    bucket.storage_class = "COLDLINE"
    bucket.create()
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    assert blob.storage_class == "COLDLINE"
    blob.update_storage_class("NEARLINE")
    assert bucket.get_blob("x").storage_class == "NEARLINE"
    own = bucket.blob("y")
    own.storage_class = "ARCHIVE"
    own.upload_from_string("y")
    assert bucket.get_blob("y").storage_class == "ARCHIVE"


def test_contexts_are_stamped_merged_and_filtered(client: Client, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string("x")
    bucket.blob("y").upload_from_string("y")
    url = f"/b/{bucket.name}/o"
    shown = call(
        client, "PATCH", f"{url}/x", {"contexts": {"custom": {"team": {"value": "blue"}, "a": {"value": "1"}}}}
    )
    first = shown["contexts"]["custom"]["team"]
    assert first["createTime"] == first["updateTime"]
    shown = call(client, "PATCH", f"{url}/x", {"contexts": {"custom": {"team": {"value": "red"}, "a": None}}})
    second = shown["contexts"]["custom"]["team"]
    assert shown["contexts"]["custom"].keys() == {"team"}
    assert second["createTime"] == first["createTime"] < second["updateTime"]

    def found(text: str) -> list[str]:
        return [item["name"] for item in call(client, "GET", url, filter=text).get("items", [])]

    assert found('contexts."team"="red"') == ["x"]
    assert found('contexts."team"="blue"') == []
    assert found('contexts."team":*') == ["x"]
    assert found('-contexts."team":*') == ["y"]
    with pytest.raises(BadRequest, match="Invalid filter"):
        found("size > 3")
    assert call(client, "GET", f"{url}/x/viewFullContext", contextKey="team")["value"] == "red"
    with pytest.raises(NotFound):
        call(client, "GET", f"{url}/x/viewFullContext", contextKey="nothing")


def test_custom_time_is_kept_as_it_was_sent(client: Client, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string("x")
    moment = "2020-01-02T03:04:05.678Z"
    assert call(client, "PATCH", f"/b/{bucket.name}/o/x", {"customTime": moment})["customTime"] == moment


def test_notification_is_made_listed_and_removed(client: Client, project: str, bucket: Bucket) -> None:
    first = bucket.notification(
        "changes", topic_project=project, event_types=["OBJECT_FINALIZE"], blob_name_prefix="in/",
        custom_attributes={"a": "b"}, payload_format="JSON_API_V1",
    )  # fmt: skip
    first.create()
    second = bucket.notification("all", topic_project=project, payload_format="NONE")
    second.create()
    assert (first.notification_id, second.notification_id) == ("1", "2")
    shown = call(client, "GET", f"/b/{bucket.name}/notificationConfigs/1")
    assert shown["topic"] == f"//pubsub.googleapis.com/projects/{project}/topics/changes"
    assert shown["event_types"] == ["OBJECT_FINALIZE"]
    assert shown["object_name_prefix"] == "in/"
    assert [one.notification_id for one in bucket.list_notifications()] == ["1", "2"]
    first.delete()
    assert not first.exists()
    third = bucket.notification("more", topic_project=project)
    third.create()
    assert third.notification_id == "3"


@pytest.mark.parametrize(
    "document",
    [
        {"topic": "changes", "payload_format": "NONE"},
        {"topic": "projects/p/topics/changes"},
        {"topic": "projects/p/topics/changes", "payload_format": "XML"},
        {"topic": "projects/p/topics/changes", "payload_format": "NONE", "event_types": ["OBJECT_EATEN"]},
    ],
)
def test_notification_that_makes_no_sense_is_a_bad_request(
    client: Client, bucket: Bucket, document: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest):
        call(client, "POST", f"/b/{bucket.name}/notificationConfigs", document)


class Messages:
    """A Pub/Sub that notes what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, Mapping[str, str]]] = []

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        self.sent.append((topic, data, attributes))


def test_changes_are_told_to_the_topics_that_want_them(store: ObjectFiles) -> None:
    messages = Messages()
    notifications = Notifications(store, messages)
    body = {"topic": "projects/p/topics/changes", "payload_format": "JSON_API_V1", "object_name_prefix": "in/"}
    request = JsonRequest({"bucket": BUCKET}, body)
    notifications.insert(request, Context("storage.notifications.insert", Caller("me@example.com")))
    store.write(f"gs://{BUCKET}/out/x", [b"1"])
    store.write(f"gs://{BUCKET}/in/x", [b"1"])
    store.write(f"gs://{BUCKET}/in/x", [b"2"])
    store.change(BUCKET, "in/x", lambda fields, *_: fields)
    store.delete(BUCKET, "in/x")
    events = [attributes["eventType"] for _, _, attributes in messages.sent]
    assert events == [
        "OBJECT_FINALIZE", "OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE",
    ]  # fmt: skip
    assert {topic for topic, _, _ in messages.sent} == {"projects/p/topics/changes"}
    first, second, replaced = (attributes for _, _, attributes in messages.sent[:3])
    assert second["overwroteGeneration"] == first["objectGeneration"] == replaced["objectGeneration"]
    assert replaced["overwrittenByGeneration"] == second["objectGeneration"]
    assert b'"name": "in/x"' in messages.sent[0][1]

    messages.sent.clear()
    (store.tree / BUCKET / "in").mkdir()
    (store.tree / BUCKET / "in" / "job.txt").write_text("by a job")
    store.publish()
    (store.tree / BUCKET / "in" / "job.txt").unlink()
    store.publish()
    told = [(attributes["eventType"], attributes["objectId"]) for _, _, attributes in messages.sent]
    # The folder that the job made is empty now, and an object.
    job, folder = "in/job.txt", "in/"
    assert told == [("OBJECT_FINALIZE", job), ("OBJECT_DELETE", job), ("OBJECT_FINALIZE", folder)]


def test_nothing_is_told_of_a_change_that_is_rolled_back(store: ObjectFiles) -> None:
    messages = Messages()
    notifications = Notifications(store, messages)
    request = JsonRequest({"bucket": BUCKET}, {"topic": "projects/p/topics/changes", "payload_format": "NONE"})
    notifications.insert(request, Context("storage.notifications.insert", Caller("me@example.com")))

    def fail() -> None:
        with store.database.transaction():
            store.write(f"gs://{BUCKET}/x", [b"1"])
            raise RuntimeError("never mind")

    with pytest.raises(RuntimeError, match="never mind"):
        fail()
    store.publish()
    assert list(store.names(f"gs://{BUCKET}/")) == []
    assert messages.sent == []


def test_bucket_is_relocated_as_an_operation(client: Client, bucket: Bucket) -> None:
    operation = call(client, "POST", f"/b/{bucket.name}/relocate", {"destinationLocation": "eu"})
    assert operation["done"] is True
    assert operation["metadata"]["destinationLocation"] == "EU"
    assert client.get_bucket(bucket.name).location == "EU"
    with pytest.raises(BadRequest):
        call(client, "POST", f"/b/{bucket.name}/relocate", {"destinationLocation": "EU"})


def test_anywhere_caches_say_that_they_are_not_emulated(client: Client, bucket: Bucket) -> None:
    with pytest.raises(MethodNotImplemented, match=r"storage\.anywhereCaches\.list is not emulated yet"):
        call(client, "GET", f"/b/{bucket.name}/anywhereCaches")
