"""Projects as the two versions of the API show them, and who owns them: pure functions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from selfloop_apis import resourcemanager_v3

from emulator.core import filters
from emulator.core.projects import Project

#: Names by which filters of v1 and queries of v3 call what a project has.
_SEARCHABLE: Mapping[str, Callable[[Any], str]] = {
    "id": lambda project: str(project.project_id),
    "project_id": lambda project: str(project.project_id),
    "project_number": lambda project: str(project.name.removeprefix("projects/")),
    "name": lambda project: str(project.display_name),
    "display_name": lambda project: str(project.display_name),
    "lifecycle_state": lambda project: "ACTIVE",
    "state": lambda project: "ACTIVE",
}


def search(projects: Iterable[Project], query: str) -> list[Any]:
    """The v3 form of the projects that fit `id:test-* lifecycleState:ACTIVE`. Raises InvalidArgument."""
    found = [project_v3(project) for project in projects]
    fits = filters.compile(query, resourcemanager_v3.Project, ("labels", "create_time"), _SEARCHABLE)
    return [project for project in found if fits(project)]


def project_v3(project: Project) -> Any:
    """google.cloud.resourcemanager.v3.Project; everything has been as it is since its creation."""
    message = resourcemanager_v3.Project(
        name=f"projects/{project.number}",
        project_id=project.id,
        display_name=project.id,
        state=resourcemanager_v3.Project.State.ACTIVE,
        etag=f'W/"{hashlib.sha256(project.id.encode()).hexdigest()[:16]}"',
    )
    message.create_time.FromJsonString(project.create_time)
    message.update_time.CopyFrom(message.create_time)
    return message


def project_v1(project: Project) -> dict[str, Any]:
    return {
        "projectNumber": project.number,
        "projectId": project.id,
        "lifecycleState": "ACTIVE",
        "name": project.id,
        "createTime": project.create_time,
    }


def owner(caller: str) -> str:
    """The member that owns a project whose policy nobody has set: the account that asks."""
    kind = "serviceAccount" if caller.endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{caller}"
