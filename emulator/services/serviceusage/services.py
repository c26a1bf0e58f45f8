"""Service Usage: which services a project has enabled.

Kept and given back, not enforced: a disabled service goes on answering.
Source: https://cloud.google.com/service-usage/docs/reference/rest/v1/services
"""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import InvalidArgument, PermissionDenied

from emulator.core.projects import Project, Projects
from emulator.core.service import Context, DiscoveryService, JsonRequest
from emulator.services.serviceusage.catalogue import TITLES
from emulator.services.serviceusage.state import UsageState

_TYPES = "type.googleapis.com/google.api.serviceusage.v1."
_DONE = "operations/noop.DONE_OPERATION"
_LARGEST_PAGE = 200
_MOST_ENABLED_AT_ONCE = 20
_MOST_GOT_AT_ONCE = 30


class Services(DiscoveryService):
    api = "serviceusage.v1"
    resource = "services"

    def __init__(self, state: UsageState, projects: Projects) -> None:
        self._state = state
        self._projects = projects

    def get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project, service = self._parse(request.get("name"))
        return self._service(project, service)

    def list(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """Services by name; filter: `state:ENABLED` or `state:DISABLED`."""
        project = self._project(request.get("parent"))
        wanted = re.fullmatch(r"(?:state:(ENABLED|DISABLED))?", request.get("filter", ""))
        if wanted is None:
            raise InvalidArgument(
                f"Invalid filter: {request.get('filter')}; state:ENABLED or state:DISABLED is expected"
            )
        enabled = self._state.enabled(project)
        names = sorted(frozenset(TITLES) | enabled)
        if wanted[1]:
            names = [name for name in names if (name in enabled) == (wanted[1] == "ENABLED")]
        size = request.get("pageSize", 0) or 50
        if not 0 < size <= _LARGEST_PAGE:
            raise InvalidArgument(f"page_size must be between 0 and {_LARGEST_PAGE}")
        # The token is the last name shown: it goes on from there whatever has been enabled since.
        names = [name for name in names if name > request.get("pageToken", "")]
        answer: dict[str, Any] = {}
        if names:
            answer["services"] = [self._service(project, name, enabled) for name in names[:size]]
        if len(names) > size:
            answer["nextPageToken"] = names[size - 1]
        return answer

    def batch_get(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        parent = self._project(request.get("parent"))
        names = request.get("names", [])
        if not 0 < len(names) <= _MOST_GOT_AT_ONCE:
            raise InvalidArgument(f"names must hold 1 to {_MOST_GOT_AT_ONCE} names, got {len(names)}")
        parsed = [self._parse(name) for name in names]
        if any(project != parent for project, _ in parsed):
            raise InvalidArgument("All names must belong to the parent.")
        return {"services": [self._service(project, service) for project, service in parsed]}

    def enable(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """An operation; the one that is done already where there is nothing to do."""
        project, service = self._parse(request.get("name"))
        was_enabled = service in self._state.enabled(project)
        self._state.change(project, [service], enabled=True)
        response = {"@type": f"{_TYPES}EnableServiceResponse", "service": self._service(project, service)}
        return self._operation(project, "p2", response, nothing_to_do=was_enabled)

    def disable(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        """An operation; the one that is done already where there is nothing to do."""
        project, service = self._parse(request.get("name"))
        was_disabled = service not in self._state.enabled(project)
        self._state.change(project, [service], enabled=False)
        response = {"@type": f"{_TYPES}DisableServiceResponse", "service": self._service(project, service)}
        return self._operation(project, "p17", response, nothing_to_do=was_disabled)

    def batch_enable(self, request: JsonRequest, context: Context) -> dict[str, Any]:
        project = self._project(request.get("parent"))
        names = request.body.get("serviceIds", [])
        if not isinstance(names, list) or not 0 < len(names) <= _MOST_ENABLED_AT_ONCE:
            raise InvalidArgument(f"service_ids must hold 1 to {_MOST_ENABLED_AT_ONCE} services")
        for name in names:
            _check(name)
        nothing_to_do = self._state.enabled(project) >= set(names)
        self._state.change(project, names, enabled=True)
        response = {
            "@type": f"{_TYPES}BatchEnableServicesResponse",
            "services": [self._service(project, name) for name in names],
        }
        return self._operation(project, "p2", response, nothing_to_do=nothing_to_do)

    def _operation(
        self, project: Project, kind: str, response: dict[str, Any], *, nothing_to_do: bool
    ) -> dict[str, Any]:
        if nothing_to_do:
            return {"name": _DONE, "done": True, "response": response}
        return {"name": self._state.add_operation(project, kind, response)}

    def _service(self, project: Project, name: str, enabled: frozenset[str] | None = None) -> dict[str, Any]:
        parent = f"projects/{project.number}"
        is_enabled = name in (self._state.enabled(project) if enabled is None else enabled)
        service: dict[str, Any] = {
            "name": f"{parent}/services/{name}",
            "config": {
                "name": name,
                "title": TITLES.get(name, name),
                "documentation": {},
                "quota": {},
                "authentication": {},
                "usage": {"requirements": ["serviceusage.googleapis.com/tos/cloud"]},
                "monitoring": {},
            },
            "state": "ENABLED" if is_enabled else "DISABLED",
        }
        # Only an enabled one names its parent.
        return service | {"parent": parent} if is_enabled else service

    def _project(self, parent: str) -> Project:
        match = re.fullmatch(r"projects/([^/]+)", parent)
        if match is None:
            raise InvalidArgument(f"Invalid parent '{parent}': projects/PROJECT is expected")
        return self._projects.get(match[1])

    def _parse(self, name: str) -> tuple[Project, str]:
        match = re.fullmatch(r"(projects/[^/]+)/services/([^/]+)", name)
        if match is None:
            raise InvalidArgument(f"Invalid service name '{name}': projects/PROJECT/services/SERVICE is expected")
        _check(match[2])
        return self._project(match[1]), match[2]


def _check(service: Any) -> None:
    """Raises PermissionDenied for a service that is not in the catalogue, as Google does for one it does not know."""
    if service not in TITLES:
        raise PermissionDenied(f"Not found or permission denied for service(s): {service}.")
