"""The two worlds that a configuration may name, and the connection to each.

`emulator` is the local Google Cloud: the variables of the running one are put into this process. `google` is
the real one, with the credentials of the person at the keyboard. Nothing below this module knows which of
the two it talks to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

from ops import emulator
from ops.config import Config, World
from ops.errors import OpsError

MARKER = "SELFLOOP_UPSTREAM_PROXY"
"""an emulator's exports always hold it"""

_PROXIES = ("https_proxy", "HTTPS_PROXY", "grpc_proxy")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
DIRECT_HOSTS = (
    "STORAGE_EMULATOR_HOST",
    "BIGQUERY_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
    "API_ENDPOINT_OVERRIDE",
)


def connect(config: Config, *, emulated: bool = False, environ: MutableMapping[str, str] = os.environ) -> World:
    """Set up this process's connection to the configuration's world; gives back which world it is.

    emulated: rehearse an environment of the world `google` on this machine's emulator.
    Call it before any client of Google's is built: they read variables once.
    Raises OpsError when variables of an emulator would answer for the real Google Cloud, or when no emulator
    runs.
    """
    world = world_of(config, emulated=emulated)
    if world == "emulator":
        environ.update(emulator.variables(config))
        for name in DIRECT_HOSTS:
            environ.pop(name, None)  # they would lead around the variables just set
        return world
    leading = emulator_variables(environ)
    if leading:
        raise OpsError(
            f"config/{config.environment}.yaml names the real Google Cloud, "
            f"but {leading[0]} leads to an emulator; "
            f"open a fresh shell, or rehearse on the emulator with --emulated"
        )
    return world


def world_of(config: Config, *, emulated: bool = False) -> World:
    return "emulator" if emulated else config.world


def emulator_variables(environ: Mapping[str, str]) -> list[str]:
    """Names of set variables that lead a client to some emulator."""
    found = [name for name in DIRECT_HOSTS if environ.get(name)]
    if MARKER in environ:
        found = [name for name in _PROXIES if urlsplit(environ.get(name, "")).hostname in _LOOPBACK] + found
    return found


def shell_command(command: str, environ: Mapping[str, str] = os.environ) -> str:
    """A command for the person to type, so that it reaches the world that this process is connected to."""
    return f"inv emulator.exec -- {command}" if emulator_variables(environ) else command


def announce(config: Config, *, emulated: bool = False) -> None:
    """Say on standard error which project of which world is about to be changed."""
    where = "on the emulator" if world_of(config, emulated=emulated) == "emulator" else "on Google Cloud"
    print(
        f"project {config.project} {where} ({config.environment}, {config.location})",
        file=sys.stderr,
        flush=True,
    )


def confirm(config: Config, question: str, *, yes: bool, emulated: bool = False) -> None:
    """Ask before a change where the configuration says so.

    Raises OpsError when the answer is no, or when nobody is there to ask.
    """
    if yes or emulated or not config.confirm:
        return
    if not sys.stdin.isatty():
        raise OpsError(f"{question} Nobody is there to answer; say --yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise OpsError("nothing was changed")
