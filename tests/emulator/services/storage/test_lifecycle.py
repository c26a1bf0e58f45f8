"""Lifecycle rules as pure functions, and as the emulator's clock carries them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.storage import Bucket, Client

from emulator.services.storage import lifecycle
from emulator.services.storage.catalogue import StoredObject
from tests.conftest import Emulator

DAY = 86_400_000_000
CREATED = int(datetime(2026, 1, 10, 10, tzinfo=UTC).timestamp()) * 1_000_000


def stored(name: str = "logs/a.txt", *, deleted: int = 0, size: int = 100, **fields: Any) -> StoredObject:
    text = json.dumps({"storageClass": "STANDARD", **fields})
    return StoredObject("b", name, 1, 1, 1, size, 1, 0, None, 0, "", CREATED, CREATED, text, deleted)


@pytest.mark.parametrize(
    ("condition", "row", "newer", "due"),
    [
        ({"age": 30}, stored(), 0, CREATED + 30 * DAY),
        ({"age": 0}, stored(), 0, CREATED),
        ({"createdBefore": "2026-01-11"}, stored(), 0, 0),
        ({"createdBefore": "2026-01-10"}, stored(), 0, None),
        ({"age": 1, "matchesPrefix": ["logs/", "x"]}, stored(), 0, CREATED + DAY),
        ({"age": 1, "matchesPrefix": ["data/"]}, stored(), 0, None),
        ({"age": 1, "matchesSuffix": [".txt"]}, stored(), 0, CREATED + DAY),
        ({"age": 1, "matchesSuffix": [".csv"]}, stored(), 0, None),
        ({"isLive": True}, stored(), 0, 0),
        ({"isLive": False}, stored(), 0, None),
        ({"isLive": False}, stored(deleted=CREATED + DAY), 1, 0),
        ({"daysSinceNoncurrentTime": 2}, stored(deleted=CREATED + DAY), 1, CREATED + 3 * DAY),
        ({"daysSinceNoncurrentTime": 2}, stored(), 0, None),
        ({"noncurrentTimeBefore": "2026-01-12"}, stored(deleted=CREATED + DAY), 1, 0),
        ({"noncurrentTimeBefore": "2026-01-11"}, stored(deleted=CREATED + DAY), 1, None),
        ({"numNewerVersions": 2}, stored(deleted=CREATED + DAY), 1, None),
        ({"numNewerVersions": 2}, stored(deleted=CREATED + DAY), 2, 0),
        ({"daysSinceCustomTime": 5}, stored(customTime="2026-02-01T00:00:00Z"), 0,
         int(datetime(2026, 2, 6, tzinfo=UTC).timestamp()) * 1_000_000),
        ({"daysSinceCustomTime": 5}, stored(), 0, None),
        ({"customTimeBefore": "2026-02-02"}, stored(customTime="2026-02-01T00:00:00Z"), 0, 0),
        ({"customTimeBefore": "2026-02-01"}, stored(customTime="2026-02-01T00:00:00Z"), 0, None),
        ({"matchesStorageClass": ["NEARLINE"]}, stored(), 0, None),
        ({"matchesStorageClass": ["STANDARD"]}, stored(), 0, 0),
        ({"sizeAboveBytes": "99"}, stored(), 0, 0),
        ({"sizeAboveBytes": "100"}, stored(), 0, None),
        ({"sizeBelowBytes": "100"}, stored(), 0, None),
    ],
)  # fmt: skip
def test_condition_is_due_when_all_of_it_holds(
    condition: dict[str, Any], row: StoredObject, newer: int, due: int | None
) -> None:
    action = lifecycle.action_on([{"action": {"type": "Delete"}, "condition": condition}], row, newer)
    assert (action and action.due) == due if due is None else action is not None and action.due == due


def to_class(name: str, age: int = 1) -> dict[str, Any]:
    return {"action": {"type": "SetStorageClass", "storageClass": name}, "condition": {"age": age}}


def test_deletion_goes_before_a_change_of_class_and_the_cheapest_class_before_others() -> None:
    classes = [to_class("NEARLINE"), to_class("ARCHIVE"), to_class("COLDLINE")]
    now = CREATED + 2 * DAY
    best = lifecycle.best_of_due(classes, stored(), 0, now)
    assert best is not None
    assert best.storage_class == "ARCHIVE"
    delete = {"action": {"type": "Delete"}, "condition": {"age": 1}}
    best = lifecycle.best_of_due([*classes, delete], stored(), 0, now)
    assert best is not None
    assert best.storage_class == ""
    assert lifecycle.best_of_due(classes, stored(storageClass="ARCHIVE"), 0, now) is None


@pytest.mark.parametrize(
    "rule",
    [
        {"action": {"type": "Explode"}, "condition": {"age": 1}},
        {"action": {"type": "Delete"}, "condition": {}},
        {"action": {"type": "Delete"}},
        {"action": {"type": "Delete"}, "condition": {"age": -1}},
        {"action": {"type": "Delete"}, "condition": {"createdBefore": "yesterday"}},
        {"action": {"type": "SetStorageClass"}, "condition": {"age": 1}},
        {"action": {"type": "SetStorageClass", "storageClass": "WARM"}, "condition": {"age": 1}},
        {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"isLive": True}},
    ],
)
def test_rule_that_the_service_refuses_is_a_bad_request(client: Client, bucket: Bucket, rule: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        client._connection.api_request(method="PATCH", path=f"/b/{bucket.name}", data={"lifecycle": {"rule": [rule]}})
    assert "lifecycle" not in client.get_bucket(bucket.name)._properties


@pytest.fixture(scope="module")
def timed(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator whose clock these tests may move."""
    import shutil

    from tests.conftest import start_emulator

    state = tmp_path_factory.mktemp("timed") / "state"
    state.mkdir()
    shutil.copytree(emulator.state / "ca", state / "ca")
    running = start_emulator(state)
    yield running
    running.stop()


