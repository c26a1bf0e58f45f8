"""Python environments that stand in for prebuilt images."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Environment:
    """An installed environment, never written to by what runs in it."""

    root: Path
    """sys.prefix of it"""
    interpreter: Path
    """the Python that it was made from, links resolved"""
    python: str
    """such as `3.11`"""
    notes: tuple[str, ...] = ()
    """in what it differs from the image, one sentence each, for the job's log"""

    @property
    def base(self) -> Path:
        """sys.base_prefix: the installation that the interpreter belongs to."""
        return self.interpreter.parent.parent

    @property
    def wheels(self) -> Path:
        """What builds source distributions, as wheels: pip finds it here when no index can be reached."""
        return self.root / "wheels"

    @property
    def site_packages(self) -> Path:
        return self.root / "lib" / f"python{self.python}" / "site-packages"


def write_overlay(folder: Path, seen: str, environment: Environment) -> None:
    """A virtual environment in a sandbox that sees another one's packages and takes what is installed in it.

    folder: where it is made; seen: the path by which programs find it. `pip install` goes to it, `pip install
    --user` to the home, as root's does in the images, and either wins over the environment's own packages.
    """
    programs = folder / "bin"
    packages = folder / "lib" / f"python{environment.python}" / "site-packages"
    for made in (programs, packages):
        made.mkdir(parents=True)
    for name in ("python", "python3", f"python{environment.python}"):
        (programs / name).symlink_to(environment.interpreter)
    for name in ("pip", "pip3"):
        # Through sh: the kernel takes no interpreter's path beyond 255 bytes, nor one with a space.
        (programs / name).write_text(f'#!/bin/sh\nexec "{seen}/bin/python3" -m pip "$@"\n')
        (programs / name).chmod(0o755)
    (folder / "pyvenv.cfg").write_text(
        f"home = {environment.interpreter.parent}\ninclude-system-site-packages = true\n"
    )
    # "System" packages allow pip its --user, but those of the interpreter itself must not show: no prefixes.
    # A line of a .pth file is executed when it begins with `import`.
    (packages / "environment.pth").write_text(
        "import site, sys; site.PREFIXES.clear(); "
        "sys.flags.no_user_site or site.addsitedir(site.getusersitepackages()); "
        f"site.addsitedir({os.fspath(environment.site_packages)!r})\n"
    )


def own() -> Environment:
    """The environment that the emulator itself runs in."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return Environment(Path(sys.prefix), executable, f"{sys.version_info[0]}.{sys.version_info[1]}")
