"""Installing a job's own Python packages, as the runner inside Vertex AI's training images does.

The files are fetched and looked at outside; whatever executes them (setup.py is user code) runs in the sandbox.
Source: the log lines of that runner, as published in job logs.
"""

from __future__ import annotations

import json
import posixpath
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.api_core.exceptions import GoogleAPIError

from emulator.core.interfaces import ObjectStore, OutputLine
from emulator.runners.sandbox import Sandbox, StartFailed
from emulator.runners.sandbox_process import Ending
from emulator.runners.wheel_cache import WheelCache

#: Where a job's packages lie in its sandbox.
_FOLDER = "/opt/packages"
_PACKAGE_BYTES = 1 << 30
INSTALL_WHEEL = Path(__file__).with_name("install_wheel.py")
#: Where a sandbox that installs packages has to show INSTALL_WHEEL.
INSTALL_WHEEL_SEEN = "/run/selfloop/install_wheel.py"

Report = Callable[[str], None]


class CommandFailed(Exception):
    """A command in the sandbox did not end well."""

    def __init__(self, command: Sequence[str], ending: Ending) -> None:
        super().__init__(f"Command '{list(command)}' returned non-zero exit status {ending.code}.")
        self.ending = ending

    def explain(self, text: str) -> None:
        """Add to what the job's error repeats."""
        self.ending = replace(self.ending, stderr_tail=f"{self.ending.stderr_tail.rstrip()}\n{text}")


class Conflict:
    """pip's account of requirements that exclude one another, which it prints on standard output."""

    _BEGINNING = "The conflict is caused by:"

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._is_over = False

    def read(self, lines: Sequence[OutputLine]) -> None:
        for line in lines:
            if line.is_error or self._is_over or not (self._lines or line.text == self._BEGINNING):
                continue
            self._is_over = not line.text.strip()
            self._lines.append(line.text)

    @property
    def text(self) -> str:
        return "\n".join(self._lines).rstrip()


#: Runs a command in the sandbox, its output going to the job's log and to the second argument; raises CommandFailed.
Run = Callable[[Sequence[str], Callable[[Sequence[OutputLine]], None]], None]
#: Runs one and gives back the lines that it printed.
Ask = Callable[[Sequence[str]], list[OutputLine]]


