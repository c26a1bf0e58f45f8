"""Resource Manager through its official clients: v3 over gRPC and REST, v1 over JSON, gcloud.

Clients raise by HTTP status over REST and by code over gRPC: the class tested for is the one that both are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden
from google.cloud.resourcemanager_v3 import ProjectsClient
from google.cloud.resourcemanager_v3.types import Project
from google.iam.v1 import policy_pb2
from googleapiclient.errors import HttpError

from tests.conftest import Emulator, require_program
from tests.emulator.services.discovery import discovery_client


@pytest.fixture(params=["grpc", "rest"])
def projects(emulator: Emulator, request: pytest.FixtureRequest) -> ProjectsClient:
    return emulator.client(ProjectsClient, transport=request.param)


@pytest.fixture
def projects_v1(emulator: Emulator) -> Iterator[Any]:
    with discovery_client(emulator, "cloudresourcemanager", "v1") as service:
        yield service.projects()


def test_get_project_of_any_valid_id_finds_it_and_by_its_number_too(projects: ProjectsClient, project: str) -> None:
    found = projects.get_project(name=f"projects/{project}")
    assert (found.project_id, found.display_name, found.state) == (project, project, Project.State.ACTIVE)
    number = found.name.removeprefix("projects/")
    assert number.isdecimal()
    assert projects.get_project(name=f"projects/{number}") == found


def test_get_project_of_an_unknown_number_is_permission_denied(projects: ProjectsClient) -> None:
    with pytest.raises(Forbidden):
        projects.get_project(name="projects/12345")


@pytest.mark.parametrize("name", ["projects/UPPER", "projects/ab"])
def test_get_project_of_what_cannot_be_an_id_is_an_invalid_argument(projects: ProjectsClient, name: str) -> None:
    with pytest.raises(BadRequest):
        projects.get_project(name=name)


def test_search_projects_finds_by_id(projects: ProjectsClient, project: str) -> None:
    projects.get_project(name=f"projects/{project}")
    assert [found.project_id for found in projects.search_projects(query=f"id:{project}")] == [project]
    assert project in {found.project_id for found in projects.search_projects(query="id:test-project-* state:ACTIVE")}
    assert list(projects.search_projects(query="id:nobodys-project")) == []


def test_iam_policy_is_kept_and_guarded_by_its_etag(projects: ProjectsClient, project: str) -> None:
    resource = f"projects/{project}"
    policy = projects.get_iam_policy(resource=resource)
    assert [binding.role for binding in policy.bindings] == ["roles/owner"]
    old = policy_pb2.Policy()
    old.CopyFrom(policy)
    policy.bindings.add(role="roles/viewer", members=["user:someone@example.com"])
    stored = projects.set_iam_policy(request={"resource": resource, "policy": policy})
    assert stored.etag != old.etag
    again = projects.get_iam_policy(resource=resource)
    assert [binding.role for binding in again.bindings] == ["roles/owner", "roles/viewer"]
    with pytest.raises(Conflict, match="concurrent policy changes"):
        projects.set_iam_policy(request={"resource": resource, "policy": old})


def test_iam_policy_of_a_bad_member_is_refused(projects: ProjectsClient, project: str) -> None:
    policy = policy_pb2.Policy(bindings=[policy_pb2.Binding(role="roles/viewer", members=["nobody"])])
    with pytest.raises(BadRequest, match="nobody"):
        projects.set_iam_policy(request={"resource": f"projects/{project}", "policy": policy})


def test_test_iam_permissions_answers_as_the_owner(projects: ProjectsClient, project: str) -> None:
    wanted = ["storage.buckets.list", "aiplatform.models.upload"]
    answer = projects.test_iam_permissions(resource=f"projects/{project}", permissions=wanted)
    assert list(answer.permissions) == wanted
    with pytest.raises(BadRequest, match="not valid"):
        projects.test_iam_permissions(resource=f"projects/{project}", permissions=["storage.*"])


def test_v1_shows_a_project_in_its_own_form(projects_v1: Any, project: str) -> None:
    found = projects_v1.get(projectId=project).execute()
    assert found.pop("createTime").endswith("Z")
    assert found.pop("projectNumber").isdecimal()
    assert found == {"projectId": project, "name": project, "lifecycleState": "ACTIVE"}
    with pytest.raises(HttpError) as caught:
        projects_v1.get(projectId="12345").execute()
    assert caught.value.status_code == 403


def test_v1_lists_in_pages(projects_v1: Any, project: str) -> None:
    names = {f"{project}-{letter}" for letter in "abc"}
    for name in names:
        projects_v1.get(projectId=name).execute()
    found = []
    call = projects_v1.list(filter=f"id:{project}-* lifecycleState:ACTIVE", pageSize=2)
    while call is not None:
        answer = call.execute()
        found += [item["projectId"] for item in answer["projects"]]
        call = projects_v1.list_next(call, answer)
    assert found == sorted(names)


def test_v1_and_v3_share_a_policy(projects_v1: Any, projects: ProjectsClient, project: str) -> None:
    policy = projects_v1.getIamPolicy(resource=project).execute()
    policy["bindings"].append({"role": "roles/editor", "members": ["group:team@example.com"]})
    projects_v1.setIamPolicy(resource=project, body={"policy": policy}).execute()
    roles = [binding.role for binding in projects.get_iam_policy(resource=f"projects/{project}").bindings]
    assert roles == ["roles/owner", "roles/editor"]
    with pytest.raises(HttpError) as caught:
        projects_v1.setIamPolicy(resource=project, body={"policy": policy}).execute()
    assert caught.value.status_code == 409


def test_gcloud_describes_lists_and_binds(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")

    def run(*arguments: str) -> Any:
        result = emulator.run(gcloud, "projects", *arguments, "--format=json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert run("describe", project)["projectId"] == project
    assert project in {item["projectId"] for item in run("list")}
    binding = ("--member=user:a@example.com", "--role=roles/viewer", "--condition=None")
    policy = run("add-iam-policy-binding", project, *binding)
    assert {"role": "roles/viewer", "members": ["user:a@example.com"]} in policy["bindings"]
    assert policy["version"] == 1
