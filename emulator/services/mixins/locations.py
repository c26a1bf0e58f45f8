"""google.cloud.location.Locations: the regions in which Vertex AI is."""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import InvalidArgument, NotFound
from selfloop_apis import location

from emulator.core.locations import LOCATIONS
from emulator.core.pagination import page
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService


class LocationsService(GapicService):
    api = "google.cloud.location.Locations"

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    def list_locations(self, request: Any, context: Context) -> Any:
        parent = request.name.removesuffix("/locations")
        if not re.fullmatch(r"projects/[^/]+", parent):
            raise InvalidArgument(f"Invalid resource name: '{request.name}'")
        project = self._projects.get(parent.removeprefix("projects/")).id
        items = [_location(project, name) for name in LOCATIONS]
        found = page(items, request, location.Location, filterable=("location_id", "name", "labels"))
        return location.ListLocationsResponse(locations=found.items, next_page_token=found.next_page_token)

    def get_location(self, request: Any, context: Context) -> Any:
        match = re.fullmatch(r"projects/([^/]+)/locations/([^/]+)", request.name)
        if match is None:
            raise InvalidArgument(f"Invalid resource name: '{request.name}'")
        if match[2] not in LOCATIONS:
            raise NotFound(f"Location {match[2]} is not found or access is unauthorized.")
        return _location(self._projects.get(match[1]).id, match[2])


def _location(project: str, name: str) -> Any:
    return location.Location(
        name=f"projects/{project}/locations/{name}",
        location_id=name,
        labels={"cloud.googleapis.com/region": name},
    )
