"""Generations that are no longer live: versioning, soft delete, holds and retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from google.cloud.storage import Bucket, Client


@pytest.fixture
def versioned(client: Client, project: str) -> Bucket:
    bucket = client.bucket(f"{project}-versioned")
    bucket.versioning_enabled = True
    bucket.create()
    return bucket


def put(bucket: Bucket, name: str, data: str) -> int:
    blob = bucket.blob(name)
    blob.upload_from_string(data)
    return int(blob.generation)


def listed(bucket: Bucket, **options: object) -> list[tuple[str, int]]:
    return [(blob.name, blob.generation) for blob in bucket.list_blobs(**options)]


def test_overwritten_generation_is_kept_and_can_be_read(versioned: Bucket) -> None:
    first, second = put(versioned, "a/x", "one"), put(versioned, "a/x", "two")
    other = put(versioned, "a/y", "y")
    assert listed(versioned) == [("a/x", second), ("a/y", other)]
    assert listed(versioned, versions=True) == [("a/x", first), ("a/x", second), ("a/y", other)]
    old = versioned.get_blob("a/x", generation=first)
    assert old is not None
    assert old._properties["timeDeleted"] >= old._properties["timeCreated"]
    assert old.download_as_text() == "one"
    assert versioned.blob("a/x").download_as_text() == "two"
    assert old.md5_hash != versioned.get_blob("a/x").md5_hash


def test_deletion_makes_noncurrent_and_one_by_generation_is_for_good(versioned: Bucket) -> None:
    first = put(versioned, "x", "one")
    versioned.blob("x").delete()
    assert not versioned.blob("x").exists()
    assert listed(versioned, versions=True) == [("x", first)]
    second = put(versioned, "x", "two")
    versioned.blob("x", generation=second).delete()
    # The live one is gone; a noncurrent one does not take its place.
    assert not versioned.blob("x").exists()
    assert listed(versioned, versions=True) == [("x", first)]
    versioned.blob("x", generation=first).delete()
    assert listed(versioned, versions=True) == []
    assert listed(versioned, soft_deleted=True) == [("x", first), ("x", second)]


def test_old_generation_is_copied_to_be_live_again(versioned: Bucket) -> None:
    first = put(versioned, "x", "one")
    put(versioned, "x", "two")
    versioned.copy_blob(versioned.blob("x"), versioned, "x", source_generation=first)
    assert versioned.blob("x").download_as_text() == "one"
    assert len(listed(versioned, versions=True)) == 3


def test_metadata_of_a_noncurrent_generation_can_be_changed(versioned: Bucket) -> None:
    first = put(versioned, "x", "one")
    put(versioned, "x", "two")
    old = versioned.blob("x", generation=first)
    old.metadata = {"is": "old"}
    old.patch()
    assert versioned.get_blob("x", generation=first).metadata == {"is": "old"}
    assert versioned.get_blob("x").metadata is None


@pytest.mark.parametrize("page_size", [1, 2, 3])
def test_versions_are_listed_page_by_page_with_prefixes(versioned: Bucket, page_size: int) -> None:
    expected = [("a", put(versioned, "a", str(number))) for number in range(4)]
    put(versioned, "b/c", "1")
    put(versioned, "b/c", "2")
    expected.append(("c", put(versioned, "c", "")))
    pages = versioned.list_blobs(versions=True, delimiter="/", page_size=page_size)
    found = [(blob.name, blob.generation) for page in pages.pages for blob in page]
    assert found == expected
    assert pages.prefixes == {"b/"}


def test_bucket_with_noncurrent_generations_is_not_empty(versioned: Bucket) -> None:
    generation = put(versioned, "x", "one")
    versioned.blob("x").delete()
    with pytest.raises(Conflict, match="not empty"):
        versioned.delete()
    versioned.blob("x", generation=generation).delete()
    versioned.delete()


def test_suspended_versioning_keeps_what_is_noncurrent_and_adds_nothing(versioned: Bucket) -> None:
    first, second = put(versioned, "x", "one"), put(versioned, "x", "two")
    versioned.versioning_enabled = False
    versioned.patch()
    third = put(versioned, "x", "three")
    assert listed(versioned, versions=True) == [("x", first), ("x", third)]
    assert ("x", second) in listed(versioned, soft_deleted=True)


def test_deleted_object_is_restored_as_a_new_generation(bucket: Bucket) -> None:
    blob = bucket.blob("dir/x")
    blob.upload_from_string("data", content_type="text/csv")
    old = blob.generation
    blob.delete()
    (gone,) = bucket.list_blobs(soft_deleted=True)
    assert gone.hard_delete_time - gone.soft_delete_time == timedelta(days=7)
    shown = bucket.get_blob("dir/x", generation=old, soft_deleted=True)
    assert shown is not None
    assert shown.size == 4
    assert bucket.get_blob("dir/x", generation=old) is None
    restored = bucket.restore_blob("dir/x", generation=old)
    assert restored.generation > old
    assert restored.content_type == "text/csv"
    assert restored.download_as_text() == "data"
    with pytest.raises(NotFound):
        bucket.restore_blob("dir/x", generation=1)
    with pytest.raises(PreconditionFailed):
        bucket.restore_blob("dir/x", generation=old, if_generation_match=0)


def test_overwritten_object_is_soft_deleted_and_nothing_is_where_the_policy_is_off(bucket: Bucket) -> None:
    first = put(bucket, "x", "one")
    put(bucket, "x", "two")
    assert listed(bucket, soft_deleted=True) == [("x", first)]
    bucket.soft_delete_policy.retention_duration_seconds = 0
    bucket.patch()
    put(bucket, "x", "three")
    bucket.blob("x").delete()
    assert listed(bucket, soft_deleted=True) == [("x", first)]


def test_versions_and_soft_deleted_exclude_each_other(bucket: Bucket) -> None:
    with pytest.raises(BadRequest):
        list(bucket.list_blobs(versions=True, soft_deleted=True))


def test_bulk_restore_brings_back_what_a_glob_selects(client: Client, bucket: Bucket) -> None:
    for name in ("a/1.txt", "a/2.txt", "b/3.txt"):
        put(bucket, name, name)
        bucket.blob(name).delete()
    put(bucket, "a/2.txt", "newer")
    operation = client._connection.api_request(
        method="POST", path=f"/b/{bucket.name}/o/bulkRestore", data={"matchGlobs": ["a/*"]}
    )
    assert operation["done"] is True
    assert {blob.name: blob.download_as_text() for blob in bucket.list_blobs()} == {
        "a/1.txt": "a/1.txt",
        "a/2.txt": "newer",
    }
    name = operation["name"].removeprefix("projects/_/buckets/")
    again = client._connection.api_request(method="GET", path=f"/b/{name}")
    assert again == operation
    listed_operations = client._connection.api_request(method="GET", path=f"/b/{bucket.name}/operations")
    assert listed_operations["operations"] == [operation]


def test_deleted_bucket_is_restored_with_its_soft_deleted_objects(client: Client, bucket: Bucket) -> None:
    name, generation = bucket.name, int(bucket._properties["generation"])
    first = put(bucket, "x", "data")
    bucket.blob("x").delete()
    bucket.delete()
    assert client.lookup_bucket(name) is None
    (gone,) = client.list_buckets(soft_deleted=True)
    assert gone.hard_delete_time - gone.soft_delete_time == timedelta(days=7)
    # The name can be taken by another bucket, which sees nothing of the old one's objects.
    other = client.create_bucket(name)
    assert listed(other, soft_deleted=True) == []
    with pytest.raises(Conflict):
        client.restore_bucket(name, generation=generation)
    other.soft_delete_policy.retention_duration_seconds = 0
    other.patch()
    other.delete()
    restored = client.restore_bucket(name, generation=generation)
    assert list(client.list_buckets(soft_deleted=True)) == []
    assert listed(restored, soft_deleted=True) == [("x", first)]
    assert restored.restore_blob("x", generation=first).download_as_text() == "data"


@pytest.mark.parametrize(("field", "kind"), [("temporary_hold", "Temporary"), ("event_based_hold", "Event-Based")])
def test_held_object_is_neither_deleted_nor_replaced(bucket: Bucket, field: str, kind: str) -> None:
    put(bucket, "x", "held")
    blob = bucket.get_blob("x")
    assert blob is not None
    setattr(blob, field, True)
    blob.patch()
    message = f"Object '{bucket.name}/x' is under active {kind} hold and cannot be deleted, overwritten or archived"
    for attempt in (blob.delete, lambda: put(bucket, "x", "new"), lambda: bucket.rename_blob(blob, "y")):
        with pytest.raises(Forbidden, match=message):
            attempt()
    with pytest.raises(Forbidden) as raised:
        blob.delete()
    assert raised.value.errors[0]["reason"] == "objectUnderActiveHold"
    assert bucket.blob("x").download_as_text() == "held"
    # Its metadata may change, and it may be read and copied; the copy is not held.
    blob.metadata = {"a": "b"}
    blob.patch()
    copy = bucket.copy_blob(blob, bucket, "copy")
    copy.delete()
    setattr(blob, field, False)
    blob.patch()
    put(bucket, "x", "new")


def test_new_objects_of_a_bucket_are_held_by_default_and_retained_from_their_release(
    client: Client, project: str
) -> None:
    bucket = client.bucket(f"{project}-held")
    bucket.default_event_based_hold = True
    bucket.retention_period = 3600
    bucket.create()
    put(bucket, "x", "1")
    blob = bucket.get_blob("x")
    assert blob is not None
    assert blob.event_based_hold is True
    assert blob.retention_expiration_time is None
    blob.event_based_hold = False
    blob.patch()
    assert blob.retention_expiration_time > blob.time_created + timedelta(hours=1)


def test_retention_policy_forbids_deletion_and_replacement_until_it_expires(client: Client, project: str) -> None:
    bucket = client.bucket(f"{project}-retained")
    bucket.retention_period = 3600
    bucket.create()
    put(bucket, "x", "kept")
    blob = bucket.get_blob("x")
    assert blob is not None
    assert blob.retention_expiration_time - blob.time_created == timedelta(hours=1)
    for attempt in (blob.delete, lambda: put(bucket, "x", "new")):
        with pytest.raises(Forbidden, match="is subject to bucket's retention policy or object retention"):
            attempt()
    with pytest.raises(Forbidden) as raised:
        blob.delete()
    assert raised.value.errors[0]["reason"] == "retentionPolicyNotMet"
    bucket.retention_period = None
    bucket.patch()
    assert bucket.get_blob("x").retention_expiration_time is None
    blob.delete()


def test_retained_object_can_become_noncurrent_but_not_go(versioned: Bucket) -> None:
    versioned.retention_period = 3600
    versioned.patch()
    first = put(versioned, "x", "one")
    put(versioned, "x", "two")
    versioned.blob("x").delete()
    with pytest.raises(Forbidden):
        versioned.blob("x", generation=first).delete()


def test_locked_retention_policy_may_only_grow(client: Client, project: str) -> None:
    bucket = client.bucket(f"{project}-locked")
    bucket.retention_period = 100
    bucket.create()
    with pytest.raises(PreconditionFailed):
        client._connection.api_request(
            method="POST", path=f"/b/{bucket.name}/lockRetentionPolicy", query_params={"ifMetagenerationMatch": 99}
        )
    with pytest.raises(BadRequest):
        client._connection.api_request(method="POST", path=f"/b/{bucket.name}/lockRetentionPolicy")
    bucket.lock_retention_policy()
    assert bucket.retention_policy_locked is True
    for policy in (None, {"retentionPeriod": "99"}):
        with pytest.raises(Forbidden, match="Cannot reduce retention duration of a locked Retention Policy"):
            client._connection.api_request(method="PATCH", path=f"/b/{bucket.name}", data={"retentionPolicy": policy})
    bucket.retention_period = 200
    bucket.patch()
    assert (bucket.retention_period, bucket.retention_policy_locked) == (200, True)


def test_object_retention_is_shortened_only_on_purpose_and_locked_never(client: Client, project: str) -> None:
    bucket = client.bucket(f"{project}-objects")
    bucket.create(enable_object_retention=True)
    assert bucket.object_retention_mode == "Enabled"
    put(bucket, "x", "1")
    blob = bucket.get_blob("x")
    assert blob is not None
    until = datetime.now(UTC) + timedelta(days=400)
    blob.retention.mode, blob.retention.retain_until_time = "Unlocked", until
    blob.patch()
    assert blob.retention_expiration_time is not None
    with pytest.raises(Forbidden):
        blob.delete()
    blob.retention.retain_until_time = until - timedelta(days=1)
    with pytest.raises(Forbidden, match="overrideUnlockedRetention"):
        blob.patch()
    blob.patch(override_unlocked_retention=True)
    blob.retention.mode = "Locked"
    blob.patch(override_unlocked_retention=True)
    blob.retention.mode, blob.retention.retain_until_time = None, None
    with pytest.raises(Forbidden, match="locked"):
        blob.patch(override_unlocked_retention=True)


def test_object_retention_wants_a_bucket_that_allows_it_and_a_time_to_come(client: Client, bucket: Bucket) -> None:
    put(bucket, "x", "1")
    blob = bucket.get_blob("x")
    assert blob is not None
    blob.retention.mode, blob.retention.retain_until_time = "Unlocked", datetime.now(UTC) + timedelta(days=400)
    with pytest.raises(BadRequest, match="not enabled"):
        blob.patch()
