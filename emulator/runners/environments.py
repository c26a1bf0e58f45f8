"""Python environments that stand in for prebuilt images: made once with uv, shared by all emulators, read-only.

They lie beside the emulator's own packages, in `<sys.prefix>/environments`, so that they go with the installation.
What a job installs goes to an overlay of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from emulator.runners import images
from emulator.runners.images import NoEnvironment, Recipe
from emulator.runners.package_index import uv_variables
from emulator.settings import StandIn

logger = logging.getLogger(__name__)

_CONSTRAINTS = Path(__file__).parents[2] / "constraints"
_COMMON = "images.txt"
_DONE = "selfloop.json"
_MAKING_SECONDS = 1800


@dataclass(frozen=True)
class Environment:
    """An installed environment, never written to by what runs in it."""

    root: Path
    """sys.prefix of it"""
    interpreter: Path
    """the Python that it was made from, links resolved"""
    python: str
    """such as `3.11`"""
    description: str = ""
    """its Python and libraries, and in what they differ from the image's, for the job's log"""

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


class Environments:
    """Those of this installation."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        exact: bool = False,
        offline: bool = False,
        table: Mapping[str, StandIn] | None = None,
    ) -> None:
        """exact: only the very versions of an image will do. offline: make them of what uv has in its cache.

        table: what the user lets stand in for images of his own.
        """
        self._table = table or {}
        self._folder = folder or Path(sys.prefix) / "environments"
        self._exact = exact
        self._offline = offline
        self._ready: dict[str, Environment] = {}
        self._lock = threading.Lock()

    def check(self, image: str) -> str | None:
        """None when an environment can stand in for the image, else the sentence that says why not."""
        try:
            name = self._name(image)
            if name is None:
                self._of_user(image)
            else:
                self._recipe(name)
        except NoEnvironment as error:
            return str(error)
        return None

    def entrypoint(self, image: str) -> tuple[str, ...]:
        """The image's own command, as far as it is known: that of the user's table."""
        found = self.stand_in(image)
        return found.entrypoint if found else ()

    def stand_in(self, image: str) -> StandIn | None:
        """What the user lets stand in for an image."""
        return images.stand_in(image, self._table)

    def of_image(self, image: str, report: Callable[[str], None] = lambda _: None) -> Environment:
        """The environment for an image, made now if it is not there yet. Raises NoEnvironment.

        report: gets a line when that takes time.
        """
        name = self._name(image)
        return self._of_user(image) if name is None else self.named(name, report)

    def _name(self, image: str) -> str | None:
        """The name of the environment for an image; None for a Python of the user's."""
        found = images.stand_in(image, self._table)
        if found is None:
            return images.environment_name(image)
        if found.python:
            return None
        images.check_environment(found.environment)
        return found.environment

    def _of_user(self, image: str) -> Environment:
        found = images.stand_in(image, self._table)
        assert found is not None  # noqa: S101  # `_name` has found it
        return existing(found.python)

    def named(self, name: str, report: Callable[[str], None] = lambda _: None) -> Environment:
        with self._lock:
            found = self._ready.get(name)
        if found is None:
            found = self._find_or_make(self._recipe(name), report)
            with self._lock:
                self._ready[name] = found
        return found

    def _recipe(self, name: str) -> Recipe:
        return images.recipe(name, own().python, lambda python: find_python(python) is not None, exact=self._exact)

    def _find_or_make(self, recipe: Recipe, report: Callable[[str], None]) -> Environment:
        folder = self._folder / f"{recipe.name}-py{recipe.python}-{_fingerprint(recipe)}"
        found = _installed(folder, recipe)
        if found is not None:
            return found
        with _locked(folder):
            found = _installed(folder, recipe)
            if found is not None:
                return found
            report(f"Making the environment {recipe.name}: {recipe.description()}. It is kept.")
            started = time.monotonic()
            try:
                self._make(folder, recipe)
            except OSError as error:
                raise NoEnvironment(f"The environment {recipe.name} could not be made: {error}") from error
            report(f"Made it in {time.monotonic() - started:.1f} s.")
        found = _installed(folder, recipe)
        if found is None:
            raise NoEnvironment(f"The environment {recipe.name} was removed while it was made.")
        return found

    def _make(self, folder: Path, recipe: Recipe) -> None:
        """Console scripts and byte code carry their path, so it is made in place; a file tells that it is whole."""
        interpreter = find_python(recipe.python)
        if interpreter is None:
            raise NoEnvironment(f"python{recipe.python} is no longer installed.")
        shutil.rmtree(folder, ignore_errors=True)
        python = str(folder / "bin" / "python")
        offline = ["--offline"] if self._offline else []
        install = ["pip", "install", "--python", python, *offline, "--compile-bytecode"]
        self._uv("venv", "--no-project", "--python", str(interpreter), str(folder))
        self._uv(*install, *_pins(recipe.constraints), *recipe.requirements)
        self._uv(*install, *_pins(recipe.constraints or _COMMON), "--no-deps", *recipe.bare)
        self._fetch_wheels(folder, python)
        done = {"interpreter": str(interpreter), "recipe": asdict(recipe)}
        (folder / _DONE).write_text(json.dumps(done, indent=1))

    def _uv(self, *arguments: str) -> None:
        from uv import find_uv_bin

        environment = uv_variables(os.environ)
        done = subprocess.run(
            [find_uv_bin(), *arguments, "--quiet", "--no-python-downloads"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=_MAKING_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            reason = " ".join(done.stderr.split())[-1500:]
            hint = (
                ". Nothing is let out by emulator.egress in config: add package-index, or run "
                "`python -m emulator setup` once"
                if self._offline
                else ""
            )
            raise NoEnvironment(f"uv could not make the environment: {reason}{hint}")

    def _fetch_wheels(self, folder: Path, python: str) -> None:
        """Wheels of setuptools and wheel, of which a job's pip builds source distributions with no network."""
        if self._offline:
            return
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", str(folder / "wheels"), *_pins(_COMMON), "setuptools", "wheel"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MAKING_SECONDS, check=False
        )
        if done.returncode != 0:
            logger.warning("jobs cannot build packages without a network: %s", done.stderr.strip())


def prepare(names: Iterable[str], report: Callable[[str], None] = print) -> None:
    """Make what the first training and serving need, and environments of these names besides.

    Nothing is done for one that is there. Raises NoEnvironment.
    """
    made = Environments()
    for name in (images.default_environment(), *names):
        images.check_environment(name)
        made.named(name, report)


def own() -> Environment:
    """The environment that the emulator itself runs in."""
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    return Environment(Path(sys.prefix), executable, f"{sys.version_info[0]}.{sys.version_info[1]}")


def existing(python: str) -> Environment:
    """The environment that an interpreter belongs to. Raises NoEnvironment when it cannot be run."""
    question = (
        "import json, sys; "
        "print(json.dumps([sys.prefix, getattr(sys, '_base_executable', sys.executable), sys.version_info[:2]]))"
    )
    try:
        answer = subprocess.run(
            [python, "-I", "-c", question], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        prefix, executable, version = json.loads(answer)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NoEnvironment(f"The Python {python} of emulator.image_table cannot be run: {error}") from None
    minor = ".".join(map(str, version))
    return Environment(Path(prefix), Path(executable).resolve(), minor, f"Python {minor} of {prefix}")


@cache
def find_python(minor: str) -> Path | None:
    """An installed interpreter of a minor version, links resolved; the emulator's own before those on PATH."""
    if minor == own().python:
        return own().interpreter
    for folder in os.get_exec_path():
        candidate = Path(folder, f"python{minor}")
        if not os.access(candidate, os.X_OK):
            continue
        # A version manager's stand-in is found here too, and says which program it would run, or fails.
        question = [
            os.fspath(candidate),
            "-I",
            "-c",
            "import sys; print(getattr(sys, '_base_executable', sys.executable))",
        ]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            answer = subprocess.run(question, capture_output=True, text=True, timeout=20, check=False)
            if answer.returncode == 0 and answer.stdout.strip():
                return Path(answer.stdout.strip()).resolve()
    return None


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


def _installed(folder: Path, recipe: Recipe) -> Environment | None:
    try:
        interpreter = Path(json.loads((folder / _DONE).read_text())["interpreter"])
    except (OSError, ValueError, KeyError):
        return None
    if not interpreter.exists():
        return None
    return Environment(folder, interpreter, recipe.python, recipe.description())


def _pins(constraints: str) -> list[str]:
    """pip's options for a file under constraints/; none where it was not installed with the code."""
    file = _CONSTRAINTS / constraints
    return ["--constraint", str(file)] if constraints and file.exists() else []


def _fingerprint(recipe: Recipe) -> str:
    """Changes with whatever changes what would be installed."""
    file = _CONSTRAINTS / (recipe.constraints or _COMMON)
    constraints = file.read_text() if file.exists() else ""
    text = "\n".join((recipe.python, *recipe.requirements, *recipe.bare, constraints))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process makes an environment; the others wait for it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise NoEnvironment(f"{folder.parent} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
