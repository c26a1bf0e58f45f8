"""The package index in force, handed on to uv."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_UV_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
_UV_FILES = (Path("~/.config/uv/uv.toml"), Path("/etc/uv/uv.toml"))


def uv_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to run uv with.

    Where pip has been given an index of its own and uv has not, uv gets pip's: an organisation that configures one
    of the two means both. Nothing of an active virtual environment or of a switched-off byte code is left.
    """
    variables = {
        name: value
        for name, value in environment.items()
        if name not in ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME")
    }
    if any(variables.get(name) for name in (*_UV_INDEX, "UV_CONFIG_FILE")):
        return variables
    if any(path.expanduser().exists() for path in _UV_FILES):
        return variables
    pip = pip_settings()
    if "index-url" in pip:
        variables["UV_DEFAULT_INDEX"] = pip["index-url"]
        # pip takes the best version of all its indexes; uv would stop at the first that has the package.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if "extra-index-url" in pip:
            variables["UV_INDEX"] = pip["extra-index-url"]
        if "find-links" in pip:
            variables["UV_FIND_LINKS"] = ",".join(pip["find-links"].split())
    if "cert" in pip:
        variables.setdefault("SSL_CERT_FILE", pip["cert"])
    return variables


def pip_settings() -> dict[str, str]:
    """pip's options in force, by long name, out of its files and variables; none where there is no pip."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    settings: dict[str, str] = {}
    # In pip's own order, later ones winning: global, user, then per command, then variables.
    for section in ("global", "install", ":env:"):
        for line in listed.splitlines():
            name, equals, value = line.partition("=")
            if equals and name.startswith(f"{section}."):
                words = shlex.split(value.replace("\\n", " "))
                settings[name.removeprefix(f"{section}.")] = " ".join(words)
    return settings
