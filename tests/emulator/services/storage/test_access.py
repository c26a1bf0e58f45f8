"""Access control lists, policies of objects, managed folders: as an owner sees them."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud.storage import Bucket, Client


def call(client: Client, method: str, path: str, data: Any = None, **query: Any) -> Any:
    return client._connection.api_request(method=method, path=path, data=data, query_params=query)


@pytest.fixture
def uniform(client: Client, project: str) -> Bucket:
    bucket = client.bucket(f"{project}-uniform")
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.create()
    return bucket


def test_new_bucket_and_object_have_the_project_s_team_on_their_lists(client: Client, bucket: Bucket) -> None:
    number = bucket.project_number
    team = [
        {"entity": f"project-owners-{number}", "role": "OWNER"},
        {"entity": f"project-editors-{number}", "role": "OWNER"},
        {"entity": f"project-viewers-{number}", "role": "READER"},
    ]
    assert sorted(map(str, bucket.acl)) == sorted(map(str, team))
    assert sorted(map(str, bucket.default_object_acl)) == sorted(map(str, team))
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    entries = list(blob.acl)
    assert entries[:3] == team
    assert entries[3]["role"] == "OWNER"
    assert entries[3]["entity"].startswith("user-")
    (first, *_) = call(client, "GET", f"/b/{bucket.name}/acl")["items"]
    assert first["kind"] == "storage#bucketAccessControl"
    assert first["projectTeam"] == {"projectNumber": str(number), "team": "owners"}
    assert first["id"] == f"{bucket.name}/project-owners-{number}"


def test_entry_is_added_changed_and_removed(client: Client, bucket: Bucket) -> None:
    blob = bucket.blob("a/x")
    blob.upload_from_string("x")
    blob.acl.all().grant_read()
    blob.acl.save()
    assert {"entity": "allUsers", "role": "READER"} in list(bucket.get_blob("a/x").acl)
    path = f"/b/{bucket.name}/o/a%2Fx/acl"
    entity = "user-reader@example.com"
    made = call(client, "POST", path, {"entity": entity, "role": "READER"})
    assert (made["email"], made["object"], made["role"]) == ("reader@example.com", "a/x", "READER")
    assert call(client, "PATCH", f"{path}/{entity}", {"role": "OWNER"})["role"] == "OWNER"
    assert call(client, "GET", f"{path}/{entity}")["role"] == "OWNER"
    call(client, "DELETE", f"{path}/{entity}")
    with pytest.raises(NotFound, match="The specified key does not exist"):
        call(client, "GET", f"{path}/{entity}")
    assert bucket.get_blob("a/x").metageneration == 5


def test_default_list_is_that_of_new_objects(bucket: Bucket) -> None:
    bucket.blob("before").upload_from_string("")
    bucket.default_object_acl.group("readers@example.com").grant_read()
    bucket.default_object_acl.save()
    bucket.blob("after").upload_from_string("")
    entry = {"entity": "group-readers@example.com", "role": "READER"}
    assert entry in list(bucket.blob("after").acl)
    assert entry not in list(bucket.blob("before").acl)


@pytest.mark.parametrize(
    ("predefined", "entity"), [("publicRead", "allUsers"), ("authenticatedRead", "allAuthenticatedUsers")]
)
def test_predefined_list_is_taken_at_upload_and_later(bucket: Bucket, predefined: str, entity: str) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("x", predefined_acl=predefined)
    assert {"entity": entity, "role": "READER"} in list(blob.acl)
    blob.acl.save_predefined("private")
    assert [entry["role"] for entry in bucket.get_blob("x").acl] == ["OWNER"]


@pytest.mark.parametrize(
    "entry", [{"entity": "someone", "role": "READER"}, {"entity": "allUsers", "role": "KING"}, {"role": "READER"}]
)
def test_entry_that_means_nothing_is_a_bad_request(client: Client, bucket: Bucket, entry: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        call(client, "POST", f"/b/{bucket.name}/acl", entry)


def test_bucket_of_uniform_access_has_no_lists(client: Client, uniform: Bucket) -> None:
    blob = uniform.blob("x")
    blob.upload_from_string("x")
    full = call(client, "GET", f"/b/{uniform.name}", projection="full")
    assert not {"acl", "defaultObjectAcl", "owner"} & full.keys()
    for attempt in (
        lambda: call(client, "GET", f"/b/{uniform.name}/acl"),
        lambda: call(client, "GET", f"/b/{uniform.name}/defaultObjectAcl"),
        lambda: call(client, "GET", f"/b/{uniform.name}/o/x/acl"),
        blob.get_iam_policy,
        lambda: uniform.blob("y").upload_from_string("y", predefined_acl="publicRead"),
    ):
        with pytest.raises(BadRequest, match="uniform bucket-level access"):
            attempt()


def test_public_access_prevention_keeps_everybody_off(client: Client, bucket: Bucket) -> None:
    bucket.iam_configuration.public_access_prevention = "enforced"
    bucket.patch()
    with pytest.raises(PreconditionFailed, match="public access prevention is enforced"):
        call(client, "POST", f"/b/{bucket.name}/acl", {"entity": "allUsers", "role": "READER"})


def test_projection_decides_whether_lists_are_shown(client: Client, bucket: Bucket) -> None:
    bucket.blob("x").upload_from_string("x")
    url = f"/b/{bucket.name}/o/x"
    assert "acl" not in call(client, "GET", url)
    assert len(call(client, "GET", url, projection="full")["acl"]) == 4
    assert "acl" in call(client, "PATCH", url, {"metadata": {"a": "b"}})
    (item,) = call(client, "GET", f"/b/{bucket.name}/o", projection="full")["items"]
    assert item["owner"]["entity"].startswith("user-")


def test_policy_of_an_object_is_kept(bucket: Bucket) -> None:
    blob = bucket.blob("x")
    blob.upload_from_string("x")
    policy = blob.get_iam_policy()
    assert "roles/storage.legacyObjectOwner" in {binding["role"] for binding in policy.bindings}
    policy.bindings.append({"role": "roles/storage.objectViewer", "members": {"user:a@example.com"}})
    blob.set_iam_policy(policy)
    again = blob.get_iam_policy()
    assert {"role": "roles/storage.objectViewer", "members": {"user:a@example.com"}} in again.bindings
    with pytest.raises(PreconditionFailed):
        blob.set_iam_policy(policy)
    assert blob.test_iam_permissions(["storage.objects.get"]) == ["storage.objects.get"]


def test_managed_folder_is_made_listed_and_removed(client: Client, uniform: Bucket) -> None:
    path = f"/b/{uniform.name}/managedFolders"
    made = call(client, "POST", path, {"name": "team/a"})
    assert (made["name"], made["metageneration"]) == ("team/a/", "1")
    with pytest.raises(Conflict):
        call(client, "POST", path, {"name": "team/a/"})
    call(client, "POST", path, {"name": "team/b/"})
    assert [item["name"] for item in call(client, "GET", path, prefix="team/")["items"]] == ["team/a/", "team/b/"]
    first = call(client, "GET", path, pageSize=1)
    assert [item["name"] for item in call(client, "GET", path, pageToken=first["nextPageToken"])["items"]] == [
        "team/b/"
    ]
    policy = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["user:a@example.com"]}]}
    assert call(client, "PUT", f"{path}/team%2Fa%2F/iam", policy)["bindings"] == policy["bindings"]
    uniform.blob("team/a/x").upload_from_string("")
    with pytest.raises(Conflict, match="not empty"):
        call(client, "DELETE", f"{path}/team%2Fa%2F")
    call(client, "DELETE", f"{path}/team%2Fa%2F", allowNonEmpty=True)
    with pytest.raises(NotFound, match="The specified managed folder does not exist"):
        call(client, "GET", f"{path}/team%2Fa%2F")


def test_managed_folder_wants_uniform_access_and_a_folder_a_hierarchical_namespace(
    client: Client, bucket: Bucket
) -> None:
    with pytest.raises(BadRequest, match="uniform bucket-level access"):
        call(client, "POST", f"/b/{bucket.name}/managedFolders", {"name": "a/"})
    for method, path in (("GET", "folders"), ("POST", "folders"), ("DELETE", "folders/a%2F")):
        with pytest.raises(Conflict, match="hierarchical namespace"):
            call(client, method, f"/b/{bucket.name}/{path}", {} if method == "POST" else None)


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_managed_folders_are_prefixes_of_a_listing_where_they_are_asked_for(
    client: Client, uniform: Bucket, limit: int
) -> None:
    for name in ("b/", "d/e/", "f/"):
        call(client, "POST", f"/b/{uniform.name}/managedFolders", {"name": name})
    for name in ("a", "c/x", "d/y", "e"):
        uniform.blob(name).upload_from_string("")

    def listed(**query: Any) -> list[str]:
        found: list[str] = []
        while True:
            page = call(client, "GET", f"/b/{uniform.name}/o", delimiter="/", maxResults=limit, **query)
            assert len(page.get("items", [])) + len(page.get("prefixes", [])) <= limit
            found.extend(sorted([*(item["name"] for item in page.get("items", [])), *page.get("prefixes", [])]))
            if "nextPageToken" not in page:
                return found
            query["pageToken"] = page["nextPageToken"]

    assert listed() == ["a", "c/", "d/", "e"]
    assert listed(includeFoldersAsPrefixes=True) == ["a", "b/", "c/", "d/", "e", "f/"]
    assert listed(includeFoldersAsPrefixes=True, prefix="d/") == ["d/e/", "d/y"]
    with pytest.raises(BadRequest, match="slash"):
        call(client, "GET", f"/b/{uniform.name}/o", includeFoldersAsPrefixes=True)
