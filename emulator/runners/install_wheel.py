"""Installs a wheel for the user, and prints which requirements are then not met; runs inside a job's sandbox.

    python3 install_wheel.py WHEEL NAME     prints a JSON list, or null where the wheel is one for pip
    python3 install_wheel.py NAME           prints the list for a package that is installed

What pip does for most packages of training code is to unpack an archive, and it takes half a second for that.
Uses the copy of `packaging` that pip carries, since a job's environment need not have another.
"""

from __future__ import annotations

import json
import os
import site
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet


def place(wheel: str, name: str) -> bool:
    """Unpack a wheel into the user's packages as `pip install --user --no-deps` does.

    False, and nothing done, for what takes more than that: compiled code, scripts, data files, a package that is
    there already, one that wants another Python.
    """
    folder = Path(site.getusersitepackages())
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            tops = {path.partition("/")[0] for path in names}
            infos = [top for top in tops if top.endswith(".dist-info")]
            if len(infos) != 1 or not wheel.endswith("-none-any.whl") or any(top.endswith(".data") for top in tops):
                return False
            if any((folder / top).exists() for top in tops) or is_installed(name):
                return False
            if f"{infos[0]}/entry_points.txt" in names or not suits(archive.read(f"{infos[0]}/METADATA").decode()):
                return False
            # The emulator has looked at wheels that were given, not at what a package's own code built.
            if not all(is_plain(path) for path in names):
                return False
            archive.extractall(folder)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    (folder / infos[0] / "INSTALLER").write_text("pip\n")
    # Python looks at the folder as it starts, and then there may have been none.
    site.addsitedir(os.fspath(folder))
    return True


def is_plain(path: str) -> bool:
    """Whether a member of an archive stays in the folder that it is unpacked to."""
    return not path.startswith("/") and "\\" not in path and ".." not in path.split("/")


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def suits(metadata: str) -> bool:
    """Whether Requires-Python holds."""
    for line in metadata.partition("\n\n")[0].splitlines():
        if line.startswith("Requires-Python:"):
            try:
                wanted = SpecifierSet(line.partition(":")[2].strip())
            except InvalidSpecifier:
                return False
            return bool(wanted.contains(".".join(map(str, sys.version_info[:3]))))
    return True


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


def main(*arguments: str) -> None:
    *wheels, name = arguments
    placed = all(place(wheel, name) for wheel in wheels)
    print(json.dumps(sorted(set(unmet(name))) if placed else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
