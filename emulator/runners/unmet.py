"""Prints which requirements of installed packages are not met, as a JSON list; runs inside a job's sandbox.

    python3 unmet.py NAME...

Uses the copy of `packaging` that pip carries, since a job's environment need not have another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution

from pip._vendor.packaging.requirements import InvalidRequirement, Requirement


def unmet(
    name: str, extras: frozenset[str] = frozenset(), seen: set[tuple[str, frozenset[str]]] | None = None
) -> Iterator[str]:
    """Requirements, as they are written, of a package with these extras and of the packages that it leads to."""
    seen = set() if seen is None else seen
    if (name.lower(), extras) in seen:
        return
    seen.add((name.lower(), extras))
    for text in distribution(name).requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield text
            continue
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            continue
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            yield str(requirement)
            continue
        if requirement.url or not requirement.specifier.contains(version, prereleases=True):
            yield str(requirement)
        elif requirement.extras:
            yield from unmet(requirement.name, frozenset(requirement.extras), seen)


if __name__ == "__main__":
    print(json.dumps(sorted({text for name in sys.argv[1:] for text in unmet(name)})))
