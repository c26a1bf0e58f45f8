"""What services and runners ask of one another. `app.py` passes in the objects that do it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Protocol


class ObjectStore(Protocol):
    """Cloud Storage as the rest of the emulator needs it. URIs are `gs://bucket/name`.

    Every method raises google.api_core's NotFound for a bucket or object that is not there.
    """

    def read(self, uri: str) -> Iterator[bytes]:
        """The object's bytes in pieces."""
        ...

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        """Make or replace an object."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """URIs of all objects whose name begins with the prefix's, in order."""
        ...

    def download(self, prefix: str, folder: Path) -> int:
        """Copy every object below `gs://bucket/dir/` into a folder; gives back how many. Names cannot leave it."""
        ...

    def begin_job(self) -> list[str]:
        """Before a sandbox sees /gcs; `end_job` has to follow. Gives back what the job's log should say."""
        ...

    def end_job(self) -> list[str]:
        """Make objects of the files that a sandbox wrote under /gcs; gives back what the job's log should say."""
        ...

    @property
    def tree(self) -> Path:
        """The folder that sandboxes see as /gcs: `<tree>/<bucket>/<name>`."""
        ...


class ServiceBuckets(Protocol):
    """Buckets that a service keeps for itself in Cloud Storage."""

    def make(self, name: str, project: str, location: str) -> None:
        """Make one in a project, unless it is there."""
        ...

    def clear(self, prefix: str) -> None:
        """Delete every object whose URI begins so; a bucket that is not there has none."""
        ...


@dataclass(frozen=True)
class LogRecord:
    """One entry on its way to Cloud Logging; the store stamps what is left out."""

    log_id: str
    resource_type: str
    resource_labels: Mapping[str, str]
    payload: str | Mapping[str, Any]
    severity: str = "DEFAULT"
    labels: Mapping[str, str] = field(default_factory=dict)
    time: datetime | None = None


class LogSink(Protocol):
    """Cloud Logging as the rest of the emulator needs it."""

    def write(self, project: str, records: Iterable[LogRecord]) -> None:
        """Store entries of one project (its id), in this order, stamped now where they have no time."""
        ...


class MessageSink(Protocol):
    """Pub/Sub as the rest of the emulator needs it."""

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Send a message to `projects/P/topics/T`; nothing happens where there is no such topic."""
        ...


@dataclass(frozen=True)
class OutputLine:
    """One line that a container printed."""

    text: str
    is_error: bool
    """on standard error"""


@dataclass(frozen=True)
class PythonPackage:
    """Source distributions or wheels to install, and the module to run: PythonPackageSpec."""

    uris: tuple[str, ...]
    module: str


class ReplicaNetwork(Protocol):
    """By which the replicas of one job reach one another, from before the first starts until the last is over."""

    @property
    def addresses(self) -> Sequence[str]:
        """`host:port` for each replica: where it should listen, and where the others find it."""
        ...

    @property
    def problem(self) -> str | None:
        """Why they cannot reach one another after all; None where they can."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Container:
    """What to run: one replica of a job, or one model server. Everything that Vertex AI calls a container."""

    name: str
    """unique among what runs, such as `customJobs/123/workerpool0-0`; also the caller's name in the journal"""
    project: str
    """id of the project on whose behalf it runs"""
    service_account: str
    """e-mail of the identity that it has"""
    image: str
    """image URI, mapped to a Python environment"""
    command: tuple[str, ...] = ()
    """in place of the image's entry point"""
    args: tuple[str, ...] = ()
    package: PythonPackage | None = None
    """for prebuilt training images: what to install and run"""
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    """after which it is stopped, on the machine's clock"""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """path inside -> folder outside, writable; /gcs is always there besides"""
    network: ReplicaNetwork | None = None
    """what it shares with others, given by `ContainerRunner.connect`; its HOSTNAME is one of the names there"""


class ExitReason(Enum):
    """Why a container is over."""

    EXITED = "Error"
    """by itself, with `exit_code`"""
    START_FAILED = "StartError"
    """it could not begin: no such image, package or command; `message` says what"""
    TIMED_OUT = "Timeout"
    CANCELLED = "Cancelled"
    OUT_OF_MEMORY = "OOMKilled"
    DISK_QUOTA = "DiskQuotaExceeded"
    LOST = "NodeLost"
    """something outside ended what it ran in: no fault of the program's"""


@dataclass(frozen=True)
class ContainerResult:
    """How a container ended. exit_code is 128 + n after signal n, as shells and Kubernetes count."""

    exit_code: int
    reason: ExitReason
    message: str = ""
    stderr_tail: str = ""
    """the last lines of standard error, at most 4 KiB"""

    @property
    def succeeded(self) -> bool:
        return self.reason is ExitReason.EXITED and self.exit_code == 0


