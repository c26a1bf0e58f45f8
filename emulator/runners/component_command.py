"""The command that kfp compiles a Python function to, and what of it need not be done.

    sh -c PREPARE sh -ec RUN SOURCE, and --executor_input … --function_to_execute …

PREPARE installs what the component names with pip, and kfp, and then runs the rest. Where the environment has it
all, the rest is run alone, which saves the starts of pip. What differs in the least from the template is left as
it is.
Source: kfp's compiler (component_factory.py)
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from emulator.runners.environments import Environment

_PREPARE = re.compile(
    r"\nif ! \[ -x \"\$\(command -v pip\)\" \]; then\n"
    r"    python3 -m ensurepip \|\| python3 -m ensurepip --user \|\| apt-get install python3-pip\nfi\n\n"
    r"PIP_DISABLE_PIP_VERSION_CHECK=1 (python3 -m pip install [^\n]*?) && \"\$0\" \"\$@\"\n"
)
_INSTALL = ("python3", "-m", "pip", "install", "--quiet", "--no-warn-script-location")
_RUN = re.compile(
    r"program_path=\$\(mktemp -d\)\n\nprintf \"%s\" \"\$0\" > \"\$program_path/ephemeral_component\.py\"\n"
    r"_KFP_RUNTIME=true python3 -m kfp\.dsl\.executor_main\s+--component_module_path\s+"
    r"\"\$program_path/ephemeral_component\.py\"\s+\"\$@\"\n"
)


@dataclass(frozen=True)
class PythonComponent:
    """A function that kfp runs."""

    requirements: tuple[str, ...]
    """what has to be there before, kfp among it"""
    source: str
    """of the module that holds the function"""
    args: tuple[str, ...]
    """of kfp's executor"""
    command: tuple[str, ...]
    """what is left to run once the requirements are met"""


def recognise(command: Sequence[str], args: Sequence[str]) -> PythonComponent | None:
    """The component that a container's command is; None for any other command."""
    match tuple(command):
        case ("sh", "-c", prepare, "sh", "-ec", run, source):
            found = _PREPARE.fullmatch(prepare)
            if found is None or not _RUN.fullmatch(run):
                return None
            requirements = _requirements(found[1])
            if requirements is None:
                return None
            return PythonComponent(requirements, source, tuple(args), ("sh", "-ec", run, source, *args))
    return None


def is_met(requirements: Sequence[str], environment: Environment) -> bool:
    """Whether an environment has all that is required, in the versions that are."""
    installed = _installed(environment.site_packages)
    markers: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]  # a TypedDict of strings
    markers["python_version"] = environment.python
    markers["python_full_version"] = f"{environment.python}.0"
    return all(_has(one, installed, markers) for one in requirements)


def _requirements(text: str) -> tuple[str, ...] | None:
    """Those of `pip install A B && pip install C --no-deps`; None where it does something else besides."""
    found: list[str] = []
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    commands: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    for command in commands:
        if tuple(command[: len(_INSTALL)]) != _INSTALL:
            return None
        named = [word for word in command[len(_INSTALL) :] if word != "--no-deps"]
        if any(word.startswith("-") for word in named):
            return None
        found += named
    return tuple(found)


def _has(text: str, installed: Mapping[str, str], markers: dict[str, str]) -> bool:
    try:
        one = Requirement(text)
    except InvalidRequirement:
        return False
    if one.marker is not None and not one.marker.evaluate(markers):
        return True
    # What extras bring is not looked into, nor what an address leads to.
    version = installed.get(canonicalize_name(one.name))
    return version is not None and not one.url and not one.extras and one.specifier.contains(version, prereleases=True)


@lru_cache(maxsize=64)
def _installed(site_packages: Path) -> Mapping[str, str]:
    """Canonical name -> version. An environment does not change once it is made."""
    return {canonicalize_name(one.metadata["Name"]): one.version for one in distributions(path=[str(site_packages)])}
