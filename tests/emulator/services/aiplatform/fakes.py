"""Stand-ins for what runs, stores and logs: for tests of states, where a process would only add time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from google.api_core.exceptions import NotFound
from selfloop_apis.aiplatform_v1 import Model

from emulator.core.interfaces import Container, ContainerResult, ExitReason, LogRecord, OutputLine, SandboxCaller

SUCCESS = ContainerResult(0, ExitReason.EXITED)


class FakeHandle:
    """A container that runs until `finish` or `cancel`."""

    def __init__(self, container: Container, output: Callable[[Sequence[OutputLine]], None]) -> None:
        self.container = container
        self.output = output
        self.cancelled = threading.Event()
        self.heeds = True
        """whether `cancel` ends it"""
        self._over = threading.Event()
        self._result = SUCCESS

    def finish(self, result: ContainerResult = SUCCESS) -> None:
        if not self._over.is_set():
            self._result = result
            self._over.set()

    def wait(self) -> ContainerResult:
        self._over.wait(60)
        return self._result

    def cancel(self) -> None:
        self.cancelled.set()
        if self.heeds:
            self.finish(ContainerResult(143, ExitReason.CANCELLED))


@dataclass
class FakeNetwork:
    addresses: Sequence[str]
    problem: str | None = None

    def close(self) -> None: ...


class FakeRunner:
    """Starts nothing. `result` ends every container at once; without one they wait for the test."""

    def __init__(self, result: ContainerResult | None = None) -> None:
        self.result = result
        self.started: list[FakeHandle] = []
        self.refused: dict[str, str] = {}

    def start(self, container: Container, output: Callable[[Sequence[OutputLine]], None]) -> FakeHandle:
        handle = FakeHandle(container, output)
        self.started.append(handle)
        if self.result is not None:
            handle.finish(self.result)
        return handle

    def connect(self, caller: SandboxCaller, hostnames: Sequence[str]) -> FakeNetwork:
        return FakeNetwork([f"{name}:{2222 + index}" for index, name in enumerate(hostnames)])

    def check_image(self, image: str) -> str | None:
        return self.refused.get(image)


class FakeLogs:
    def __init__(self) -> None:
        self.records: list[tuple[str, LogRecord]] = []

    def write(self, project: str, records: Iterable[LogRecord]) -> None:
        self.records += [(project, record) for record in records]

    def of_task(self, task_name: str) -> list[LogRecord]:
        return [record for _, record in self.records if record.resource_labels["task_name"] == task_name]


class FakeObjects:
    """Names of objects, and nothing in them."""

    def __init__(self, *uris: str) -> None:
        self.uris = list(uris)

    def names(self, prefix: str) -> Iterator[str]:
        if not any(uri.startswith(prefix.split("/")[2], 5) for uri in self.uris):
            raise NotFound(prefix)
        return (uri for uri in self.uris if uri.startswith(prefix))

    def begin_job(self) -> list[str]:
        raise AssertionError("runners begin and end jobs")

    def end_job(self) -> list[str]:
        raise AssertionError("runners begin and end jobs")

    def read(self, uri: str) -> Iterator[bytes]:
        raise NotFound(uri)

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        self.uris.append(uri)

    def download(self, prefix: str, folder: Path) -> int:
        raise NotFound(prefix)

    @property
    def tree(self) -> Path:
        return Path("/nonexistent")


class MemoryObjects(FakeObjects):
    """Objects with content, handed out in small pieces."""

    def __init__(self, **files: str) -> None:
        """files: names in the bucket `data`, without `.csv`."""
        super().__init__(*(f"gs://data/{name}.csv" for name in files))
        self.content = {f"gs://data/{name}.csv": text.encode() for name, text in files.items()}

    def read(self, uri: str) -> Iterator[bytes]:
        if uri not in self.content:
            raise NotFound(uri)
        data = self.content[uri]
        return (data[start : start + 7] for start in range(0, len(data), 7))

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        super().write(uri, data, content_type)
        self.content[uri] = b"".join(data)


class FakeModels:
    """A registry that remembers what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.registered: list[tuple[str, Model, str, str]] = []
        self._error = error

    def register(self, parent: str, model: Model, model_id: str, parent_model: str) -> Model:
        if self._error:
            raise self._error
        self.registered.append((parent, model, model_id, parent_model))
        stored = Model()
        stored.CopyFrom(model)
        stored.name = f"{parent}/models/{model_id or 77}"
        stored.version_id = "1"
        return stored