class ContainerHandle(Protocol):
    """A running container."""

    def wait(self) -> ContainerResult:
        """Block until it is over, its output delivered and its whole process tree gone."""
        ...

    def cancel(self) -> None:
        """SIGTERM, and SIGKILL for the whole tree after a grace period. Returns at once; idempotent."""
        ...


class ContainerRunner(Protocol):
    """Runs containers as processes, in a sandbox where the machine allows one."""

    def start(self, container: Container, output: Callable[[Sequence[OutputLine]], None]) -> ContainerHandle:
        """Begin and return at once; preparing (environment, packages) is part of the run.

        output: called from one thread of the runner with lines in the order they were printed, those of the
        preparation among them.
        """
        ...

    def connect(self, caller: SandboxCaller, hostnames: Sequence[str]) -> ReplicaNetwork:
        """A network for containers of these host names; `close` it. Their calls to the emulator are the caller's."""
        ...

    def check_image(self, image: str) -> str | None:
        """None when an environment can stand in for the image, else the sentence that says why not."""
        ...


@dataclass(frozen=True)
class Probe:
    """How a container is asked whether it is well. Defaults are the service's.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """

    path: str | None = None
    """what is got over HTTP; None: that a connection is taken will do"""
    initial_delay_seconds: float = 0.0
    period_seconds: float = 10.0
    timeout_seconds: float = 10.0
    failure_threshold: int = 4
    success_threshold: int = 1


@dataclass(frozen=True)
class ModelServer:
    """What to serve with: one replica of a deployed model, by the contract of prediction containers.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """

    name: str
    """unique among what runs, such as `endpoints/1/deployedModels/2/replicas/0`"""
    project: str
    """id of the project on whose behalf it runs"""
    service_account: str
    """e-mail of the identity that it has"""
    image: str
    """image URI; a prebuilt prediction image is mapped to a Python environment"""
    artifacts: Path | None = None
    """folder with the service's own copy of the model's files, seen read-only; AIP_STORAGE_URI names it inside"""
    health_route: str = "/health"
    predict_route: str = "/predict"
    port: int = 8080
    """AIP_HTTP_PORT"""
    command: tuple[str, ...] = ()
    """in place of the image's entry point"""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """AIP_* and those of the container_spec, in its order, with `$(NAME)` in them"""
    startup_probe: Probe | None = None
    """what must succeed before the health probe counts"""
    health_probe: Probe | None = None
    """None: GET health_route"""
    liveness_probe: Probe | None = None
    """None: a connection to the port"""


@dataclass(frozen=True)
class ServerAnswer:
    """What a model server answered over HTTP."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True)
class ServerStream:
    """A model server's answer whose body has yet to come; its pieces raise what asking for them may raise."""

    status: int
    content_type: str
    pieces: Iterator[bytes]


class ModelServerHandle(Protocol):
    """One life of a model server; a crash ends it."""

    def wait_until_ready(self, timeout_seconds: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until the health route answers 200.

        Raises FailedPrecondition with the server's last output, Cancelled once that is asked for.
        """
        ...

    def request(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """POST to the container. Raises ServiceUnavailable when it is gone, DeadlineExceeded when it is slow."""
        ...

    def stream(
        self, route: str, body: bytes, content_type: str, timeout_seconds: float
    ) -> AbstractContextManager[ServerStream]:
        """The same with the answer as it comes, for the time of a `with`; the time is for the whole of it."""
        ...

    def wait(self) -> ContainerResult:
        """Block until it is over, its output delivered and its whole process tree gone."""
        ...

    def stop(self) -> None:
        """End the whole process tree. Returns once it is gone; idempotent."""
        ...


class ModelServerRunner(Protocol):
    """Runs model servers as processes, in a sandbox where the machine allows one."""

    def start(self, server: ModelServer, output: Callable[[Sequence[OutputLine]], None]) -> ModelServerHandle:
        """Begin and return at once; preparing the environment is part of the run. output: as of ContainerRunner."""
        ...

    def check_image(self, image: str, *, has_command: bool) -> str | None:
        """None when the image can be served from, else the sentence that says why not.

        has_command: whether the container_spec names a command, which takes the place of the image's own.
        """
        ...


@dataclass(frozen=True)
class SandboxCaller:
    """Who is behind a sandbox's listener, as the metadata server inside tells and the journal notes."""

    name: str
    project: str
    service_account: str


class SandboxNetwork(Protocol):
    """The one way out of a sandbox, provided by the emulator's front."""

    @property
    def port(self) -> int:
        """The port of the emulator, and of the listener inside every private network."""
        ...

    @property
    def ca_bundle(self) -> Path:
        """The machine's certificates with the emulator's; to be visible inside."""
        ...

    def environment(self, ca_bundle: str, caller: SandboxCaller | None) -> Mapping[str, str]:
        """Proxy, certificate and metadata variables for a process that sees the bundle at this path."""
        ...

    def attach(self, listener: socket.socket, caller: SandboxCaller) -> Callable[[], None]:
        """Accept on a listener that a sandbox handed out; what is given back closes it."""
        ...
