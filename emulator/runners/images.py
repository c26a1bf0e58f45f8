"""Which environment stands in for a prebuilt image: images.toml, read and asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emulator.settings import StandIn

_TABLE = Path(__file__).with_name("images.toml")
_PREBUILT = re.compile(
    r"(?:(?:us|europe|asia)-docker\.pkg\.dev/vertex-ai|(?:(?:us|eu|asia)\.)?gcr\.io/cloud-aiplatform)"
    r"/(training|prediction)/([^:@/]+)(?:[:@].*)?"
)
_PYTHON = re.compile(r"(?:(?:docker\.io|mirror\.gcr\.io)/(?:library/)?|library/)?python(?::([^@/]*))?(?:@.*)?")
_PYTHON_NAME = re.compile(r"python\.3-(\d+)")


class NoEnvironment(Exception):
    """Nothing stands in for an image; the sentence says why and what could be done."""


@dataclass(frozen=True)
class Recipe:
    """How an environment is made."""

    name: str
    python: str
    """minor version to make it with, such as `3.11`"""
    requirements: tuple[str, ...]
    image_python: str
    image_requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()
    """requirements installed without their own dependencies"""
    constraints: str = "images.txt"
    """file under constraints/ that pins the rest of its libraries; empty for none"""

    @property
    def is_exact(self) -> bool:
        return self.python == self.image_python and self.requirements == self.image_requirements

    def description(self) -> str:
        """Its Python and libraries, with the image's version beside each that differs."""
        wanted = _versions(self.image_requirements, self.image_python) | {"Python": self.image_python}
        found = {"Python": self.python} | _versions(self.requirements, self.python)
        return ", ".join(
            f"{name} {version}" + (f" (the image has {wanted[name]})" if wanted.get(name, version) != version else "")
            for name, version in found.items()
        )


def stand_in(image: str, table: Mapping[str, StandIn]) -> StandIn | None:
    """The user's entry for an image: its URI as it is given, or else without digest and tag."""
    for uri in (image, image.partition("@")[0], _without_tag(image)):
        if uri in table:
            return table[uri]
    return None


def environment_name(image: str) -> str:
    """The environment of a prebuilt image's URI, or of one of Docker's Python images. Raises NoEnvironment."""
    python = _PYTHON.fullmatch(image)
    if python is not None:
        return _python_environment(python[1] or "")
    untagged = _without_tag(image)
    for environment, entry in _table()["environments"].items():
        if untagged in entry["images"]:
            return str(environment)
    match = _PREBUILT.fullmatch(image)
    if match is None:
        raise NoEnvironment(
            f"{image} is not a prebuilt image of Vertex AI. Only Docker could run it, and this emulator runs "
            "containers as processes in the environments of prebuilt images. emulator.image_table in config can "
            "name what stands in for it."
        )
    name = f"{match[1]}/{match[2]}"
    for environment, entry in _table()["environments"].items():
        if name in entry["images"]:
            return str(environment)
    known = sorted(
        image.partition("/")[2]
        for entry in _table()["environments"].values()
        for image in entry["images"]
        if image.startswith(match[1])
    )
    raise NoEnvironment(
        f"No environment stands in for the prebuilt image {image} yet. There is one for {', '.join(known)}; "
        "more can be described in emulator/runners/images.toml."
    )


def check_environment(name: str) -> None:
    """Raises NoEnvironment for a name that is not in the table."""
    known = _table()["environments"]
    if name not in known and not _PYTHON_NAME.fullmatch(name):
        raise NoEnvironment(f"There is no environment {name}; there are {', '.join(known)}.")


def default_environment() -> str:
    """What is made before anything runs."""
    return str(_table()["default"])


def recipe(environment: str, own_python: str, has_python: Callable[[str], bool], *, exact: bool) -> Recipe:
    """How to make an environment on this machine. Raises NoEnvironment.

    The image's library versions come first, its version of Python second: a model is loaded by the library.
    own_python: the emulator's, always at hand. has_python: whether another one is.
    exact: nothing but the image's versions will do.
    """
    entry = _entry(environment)
    wanted, requirements = str(entry["python"]), tuple(entry["requirements"])
    nearest = {python: tuple(listed) for python, listed in entry.get("nearest", {}).items()}
    choices = [(own_python, requirements)] if own_python in entry["pythons"] else []
    choices += [(wanted, requirements)] if has_python(wanted) else []
    choices += [(own_python, nearest[own_python])] if own_python in nearest else []
    choices += [(python, listed) for python, listed in nearest.items() if has_python(python)]
    if exact:
        choices = [choice for choice in choices if choice == (wanted, requirements)]
    if not choices:
        reason = (
            f"emulator.images is exact, which needs Python {wanted}, and no python{wanted} is installed"
            if exact
            else f"none of its versions has wheels for Python {own_python}"
        )
        raise NoEnvironment(f"The environment {environment} cannot be made here: {reason}.")
    python, chosen = choices[0]
    common = tuple(_table()["common"])
    return Recipe(
        environment,
        python,
        (*chosen, *common),
        wanted,
        (*requirements, *common),
        tuple(_table()["bare"]),
        str(entry.get("constraints", "images.txt")),
    )


def _without_tag(image: str) -> str:
    return re.sub(r"(:[^:/@]+)?(@.*)?$", "", image)


def _python_environment(tag: str) -> str:
    """The environment of a tag such as `3.11-slim`; without a version, of the newest that there is."""
    match = re.match(r"3\.(\d+)", tag)
    newest = _table()["python"]["pythons"][-1]
    return f"python.3-{match[1] if match else newest.partition('.')[2]}"


def _entry(environment: str) -> dict[str, Any]:
    """The table's entry for an environment."""
    named = _PYTHON_NAME.fullmatch(environment)
    if named is None:
        entry: dict[str, Any] = _table()["environments"][environment]
        return entry
    image, plain = f"3.{named[1]}", _table()["python"]
    pythons, requirements = plain["pythons"], plain["requirements"]
    nearest = {python: requirements for python in pythons if python != image}
    known = [image] if image in pythons else []
    return {"python": image, "pythons": known, "requirements": requirements, "nearest": nearest}


def _versions(requirements: tuple[str, ...], python: str) -> dict[str, str]:
    """Library -> pinned version, of the requirements that apply to a Python."""
    versions = {}
    for line in requirements:
        pin, _, marker = line.partition(";")
        name, pinned, version = pin.strip().partition("==")
        if pinned and _applies(marker.strip(), python):
            versions[name] = version
    return versions


def _applies(marker: str, python: str) -> bool:
    """Whether `python_version < '3.11'` or `>=` holds; the table has no other markers."""
    match = re.fullmatch(r"python_version (<|>=) '3\.(\d+)'", marker)
    if match is None:
        return not marker
    minor = int(python.partition(".")[2])
    return minor < int(match[2]) if match[1] == "<" else minor >= int(match[2])


@cache
def _table() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(_TABLE.read_text())
