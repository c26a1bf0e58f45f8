"""Model servers: one process tree for each replica of a deployed model, in a sandbox of its own.

A prebuilt prediction image is served by the program in model_server/, run by the image's environment. It
listens on a Unix socket in a folder that is mounted for nothing else; HTTP goes through that.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from google.api_core.exceptions import Cancelled, DeadlineExceeded, FailedPrecondition, ServiceUnavailable

from emulator.core.ids import new_id
from emulator.core.interfaces import (
    ContainerResult,
    ExitReason,
    ModelServer,
    OutputLine,
    SandboxCaller,
    ServerAnswer,
)
from emulator.runners.environments import Environments
from emulator.runners.http_client import AnswerTooLarge, HttpClient
from emulator.runners.images import NoEnvironment
from emulator.runners.output import Tail
from emulator.runners.sandbox import Description, Sandboxes, StartFailed
from emulator.runners.sandbox_process import SandboxProcess

logger = logging.getLogger(__name__)

Output = Callable[[Sequence[OutputLine]], None]

_PROGRAM = Path(__file__).with_name("model_server")
_PROGRAM_SEEN = "/opt/selfloop/model_server"
_MODEL_SEEN = "/opt/selfloop/model"
_SOCKET_FOLDER_SEEN = "/run/server"
#: A request has few rows: on a machine with other work, threads that wait for one another cost a row of gradient
#: boosting 200 ms at the 99th percentile instead of 12. The container_spec may say otherwise.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_POLL_SECONDS = 0.02
_HEALTH_SECONDS = 10.0
#: From SIGTERM to SIGKILL: a server that is asked to go has been drained already.
_GRACE_SECONDS = 3.0


class ModelServers:
    """Starts model servers. folder: for their sockets, one private folder a server."""

    def __init__(self, sandboxes: Sandboxes, environments: Environments, folder: Path) -> None:
        self._sandboxes = sandboxes
        self._environments = environments
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)

    def check_image(self, image: str) -> str | None:
        """None when the image can be served from, else the sentence that says why not."""
        if "/prediction/sklearn-cpu." not in image:
            return f"The image {image} cannot be served: only prebuilt scikit-learn prediction images can."
        return self._environments.check(image)

    def start(self, server: ModelServer, output: Output) -> RunningServer:
        """Begin and return at once; preparing the environment is part of the run."""
        folder = self._folder / new_id()
        (folder / "mounted").mkdir(parents=True, mode=0o700)
        return RunningServer(self, server, output, folder)

    def run(self, running: RunningServer, server: ModelServer, output: Output, folder: Path) -> ContainerResult:
        """The whole life of one server, on its own thread."""
        reason = self.check_image(server.image)
        if reason is not None:
            return ContainerResult(1, ExitReason.START_FAILED, reason)
        try:
            environment = self._environments.of_image(
                server.image, lambda line: output([OutputLine(line, is_error=False)])
            )
            sandbox = self._sandboxes.open(
                Description(
                    name=server.name,
                    environment=environment,
                    caller=SandboxCaller(server.name, server.project, server.service_account),
                    writable={_SOCKET_FOLDER_SEEN: folder / "mounted"},
                    readonly={_PROGRAM_SEEN: _PROGRAM} | ({_MODEL_SEEN: server.artifacts} if server.artifacts else {}),
                )
            )
        except (StartFailed, NoEnvironment) as error:
            return ContainerResult(1, ExitReason.START_FAILED, str(error))
        try:
            model = sandbox.seen(_MODEL_SEEN)
            listening = sandbox.seen(f"{_SOCKET_FOLDER_SEEN}/socket")
            program = sandbox.seen(_PROGRAM_SEEN)
            process = sandbox.start(
                ["python3", program, "--model", model, "--socket", listening],
                {
                    **_ONE_THREAD,
                    **server.env,
                    "AIP_HTTP_PORT": str(server.port),
                    "AIP_HEALTH_ROUTE": server.health_route,
                    "AIP_PREDICT_ROUTE": server.predict_route,
                    "AIP_STORAGE_URI": model if server.artifacts else "",
                },
            )
            running.began(process)
            ending = process.follow(output)
            return ContainerResult(ending.code, ending.reason, ending.message, ending.stderr_tail)
        except StartFailed as error:
            return ContainerResult(1, ExitReason.START_FAILED, str(error))
        finally:
            sandbox.close()


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
        self._address: str | None = None
        self._client = HttpClient(self._connect)
        self._thread = threading.Thread(target=self._run, name=server.name, daemon=True)
        self._thread.start()

    def wait_until_ready(self, timeout_seconds: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until the health route answers 200.

        Raises FailedPrecondition when it ends or takes longer, Cancelled once that is asked for.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._ended.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                why = f"It was not ready after {timeout_seconds:g} seconds."
                raise FailedPrecondition(self._never_ready(why))
            if is_cancelled():
                raise Cancelled("The deployment was cancelled.")
            if self._find_socket() and self._is_healthy(min(left, _HEALTH_SECONDS)):
                return
            self._ended.wait(_POLL_SECONDS)
        raise FailedPrecondition(self._never_ready(self._how_it_ended()))

    def request(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """POST to the container. Raises ServiceUnavailable when it is gone, DeadlineExceeded when it is slow."""
        try:
            return self._client.request("POST", route, body, content_type, timeout_seconds)
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

    def began(self, process: SandboxProcess) -> None:
        """What `ModelServers.run` tells: there is a process now, perhaps too late."""
        with self._lock:
            self._process = process
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
            self._client.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _take_output(self, lines: Sequence[OutputLine]) -> None:
        self._tail.add(list(lines))
        self._output(lines)

    def _find_socket(self) -> bool:
        """Whether the server listens. Its socket is then taken out of the folder that the sandbox can write.

        Otherwise code of the model could put a link to another socket of this machine in its place.
        """
        if self._address is not None:
            return True
        taken = self._folder / "socket"
        try:
            (self._folder / "mounted" / "socket").rename(taken)
        except FileNotFoundError:
            return False
        if not stat.S_ISSOCK(taken.lstat().st_mode):
            raise FailedPrecondition(self._never_ready("What it put in place of its socket is none."))
        if sys.platform == "linux":
            # An address may have 107 bytes, and the state directory more. Open as long as anyone may connect.
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, descriptor)
            self._address = f"/proc/self/fd/{descriptor}/socket"
        else:
            self._address = os.fspath(taken)
        return True

    def _connect(self, timeout_seconds: float) -> socket.socket:
        if self._address is None or self._ended.is_set():
            raise ConnectionRefusedError("it is not running")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout_seconds)
            connection.connect(self._address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_healthy(self, timeout_seconds: float) -> bool:
        with contextlib.suppress(OSError, ValueError, AnswerTooLarge):
            return self._client.request("GET", self._server.health_route, b"", "", timeout_seconds).status == 200
        return False

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
