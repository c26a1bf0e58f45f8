"""Resource Manager v3: projects, as the SDKs look them up.

Source: https://cloud.google.com/resource-manager/reference/rpc/google.cloud.resourcemanager.v3
"""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import InvalidArgument
from selfloop_apis import iam_v1, resourcemanager_v3

from emulator.core.iam_policies import IamPolicies
from emulator.core.pagination import page
from emulator.core.projects import Project, Projects
from emulator.core.service import Context, GapicService
from emulator.services.cloudresourcemanager import resources


class ProjectsService(GapicService):
    api = "google.cloud.resourcemanager.v3.Projects"

    def __init__(self, projects: Projects, policies: IamPolicies) -> None:
        self._projects = projects
        self._policies = policies

    def get_project(self, request: Any, context: Context) -> Any:
        """By id or number; any valid id exists from now on."""
        return resources.project_v3(self._project(request.name))

    def list_projects(self, request: Any, context: Context) -> Any:
        """The projects below a folder or organization: none, because these have no parent."""
        if not re.fullmatch(r"(folders|organizations)/\d+", request.parent):
            raise InvalidArgument(f"Invalid parent '{request.parent}': folders/123 or organizations/123 is expected")
        return resourcemanager_v3.ListProjectsResponse()

    def search_projects(self, request: Any, context: Context) -> Any:
        """Every project known so far that fits the query (`id:test*`, `state:ACTIVE`, `displayName=x`)."""
        found = page(resources.search(self._projects.list(), request.query), request, resourcemanager_v3.Project)
        return resourcemanager_v3.SearchProjectsResponse(projects=found.items, next_page_token=found.next_page_token)

    def get_iam_policy(self, request: Any, context: Context) -> Any:
        name = resources.project_v3(self._project(request.resource)).name
        return self._policies.get(name, resources.owner(context.caller.subject))

    def set_iam_policy(self, request: Any, context: Context) -> Any:
        """Replace a project's policy. Raises Aborted when it changed since it was read."""
        name = resources.project_v3(self._project(request.resource)).name
        return self._policies.set(
            name, request.policy, request.update_mask.paths, resources.owner(context.caller.subject)
        )

    def test_iam_permissions(self, request: Any, context: Context) -> Any:
        self._project(request.resource)
        return iam_v1.TestIamPermissionsResponse(permissions=self._policies.test(request.permissions))

    def _project(self, name: str) -> Project:
        match = re.fullmatch(r"projects/([^/]+)", name)
        if match is None:
            raise InvalidArgument(f"Invalid project name '{name}': projects/PROJECT is expected")
        return self._projects.get(match[1])
