"""Resource Manager v1: projects as `gcloud projects` and older clients ask for them, JSON alone.

Source: https://cloud.google.com/resource-manager/reference/rest/v1/projects
"""

from __future__ import annotations

from typing import Any

from selfloop_apis import iam_v1, resourcemanager_v3

from emulator.core import transcoding
from emulator.core.iam_policies import IamPolicies
from emulator.core.pagination import page
from emulator.core.projects import Project, Projects
from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.services.cloudresourcemanager import resources


class ProjectsV1(DiscoveryService):
    api = "cloudresourcemanager.v1"
    resource = "projects"

    def __init__(self, projects: Projects, policies: IamPolicies) -> None:
        self._projects = projects
        self._policies = policies

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """By id or number; any valid id exists from now on."""
        return resources.project_v1(self._projects.get(request.get("projectId")))

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Every project known so far that fits the filter."""
        query = resourcemanager_v3.SearchProjectsRequest(
            query=request.get("filter", ""),
            page_size=request.get("pageSize", 0),
            page_token=request.get("pageToken", ""),
        )
        found = page(resources.search(self._projects.list(), query.query), query, resourcemanager_v3.Project)
        answer: dict[str, Any] = {}
        if found.items:
            answer["projects"] = [resources.project_v1(self._projects.get(item.project_id)) for item in found.items]
        if found.next_page_token:
            answer["nextPageToken"] = found.next_page_token
        return answer

    def get_ancestry(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """The project alone: it is in no folder or organization."""
        project = self._projects.get(request.get("projectId"))
        return {"ancestor": [{"resourceId": {"type": "project", "id": project.id}}]}

    def get_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        policy = self._policies.get(_name(self._project(request)), resources.owner(context.caller.subject))
        return _json(policy)

    def set_iam_policy(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Replace a project's policy. Raises Aborted when it changed since it was read."""
        call: Any = transcoding.parse_request(iam_v1.SetIamPolicyRequest, "*", {}, (), request.body)
        policy = self._policies.set(
            _name(self._project(request)),
            call.policy,
            call.update_mask.paths,
            resources.owner(context.caller.subject),
        )
        return _json(policy)

    def test_iam_permissions(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        self._project(request)
        call: Any = transcoding.parse_request(iam_v1.TestIamPermissionsRequest, "*", {}, (), request.body)
        permissions = self._policies.test(call.permissions)
        return {"permissions": permissions} if permissions else {}

    def _project(self, request: JsonRequest) -> Project:
        return self._projects.get(request.get("resource"))


def _name(project: Project) -> str:
    """The key under which both versions of the API keep a project's policy."""
    return f"projects/{project.number}"


def _json(policy: Any) -> dict[str, Any]:
    document: dict[str, Any] = transcoding.to_json(policy)
    return document