@pytest.fixture
def timed_client(timed: Emulator, project: str) -> Iterator[Client]:
    with timed.exported():
        client = Client(project=project)
        with client:
            # The proxy variables are read at each request.
            yield client


def advance(timed: Emulator, **by: float) -> dict[str, Any]:
    answer: dict[str, Any] = timed.control("POST", "clock", {"advance_seconds": timedelta(**by).total_seconds()})
    return answer


def test_old_objects_are_deleted_and_colder_ones_change_class(timed: Emulator, timed_client: Client) -> None:
    bucket = timed_client.bucket(f"{timed_client.project}-rules")
    bucket.add_lifecycle_delete_rule(age=30, matches_prefix=["tmp/"])
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=10)
    bucket.create()
    for name in ("tmp/a", "kept/b"):
        bucket.blob(name).upload_from_string(name)
    assert advance(timed, days=9)["events"] == 0
    assert {blob.storage_class for blob in bucket.list_blobs()} == {"STANDARD"}
    assert advance(timed, days=2)["events"] == 1
    blobs = {blob.name: blob for blob in bucket.list_blobs()}
    assert {blob.storage_class for blob in blobs.values()} == {"NEARLINE"}
    assert blobs["kept/b"]._properties["timeStorageClassUpdated"] > blobs["kept/b"]._properties["timeCreated"]
    assert blobs["kept/b"].metageneration == 2
    advance(timed, days=20)
    assert [blob.name for blob in bucket.list_blobs()] == ["kept/b"]
    assert bucket.blob("kept/b").download_as_text() == "kept/b"


def test_old_versions_are_deleted_and_live_ones_become_noncurrent(timed: Emulator, timed_client: Client) -> None:
    bucket = timed_client.bucket(f"{timed_client.project}-versions")
    bucket.versioning_enabled = True
    bucket.add_lifecycle_delete_rule(number_of_newer_versions=2)
    bucket.add_lifecycle_delete_rule(age=40, is_live=True)
    bucket.create()
    generations = []
    for number in range(4):
        blob = bucket.blob("x")
        blob.upload_from_string(str(number))
        generations.append(blob.generation)
    advance(timed, hours=2)
    assert [blob.generation for blob in bucket.list_blobs(versions=True)] == generations[2:]
    advance(timed, days=41)
    assert list(bucket.list_blobs()) == []
    assert [blob.generation for blob in bucket.list_blobs(versions=True)] == generations[2:]


def test_held_object_outlives_its_rule_until_it_is_released(timed: Emulator, timed_client: Client) -> None:
    bucket = timed_client.bucket(f"{timed_client.project}-held")
    bucket.add_lifecycle_delete_rule(age=1)
    bucket.create()
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    blob.temporary_hold = True
    blob.patch()
    advance(timed, days=3)
    assert blob.exists()
    blob.temporary_hold = False
    blob.patch()
    advance(timed, hours=2)
    assert not blob.exists()


def test_unfinished_multipart_upload_is_aborted(timed: Emulator, timed_client: Client) -> None:
    bucket = timed_client.bucket(f"{timed_client.project}-parts")
    bucket.add_lifecycle_abort_incomplete_multipart_upload_rule(age=7)
    bucket.create()
    url = f"https://storage.googleapis.com/{bucket.name}"
    for _ in range(2):
        assert timed_client._http.post(f"{url}/x?uploads").status_code == 200
    advance(timed, days=6)
    assert timed_client._http.get(f"{url}?uploads").text.count("<UploadId>") == 2
    advance(timed, days=2)
    assert timed_client._http.get(f"{url}?uploads").text.count("<UploadId>") == 0


def test_soft_deleted_object_can_be_restored_for_seven_days(timed: Emulator, timed_client: Client) -> None:
    bucket = timed_client.create_bucket(f"{timed_client.project}-soft")
    for name in ("early", "late"):
        bucket.blob(name).upload_from_string(name)
        bucket.blob(name).delete()
    gone = {blob.name: blob for blob in bucket.list_blobs(soft_deleted=True)}
    assert gone["early"].hard_delete_time - gone["early"].soft_delete_time == timedelta(days=7)
    advance(timed, days=6)
    assert bucket.restore_blob("early", generation=gone["early"].generation).download_as_text() == "early"
    advance(timed, days=2)
    assert list(bucket.list_blobs(soft_deleted=True)) == []
    with pytest.raises(NotFound):
        bucket.restore_blob("late", generation=gone["late"].generation)
    assert [path for path in (timed.state / "objects" / "apart").iterdir() if path.stat().st_size == 4] == []


def test_date_of_a_rule_survives_the_round_trip(client: Client, bucket: Bucket) -> None:
    bucket.add_lifecycle_delete_rule(created_before=date(2020, 1, 2))
    bucket.patch()
    (rule,) = client.get_bucket(bucket.name).lifecycle_rules
    assert rule == {"action": {"type": "Delete"}, "condition": {"createdBefore": "2020-01-02"}}
