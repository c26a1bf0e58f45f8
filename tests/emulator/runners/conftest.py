"""A runner over a folder for an object store and a plain socket server for the emulator, at both sandbox levels."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from google.api_core.exceptions import NotFound

from emulator.core.egress import Egress
from emulator.core.interfaces import Container, ContainerResult, OutputLine, PythonPackage, SandboxCaller
from emulator.runners import bubblewrap
from emulator.runners.limits import Limits
from emulator.runners.process import ProcessRunner
from emulator.runners.sandbox import Sandboxes
from emulator.runners.wheel_cache import WheelCache
from emulator.settings import SandboxLevel, Settings, StandIn
from tests.conftest import REQUIRE_ALL

IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
MIB = 1 << 20
#: Level none links it into the machine's own /gcs, where other runs of these tests do the same.
BUCKET = f"bucket-{uuid4().hex[:12]}"


class FolderStore:
    """`ObjectStore` over plain files."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.published = 0
        self.words: list[str] = []

    def read(self, uri: str) -> Iterator[bytes]:
        try:
            yield self._path(uri).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"No such object: {uri}") from None

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        path = self._path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(data))

    def names(self, prefix: str) -> Iterator[str]:
        raise NotImplementedError

    def download(self, prefix: str, folder: Path) -> int:
        raise NotImplementedError

    def begin_job(self) -> list[str]:
        return []

    def end_job(self) -> list[str]:
        self.published += 1
        return self.words

    def _path(self, uri: str) -> Path:
        return self.tree / uri.removeprefix("gs://")


class EchoNetwork:
    """`SandboxNetwork` whose emulator answers every connection with the name of who is calling."""

    def __init__(self, folder: Path) -> None:
        self.ca_bundle = folder / "ca.pem"
        self.ca_bundle.write_text("the emulator's certificate\n")
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._answer(self._server, "the machine")

    def environment(self, ca_bundle: str, caller: SandboxCaller | None) -> Mapping[str, str]:
        return {"HTTPS_PROXY": f"http://127.0.0.1:{self.port}", "SSL_CERT_FILE": ca_bundle}

    def attach(self, listener: socket.socket, caller: SandboxCaller) -> Callable[[], None]:
        return self._answer(listener, caller.name)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    @staticmethod
    def _answer(listener: socket.socket, name: str) -> Callable[[], None]:
        def accept() -> None:
            with listener:
                while True:
                    try:
                        client, _ = listener.accept()
                    except OSError:
                        return
                    with client:
                        client.sendall(name.encode())

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()

        def close() -> None:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)

        return close


@dataclass
class Job:
    """What came of a container."""

    result: ContainerResult
    lines: list[OutputLine] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)


@dataclass
class Runtime:
    """A runner with what it stands on."""

    runner: ProcessRunner
    objects: FolderStore
    network: EchoNetwork
    settings: Settings

    @property
    def is_full(self) -> bool:
        return self.runner.sandboxes.level == "full"

    def container(self, *command: str, image: str = IMAGE, **more: Any) -> Container:
        return Container(
            name="customJobs/1/workerpool0-0",
            project="project",
            service_account="robot@project.iam.gserviceaccount.com",
            image=image,
            command=command,
            **more,
        )

    def python(self, source: str, *args: str, **more: Any) -> Job:
        """Run a program to its end."""
        return self.run(self.container("python3", "-c", source, *args, **more))

    def run(self, container: Container) -> Job:
        lines: list[OutputLine] = []
        result = self.runner.start(container, lines.extend).wait()
        return Job(result, lines)

    def run_package(self, *sources: bytes | str, module: str = "trainer.task", args: Sequence[str] = ()) -> Job:
        """Run a module of packages, given as the bytes of source distributions or as the URIs of some."""
        uris = []
        for index, source in enumerate(sources):
            uri = source if isinstance(source, str) else f"gs://{BUCKET}/packages/trainer-{index}.1.tar.gz"
            if isinstance(source, bytes):
                self.objects.write(uri, [source])
            uris.append(uri)
        return self.run(self.container(package=PythonPackage(tuple(uris), module), args=tuple(args)))


def source_distribution(
    module: str, *, name: str = "trainer", requires: Sequence[str] = (), setup: str | None = None, **files: str
) -> bytes:
    """The sdist of a package `name` with a module `task`. files: further members, `_` standing for a dot."""
    setup = setup or (
        f"from setuptools import setup\nsetup(name={name!r}, version='0.1', packages=[{name!r}], "
        f"install_requires={list(requires)!r})\n"
    )
    members = {"setup.py": setup, f"{name}/__init__.py": "", f"{name}/task.py": module}
    members |= {path.replace("_", "."): text for path, text in files.items()}
    return tarball({f"{name}-0.1/{path}": text for path, text in members.items()})


def tarball(files: Mapping[str, str], *others: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for member in others:
            tar.addfile(member)
    return packed.getvalue()


def require_full() -> None:
    reason = bubblewrap.why_unavailable()
    if reason is not None:
        if REQUIRE_ALL:
            pytest.fail(f"sandbox level full is not available and SELFLOOP_REQUIRE_ALL=1: {reason}")
        pytest.skip(reason)


MakeRuntime = Callable[..., Runtime]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> WheelCache:
    """Shared by all tests: building takes longest, and a package is the same at either level."""
    return WheelCache(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def make_runtime(tmp_path: Path, wheels: WheelCache) -> Iterator[MakeRuntime]:
    made: list[Runtime] = []

    def make(
        level: SandboxLevel,
        limits: Limits | None = None,
        egress: tuple[str, ...] = (),
        image_table: Mapping[str, StandIn] | None = None,
    ) -> Runtime:
        if level == "full":
            require_full()
        folder = tmp_path / str(len(made))
        (folder / "objects" / "tree" / BUCKET).mkdir(parents=True)
        settings = Settings(state=folder, sandbox=level, egress=egress, image_table=image_table or {})
        objects, network = FolderStore(folder / "objects" / "tree"), EchoNetwork(folder)
        runner = ProcessRunner(settings, objects, network, limits)
        runner.wheels = wheels
        made.append(Runtime(runner, objects, network, settings))
        return made[-1]

    yield make
    for runtime in made:
        runtime.runner.close()
        runtime.network.close()


@pytest.fixture(params=["full", "none"])
def level(request: pytest.FixtureRequest) -> SandboxLevel:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def runtime(level: SandboxLevel, make_runtime: MakeRuntime) -> Runtime:
    """With no way out to a package index."""
    return make_runtime(level)


@pytest.fixture
def sandboxes(runtime: Runtime) -> Sandboxes:
    return runtime.runner.sandboxes


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_with(mark: str) -> list[int]:
    """Processes of the machine whose command line holds a mark."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if mark.encode() in file.read() and is_running(int(name)):
                        found.append(int(name))
            except OSError:
                continue
    return found


def index_is_reachable() -> bool:
    """Whether packages can be fetched from here."""
    egress = Egress(["package-index"])
    hosts = [url.split("/")[2] for url in egress.indexes()]
    try:
        egress.connect(hosts[0], 443).close()
    except (OSError, IndexError):
        return False
    return True
