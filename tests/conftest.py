"""One emulator for all tests of a run, and the official clients turned to it.

Each test takes a project of its own from `project`, so that nothing is shared. What needs an emulator of its own
(a restart, another configuration) makes one with `new_emulator`; it gets the same certificate authority, because
gRPC reads its roots once in a process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

Client = TypeVar("Client")

ROOT = Path(__file__).parent.parent
LOCATION = "us-central1"
REQUIRE_ALL = os.environ.get("SELFLOOP_REQUIRE_ALL") == "1"
_START_SECONDS = 60


def require_program(name: str) -> str:
    """The path of a program that a test needs; without it the test is skipped, or fails where all is required."""
    path = shutil.which(name)
    if path is None:
        if REQUIRE_ALL:
            pytest.fail(f"{name} is not installed and SELFLOOP_REQUIRE_ALL=1")
        pytest.skip(f"{name} is not installed")
    return path


def wait_until(condition: Callable[[], Any], seconds: float = 30, every: float = 0.05) -> Any:
    """What the condition gives back once it is true. Fails the test after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(every)
    return pytest.fail(f"nothing of the kind within {seconds} s")


def _forget_credentials() -> None:
    """The Vertex SDK keeps what it has found once, which is one emulator's, for the whole process."""
    initializer = sys.modules.get("google.cloud.aiplatform.initializer")
    if initializer is not None:
        initializer.global_config._credentials = None


@dataclass
class Emulator:
    """A running emulator process."""

    state: Path
    process: subprocess.Popen[str]
    address: str
    """http://127.0.0.1:PORT"""
    variables: dict[str, str]
    """what `inv emulator.env` exports"""

    @property
    def token(self) -> str:
        return (self.state / "token").read_text()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment of a shell that took the exports."""
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**plain, **self.variables, **extra}

    def run(self, *command: str, timeout: float = 120, **extra: str) -> subprocess.CompletedProcess[str]:
        """A program inside the exports, its output captured."""
        return subprocess.run(
            command, env=self.environment(**extra), capture_output=True, text=True, timeout=timeout, check=False
        )

    def control(self, verb: str, path: str, body: Any = None) -> Any:
        """A call of the control API: `control("POST", "clock", {"advance_seconds": 60})`."""
        request = urllib.request.Request(
            f"{self.address}/emulator/{path}",
            method=verb,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as response:
            return json.load(response)

    def client(self, client_class: type[Client], transport: str = "grpc", location: str = LOCATION) -> Client:
        """An official client as a user would make it: only Vertex AI's want their region's host."""
        from google.api_core.client_options import ClientOptions

        options = None
        if client_class.__module__.startswith("google.cloud.aiplatform"):
            options = ClientOptions(api_endpoint=f"{location}-aiplatform.googleapis.com")
        with self.exported():
            return client_class(transport=transport, client_options=options)  # type: ignore[call-arg]  # GAPIC clients

    @contextlib.contextmanager
    def exported(self) -> Iterator[None]:
        """The exports in this process's own environment, for the time of a `with`."""
        before = dict(os.environ)
        os.environ.update(self.variables)
        _forget_credentials()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            _forget_credentials()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the process; SIGKILL for a crash."""
        self.process.send_signal(number)
        self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()


def start_emulator(state: Path, *options: str, **extra: str) -> Emulator:
    """Start `python -m emulator serve` and wait until it is ready."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [sys.executable, "-m", "emulator", "serve", "--state", str(state), *options],
        cwd=ROOT,
        env=environment | {"SELFLOOP_PORT": "0"} | extra,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if "ready" not in line:
        process.kill()
        pytest.fail(f"the emulator did not start: {line!r}")
    emulator = Emulator(state, process, line.split()[-1], {})
    emulator.variables = emulator.control("GET", "env")
    return emulator


@pytest.fixture(scope="session")
def _base_environment() -> Iterator[None]:
    """This process's own variables, as they were, once the session's emulator is gone."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory, _base_environment: None) -> Iterator[Emulator]:
    """The emulator of this run. Its exports are this process's environment from the first test that wants it."""
    running = start_emulator(tmp_path_factory.mktemp("emulator") / "state")
    os.environ.update(running.variables)
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture
def new_emulator(emulator: Emulator, tmp_path: Path) -> Iterator[Callable[..., Emulator]]:
    """Starts further emulators, each on a state of its own unless one is given; stops them afterwards."""
    started: list[Emulator] = []
    numbers = itertools.count()

    def start(*options: str, state: Path | None = None, **extra: str) -> Emulator:
        folder = state or tmp_path / f"state-{next(numbers)}"
        if not (folder / "ca").exists():
            shutil.copytree(emulator.state / "ca", folder / "ca")
        running = start_emulator(folder, *options, **extra)
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()


_projects = itertools.count(1)


@pytest.fixture
def project() -> str:
    """The id of a project that no other test has."""
    return f"test-project-{os.getpid()}-{next(_projects)}"


@pytest.fixture
def parent(project: str) -> str:
    """`projects/P/locations/us-central1` of that project."""
    return f"projects/{project}/locations/{LOCATION}"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """What is marked `long` runs only when it is asked for: `pytest -m long`, `inv test.long`."""
    if "long" in (config.getoption("-m") or ""):
        return
    kept = [item for item in items if item.get_closest_marker("long") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept  # type: ignore[index]  # pytest hands over a list, to be changed in place
