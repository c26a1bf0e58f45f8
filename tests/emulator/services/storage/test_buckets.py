"""storage.buckets, as google-cloud-storage sees it."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud.storage import Bucket, Client

API = "https://storage.googleapis.com/storage/v1"


def test_new_bucket_has_the_services_defaults(client: Client, project: str) -> None:
    bucket = client.create_bucket(f"{project}-new")
    assert (bucket.location, bucket.location_type, bucket.storage_class) == ("US", "multi-region", "STANDARD")
    assert bucket.metageneration == 1
    assert not bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert bucket.soft_delete_policy.retention_duration_seconds == 604_800
    assert bucket.labels == {}
    assert bucket.project_number == client.get_bucket(bucket.name).project_number


def test_bucket_keeps_what_it_was_made_with(client: Client, project: str) -> None:
    bucket = client.bucket(f"{project}-made")
    bucket.labels = {"team": "ml"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.versioning_enabled = True
    bucket.create(location="europe-west1")
    made = client.get_bucket(bucket.name)
    assert (made.location, made.location_type) == ("EUROPE-WEST1", "region")
    assert made.labels == {"team": "ml"}
    assert made.versioning_enabled
    assert made.iam_configuration.uniform_bucket_level_access_enabled
    assert made.iam_configuration.uniform_bucket_level_access_locked_time


def test_bucket_shows_what_the_real_service_shows(client: Client, bucket: Bucket) -> None:
    shown = client._http.get(f"{API}/b/{bucket.name}").json()
    assert shown["id"] == shown["name"] == bucket.name
    assert shown["selfLink"] == f"https://www.googleapis.com/storage/v1/b/{bucket.name}"
    assert shown["iamConfiguration"] == {
        "publicAccessPrevention": "inherited",
        "uniformBucketLevelAccess": {"enabled": False},
        "bucketPolicyOnly": {"enabled": False},
    }
    assert shown["rpo"] == "DEFAULT"
    assert shown["generation"].isdecimal()
    assert "acl" not in shown


@pytest.mark.parametrize("name", ["ab", "Upper", "with space", "goog-x", "1.2.3.4", "x" * 64])
def test_bucket_with_an_invalid_name_is_refused(client: Client, name: str) -> None:
    response = client._http.post(f"{API}/b?project={client.project}", json={"name": name})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == f"Invalid bucket name: '{name}'"


def test_bucket_name_is_taken_for_everybody(client: Client, bucket: Bucket, project: str) -> None:
    with pytest.raises(Conflict, match="Your previous request to create the named bucket succeeded"):
        client.create_bucket(bucket.name)
    with pytest.raises(Conflict, match="The requested bucket name is not available"):
        client.create_bucket(bucket.name, project=f"{project}-b")


def test_bucket_without_a_project_or_a_name_is_refused(client: Client) -> None:
    response = client._http.post(f"{API}/b", json={"name": "some-bucket"})
    assert response.status_code == 400
    assert response.json()["error"]["errors"][0]["reason"] == "required"
    assert client._http.post(f"{API}/b?project={client.project}", json={}).status_code == 400


def test_buckets_are_listed_by_project_in_pages(client: Client, project: str) -> None:
    names = [f"{project}-{letter}" for letter in "cab"]
    for name in names:
        client.create_bucket(name)
    client.create_bucket(f"{project}-elsewhere", project=f"{project}-b")
    assert [bucket.name for bucket in client.list_buckets()] == sorted(names)
    assert [bucket.name for bucket in client.list_buckets(page_size=2)] == sorted(names)
    assert [bucket.name for bucket in client.list_buckets(prefix=f"{project}-a")] == [f"{project}-a"]


def test_patch_and_update_of_a_bucket(bucket: Bucket) -> None:
    bucket.labels = {"a": "1", "b": "2"}
    bucket.patch()
    assert bucket.metageneration == 2
    bucket.add_lifecycle_delete_rule(age=30)
    bucket.patch()
    bucket.reload()
    assert bucket.labels == {"a": "1", "b": "2"}
    assert [rule["action"]["type"] for rule in bucket.lifecycle_rules] == ["Delete"]
    bucket.labels = {"a": "1"}
    bucket.patch()
    bucket.reload()
    assert bucket.labels == {"a": "1"}
    with pytest.raises(PreconditionFailed):
        bucket.patch(if_metageneration_match=1)
    bucket.clear_lifecycle_rules()
    bucket.patch()
    bucket.reload()
    assert list(bucket.lifecycle_rules) == []


def test_patch_that_changes_nothing_keeps_the_metageneration(client: Client, bucket: Bucket) -> None:
    before = client._http.get(f"{API}/b/{bucket.name}").json()
    after = client._http.patch(f"{API}/b/{bucket.name}?projection=noAcl", json={}).json()
    assert after == before
    url = f"{API}/b/{bucket.name}?projection=noAcl"
    changed = client._http.patch(url, json={"location": "ASIA", "metageneration": "9"}).json()
    assert changed == before


def test_delete_of_a_bucket_with_objects_is_a_conflict(client: Client, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string("x")
    with pytest.raises(Conflict, match="The bucket you tried to delete is not empty"):
        bucket.delete()
    bucket.blob("x").delete()
    bucket.delete()
    assert not bucket.exists()
    with pytest.raises(NotFound, match="The specified bucket does not exist"):
        bucket.delete()
    assert client.lookup_bucket(bucket.name) is None


def test_iam_policy_is_read_changed_and_guarded_by_its_etag(bucket: Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    assert {binding["role"] for binding in policy.bindings} == {
        "roles/storage.legacyBucketOwner",
        "roles/storage.legacyBucketReader",
    }
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:someone@example.com"}})
    bucket.set_iam_policy(policy)
    roles = [binding["role"] for binding in bucket.get_iam_policy(requested_policy_version=3).bindings]
    assert "roles/storage.objectViewer" in roles
    with pytest.raises(PreconditionFailed):
        bucket.set_iam_policy(policy)


def test_permissions_are_those_of_an_owner(bucket: Bucket) -> None:
    asked = ["storage.objects.get", "storage.buckets.delete"]
    assert bucket.test_iam_permissions(asked) == asked
    with pytest.raises(BadRequest):
        bucket.test_iam_permissions(["compute.instances.get"])


def test_storage_layout_and_service_account(client: Client, bucket: Bucket) -> None:
    layout = client._http.get(f"{API}/b/{bucket.name}/storageLayout").json()
    assert layout["locationType"] == "multi-region"
    assert layout["hierarchicalNamespace"] == {"enabled": False}
    account = client.get_service_account_email()
    assert account == f"service-{bucket.project_number}@gs-project-accounts.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    "body", [{"labels": "x"}, {"versioning": {"enabled": "perhaps"}}, {"lifecycle": {"rule": 5}}, {"labels": {"a": []}}]
)
def test_patch_of_a_bucket_with_a_wrong_type_is_a_bad_request(client: Client, bucket: Bucket, body: object) -> None:
    assert client._http.patch(f"{API}/b/{bucket.name}", json=body).status_code == 400