@dataclass(frozen=True)
class Installer:
    """Installs into one sandbox, before any other program runs there."""

    sandbox: Sandbox
    objects: ObjectStore
    cache: WheelCache
    report: Report
    run: Run
    ask: Ask
    image: str
    has_way_out: bool
    """whether a package index may be reached"""

    def install(self, uris: Sequence[str]) -> None:
        """All packages, in order. Raises StartFailed, or CommandFailed when the package's own code fails."""
        self.sandbox.outside(_FOLDER).mkdir()
        packages = [self._fetch(uri, index) for index, uri in enumerate(uris)]
        for package in packages:
            self._install(package)

    def _fetch(self, uri: str, index: int) -> _Package:
        """Download and inspect a package, and lay a wheel built of it earlier beside it."""
        # Compression takes milliseconds to import, which the emulator's start should not pay.
        from emulator.runners import archives

        name = posixpath.basename(uri)
        self.report(f"Downloading the package: {uri}")
        self.report(f"Running command: gsutil -q cp {uri} {name}")
        folder = f"{_FOLDER}/{index}"
        self.sandbox.outside(folder).mkdir()
        file = self.sandbox.outside(folder) / name
        size = 0
        try:
            with file.open("xb") as target:
                for piece in self.objects.read(uri):
                    size += len(piece)
                    if size > _PACKAGE_BYTES:
                        raise StartFailed(f"{uri} is no Python package: it is larger than {_PACKAGE_BYTES >> 30} GiB")
                    target.write(piece)
            archive = archives.inspect(file)
        except GoogleAPIError as error:
            raise StartFailed(
                f"The package {uri} could not be downloaded: {getattr(error, 'message', error)}"
            ) from None
        except archives.NotAPackage as error:
            raise StartFailed(f"{uri} is no Python package: {error}") from None
        except (OSError, ValueError) as error:  # a name that is none for a file
            raise StartFailed(f"The package {uri} could not be downloaded: {error}") from None
        environment = self.sandbox.description.environment
        assert environment is not None  # noqa: S101  # packages are installed for a Python
        key = None if archive.is_wheel else self.cache.key(file, environment.root)
        wheel = f"{folder}/{name}" if archive.is_wheel else None
        built = self.cache.find(key) if key is not None else None
        if built is not None:
            shutil.copyfile(built, self.sandbox.outside(folder) / built.name)
            wheel = f"{folder}/{built.name}"
        return _Package(uri, f"{folder}/{name}", f"{folder}/built", wheel, key, archive.builds_with_setuptools)

    def _install(self, package: _Package) -> None:
        name = posixpath.basename(package.file)
        self.report(f"Installing the package: {package.uri}")
        self.report(f"Running command: pip3 install --user --upgrade --force-reinstall --no-deps {name}")
        wheel = package.wheel or self._build(package)
        seen = self.sandbox.seen(wheel)
        distribution = posixpath.basename(wheel).partition("-")[0]
        unmet = self._unmet(seen, distribution)
        if unmet is None:
            self._pip(["pip3", "install", "--user", "--upgrade", "--force-reinstall", "--no-deps", "--no-index", seen])
            unmet = self._unmet(distribution)
        else:
            self.report(f"Successfully installed {'-'.join(posixpath.basename(wheel).split('-')[:2])}")
        self.report(f"Running command: pip3 install --user {name}")
        self._install_requirements(unmet, distribution, seen)

    def _build(self, package: _Package) -> str:
        """The wheel of a source distribution, built by its own code, kept for the next job."""
        command = ["pip3", "wheel", "--no-deps", "--wheel-dir", self.sandbox.seen(package.built)]
        if package.builds_with_setuptools:
            command.append("--no-build-isolation")
        self._pip([*command, self.sandbox.seen(package.file)])
        wheels = [name for name in self.sandbox.names(package.built) if name.endswith(".whl")]
        if len(wheels) != 1:
            raise StartFailed(f"{package.uri} is no Python package: building it left {len(wheels)} wheels")
        path = f"{package.built}/{wheels[0]}"
        try:
            content = self.sandbox.read(path, _PACKAGE_BYTES)
        except OSError as error:
            raise StartFailed(f"{package.uri} is no Python package: {error}") from error
        if package.key is not None:
            self.cache.keep(package.key, wheels[0], content)
        return path

    def _pip(self, command: Sequence[str]) -> None:
        """Raises CommandFailed, which says what excludes what where requirements do."""
        conflict = Conflict()
        try:
            self.run(command, conflict.read)
        except CommandFailed as failure:
            if conflict.text:
                failure.explain(conflict.text)
            raise

    def _unmet(self, *arguments: str) -> list[str] | None:
        """What install_wheel.py prints; None when it prints none, or nothing that can be understood."""
        lines = self.ask(["python3", self.sandbox.seen(INSTALL_WHEEL_SEEN), *arguments])
        try:
            return [str(requirement) for requirement in json.loads(lines[-1].text)]
        except (IndexError, ValueError, TypeError):
            return None

    def _install_requirements(self, unmet: list[str] | None, distribution: str, wheel: str) -> None:
        """What the environment meets already installs nothing and asks nobody."""
        if unmet is None:
            # Metadata that cannot be read: pip is the judge of it.
            self._pip(["pip3", "install", "--user", wheel, *([] if self.has_way_out else ["--no-index"])])
            return
        if unmet and not self.has_way_out:
            raise StartFailed(
                f"{distribution} needs {', '.join(unmet)}, which the environment of {self.image} does not have, "
                "and emulator.egress in config lets nothing out: add package-index"
            )
        if unmet:
            self._pip(["pip3", "install", "--user", wheel])


@dataclass(frozen=True)
class _Package:
    uri: str
    file: str
    """path in the sandbox"""
    built: str
    """folder in the sandbox for the wheel"""
    wheel: str | None
    """path in the sandbox, where it needs no building"""
    key: str | None
    builds_with_setuptools: bool
