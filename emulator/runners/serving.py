"""Model servers: one process tree for each replica of a deployed model, in a sandbox of its own.

A prebuilt prediction image is served by the program in model_server/, a container of one's own by the program that
it names; server_programs.py knows which, doors.py the way in, probing.py whether it is well.
"""

from __future__ import annotations

import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from google.api_core.exceptions import Cancelled, DeadlineExceeded, FailedPrecondition, ServiceUnavailable

from emulator.core.ids import new_id
from emulator.core.interfaces import (
    ContainerResult,
    ExitReason,
    ModelServer,
    OutputLine,
    Probe,
    ServerAnswer,
    ServerStream,
)
from emulator.runners import server_programs
from emulator.runners.doors import Door, DoorError
from emulator.runners.environments import Environments
from emulator.runners.http_client import AnswerTooLarge, HttpClient
from emulator.runners.images import NoEnvironment
from emulator.runners.output import Tail
from emulator.runners.probing import Prober, ask
from emulator.runners.sandbox import Sandboxes, StartFailed
from emulator.runners.sandbox_process import SandboxProcess

logger = logging.getLogger(__name__)

Output = Callable[[Sequence[OutputLine]], None]

_POLL_SECONDS = 0.02
#: From SIGTERM to SIGKILL: a server that is asked to go has been drained already.
_GRACE_SECONDS = 3.0


class ModelServers:
    """Starts model servers. folder: for their sockets, one private folder a server."""

    def __init__(self, sandboxes: Sandboxes, environments: Environments, folder: Path) -> None:
        self._sandboxes = sandboxes
        self._environments = environments
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)

    def check_image(self, image: str, *, has_command: bool) -> str | None:
        """None when the image can be served from, else the sentence that says why not."""
        return server_programs.check(image, self._environments, has_command=has_command)

    def start(self, server: ModelServer, output: Output) -> RunningServer:
        """Begin and return at once; preparing the environment is part of the run."""
        folder = self._folder / new_id()
        (folder / "mounted").mkdir(parents=True, mode=0o700)
        return RunningServer(self, server, output, folder)

    def run(self, running: RunningServer, server: ModelServer, output: Output, folder: Path) -> ContainerResult:
        """The whole life of one server, on its own thread."""
        reason = self.check_image(server.image, has_command=bool(server.command))
        if reason is not None:
            return ContainerResult(1, ExitReason.START_FAILED, reason)
        try:
            environment = self._environments.of_image(
                server.image, lambda line: output([OutputLine(line, is_error=False)])
            )
            opened = server_programs.open_server(server, self._sandboxes, self._environments, environment, folder)
        except (StartFailed, NoEnvironment) as error:
            return ContainerResult(1, ExitReason.START_FAILED, str(error))
        try:
            process = opened.sandbox.start(opened.command, opened.env, folder=opened.folder)
            running.began(process, opened.door)
            ending = process.follow(output)
            return ContainerResult(ending.code, ending.reason, ending.message, ending.stderr_tail)
        except StartFailed as error:
            return ContainerResult(1, ExitReason.START_FAILED, str(error))
        finally:
            opened.close()


