"""Resource names of Vertex AI: their form, their parts, a parent's location."""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.api_core.exceptions import InvalidArgument

from emulator.core.locations import LOCATIONS
from emulator.core.projects import Projects

_PARENT = re.compile(r"projects/([^/]+)/locations/([a-z0-9-]+)")
_ID = r"[\w@.-]+"


@dataclass(frozen=True)
class Location:
    """`projects/N/locations/L`, where resources live."""

    parent: str
    """canonical, with the project's number"""
    project_id: str
    project_number: str
    region: str


def location_of(projects: Projects, name: str) -> Location:
    """The location that a parent is, or that a resource's name begins with.

    Raises InvalidArgument for what is neither.
    """
    found = _PARENT.match(name)
    if not found or name[found.end() : found.end() + 1] not in ("", "/"):
        raise InvalidArgument(f"Invalid resource name: {name!r} is not below projects/*/locations/*.")
    project = projects.get(found[1])
    parent = f"projects/{project.number}/locations/{found[2]}"
    return Location(parent, project.id, project.number, found[2])


def new_parent(projects: Projects, name: str) -> Location:
    """The location that a new resource is to be in. Raises InvalidArgument for a region that there is not."""
    location = location_of(projects, name)
    if location.region not in LOCATIONS:
        raise InvalidArgument(f'The location "{location.region}" is not a region of Vertex AI.')
    return location


def resource_name(projects: Projects, name: str, *kinds: str) -> str:
    """The canonical form of `projects/P/locations/L/<kind>/ID[/<kind>/ID…]`.

    kinds: the collections in the name, such as "models", "evaluations".
    Raises InvalidArgument for a name of another form.
    """
    pattern = "".join(f"/{kind}/{_ID}" for kind in kinds)
    found = _PARENT.match(name)
    if not found or not re.fullmatch(pattern, name[found.end() :]):
        expected = "/".join(f"{kind}/*" for kind in kinds)
        raise InvalidArgument(f"Invalid resource name: {name!r} is not projects/*/locations/*/{expected}.")
    return projects.canonical(name)


def last_part(name: str) -> str:
    """The id at the end of a name."""
    return name.rpartition("/")[2]