class RunningServer:
    """A `ModelServerHandle`."""

    def __init__(self, servers: ModelServers, server: ModelServer, output: Output, folder: Path) -> None:
        self._servers = servers
        self._server = server
        self._output = output
        self._folder = folder
        self._tail = Tail()
        self._ended = threading.Event()
        self._result: ContainerResult | None = None
        self._lock = threading.Lock()
        self._process: SandboxProcess | None = None
        self._is_stopped = False
        self._door: Door | None = None
        self._client = HttpClient(self._connect)
        self._health = server.health_probe or Probe(path=server.health_route)
        self._prober = Prober(
            server.name, self._client, self._health, server.liveness_probe or Probe(), on_dead=self._end_dead
        )
        self._thread = threading.Thread(target=self._run, name=server.name, daemon=True)
        self._thread.start()

    def wait_until_ready(self, timeout_seconds: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until the startup probe, where there is one, and then the health probe succeed.

        Raises FailedPrecondition when it ends or takes longer, Cancelled once that is asked for.
        """
        probes = [probe for probe in (self._server.startup_probe, self._health) if probe is not None]
        if self._server.startup_probe is not None:
            timeout_seconds = min(timeout_seconds, _startup_seconds(self._server.startup_probe))
        deadline = time.monotonic() + timeout_seconds
        while not self._ended.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                why = f"It was not ready after {timeout_seconds:g} seconds."
                raise FailedPrecondition(self._never_ready(why))
            if is_cancelled():
                raise Cancelled("The deployment was cancelled.")
            if self._is_open() and ask(self._client, probes[0], left):
                probes.pop(0)
                if not probes:
                    self._prober.start()
                    return
            self._ended.wait(_POLL_SECONDS)
        raise FailedPrecondition(self._never_ready(self._how_it_ended()))

    def request(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """POST to the container. Raises ServiceUnavailable when it is gone, DeadlineExceeded when it is slow."""
        with self._asked(timeout_seconds):
            return self._client.request("POST", route, body, content_type, timeout_seconds)

    @contextmanager
    def stream(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> Iterator[ServerStream]:
        """The same with the answer as it comes."""
        with (
            self._asked(timeout_seconds),
            self._client.stream("POST", route, body, content_type, timeout_seconds) as answer,
        ):
            yield answer

    @contextmanager
    def _asked(self, timeout_seconds: float) -> Iterator[None]:
        """A request to the server: how it fails is raised as the caller's error."""
        if not self._prober.is_healthy:
            raise ServiceUnavailable("The model server is not healthy: its health probe fails.")
        try:
            yield
        except TimeoutError:
            raise DeadlineExceeded(f"The model server did not answer within {timeout_seconds:g} seconds.") from None
        except (OSError, ValueError, AnswerTooLarge) as error:
            raise ServiceUnavailable(f"The model server did not answer the request: {error}") from None

    def wait(self) -> ContainerResult:
        """Block until it is over, its output delivered and its whole process tree gone."""
        self._thread.join()
        assert self._result is not None  # noqa: S101  # the thread's last act
        return self._result

    def stop(self) -> None:
        """End the whole process tree. Returns once it is gone; idempotent."""
        with self._lock:
            self._is_stopped = True
            process = self._process
        if process is not None:
            process.stop()
            if not process.ended.wait(_GRACE_SECONDS):
                process.kill()
        self._ended.wait()

    def began(self, process: SandboxProcess, door: Door) -> None:
        """What `ModelServers.run` tells: there is a process now, perhaps too late."""
        with self._lock:
            self._process = process
            self._door = door
            is_late = self._is_stopped
        if is_late:
            process.kill()

    def _run(self) -> None:
        try:
            self._result = self._servers.run(self, self._server, self._take_output, self._folder)
        except Exception as error:
            logger.exception("the server %s could not be run", self._server.name)
            self._result = ContainerResult(1, ExitReason.START_FAILED, f"{type(error).__name__}: {error}")
        finally:
            self._ended.set()
            self._prober.stop()
            self._client.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take_output(self, lines: Sequence[OutputLine]) -> None:
        self._tail.add(list(lines))
        self._output(lines)

    def _is_open(self) -> bool:
        try:
            return self._door is not None and self._door.is_open()
        except DoorError as error:
            raise FailedPrecondition(self._never_ready(str(error))) from None

    def _connect(self, timeout_seconds: float) -> socket.socket:
        if self._door is None or self._ended.is_set():
            raise ConnectionRefusedError("it is not running")
        return self._door.connect(timeout_seconds)

    def _end_dead(self, why: str) -> None:
        logger.warning("%s is ended: %s", self._server.name, why)
        if self._process is not None:
            self._process.stop(ExitReason.EXITED, why, _GRACE_SECONDS)

    def _how_it_ended(self) -> str:
        result = self.wait()
        if result.reason is ExitReason.START_FAILED:
            return result.message
        text = f'Model server terminated: exit_code: {result.exit_code} reason: "{result.reason.value}".'
        return f"{text} {result.message}".strip()

    def _never_ready(self, why: str) -> str:
        said = self._tail.text
        last = f" Its last output:\n{said}\n" if said else ""
        return (
            "Model server never became ready. Please validate that your model file or container configuration "
            f"are valid. {why}{last}"
        )


def _startup_seconds(probe: Probe) -> float:
    """After which a container that has not started by its startup probe is given up."""
    return probe.initial_delay_seconds + probe.failure_threshold * probe.period_seconds
