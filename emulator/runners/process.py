"""Containers as local processes: the `process` runtime."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from emulator.core.interfaces import (
    Container,
    ContainerHandle,
    ContainerResult,
    ExitReason,
    ObjectStore,
    OutputLine,
    ReplicaNetwork,
    SandboxCaller,
    SandboxNetwork,
)
from emulator.runners import component_command
from emulator.runners.bucket_links import BucketLinks
from emulator.runners.component_command import PythonComponent
from emulator.runners.environments import Environment, Environments
from emulator.runners.images import NoEnvironment
from emulator.runners.limits import TIMEOUT_MESSAGE, Limits
from emulator.runners.packages import INSTALL_WHEEL, INSTALL_WHEEL_SEEN, CommandFailed, Installer
from emulator.runners.replica_network import LocalNetwork, SharedNetwork, UnconnectedNetwork
from emulator.runners.sandbox import Description, Sandbox, Sandboxes, StartFailed
from emulator.runners.sandbox_process import Ending, Output, SandboxProcess
from emulator.runners.warm import WarmInterpreters
from emulator.runners.wheel_cache import WheelCache
from emulator.settings import Settings

logger = logging.getLogger(__name__)

#: What Kubernetes gives a container whose command could not be started.
_START_ERROR = 128


class ProcessRunner:
    """`ContainerRunner` by sandboxed processes. Raises StartFailed when the level asked for cannot be had."""

    def __init__(
        self, settings: Settings, objects: ObjectStore, network: SandboxNetwork, limits: Limits | None = None
    ) -> None:
        self.sandboxes = Sandboxes(settings, objects.tree, network)
        self.environments = Environments(
            exact=settings.images == "exact", offline=not settings.egress, table=settings.image_table
        )
        self.objects = objects
        self.limits = limits or Limits()
        self.warm = WarmInterpreters(self.sandboxes, self.limits)
        self.has_way_out = bool(settings.egress)
        self.wheels = WheelCache(settings.state / "wheels")
        self.links = BucketLinks(objects.tree)
        self.links.remove_left()
        self._running: set[_Run] = set()

    def start(self, container: Container, output: Output) -> ContainerHandle:
        run = _Run(self, container, output, self._running.discard)
        self._running.add(run)
        run.thread.start()
        return run

    def connect(self, caller: SandboxCaller, hostnames: Sequence[str]) -> ReplicaNetwork:
        if self.sandboxes.level == "none":
            return LocalNetwork(hostnames)
        try:
            return SharedNetwork(hostnames, self.sandboxes.network, caller)
        except (OSError, RuntimeError) as error:
            return UnconnectedNetwork(hostnames, f"this machine does not let sandboxes share a network ({error})")

    def check_image(self, image: str) -> str | None:
        return self.environments.check(image)

    def close(self) -> None:
        """End every container, at once."""
        running = list(self._running)
        for run in running:
            run.cancel()
        self.warm.close()
        self.sandboxes.close()
        for run in running:
            run.thread.join(timeout=10)


class _Stopped(Exception):
    """The container ends here, by no fault of a program's start."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.message)
        self.ending = ending


class _Run:
    """One container's life, on a thread of its own."""

    def __init__(
        self, runner: ProcessRunner, container: Container, output: Output, over: Callable[[_Run], None]
    ) -> None:
        self.thread = threading.Thread(target=self._live, name=f"container {container.name}", daemon=True)
        self._runner = runner
        self._container = container
        self._output = output
        self._over = over
        self._sandbox: Sandbox | None = None
        self._sees_objects = False
        self._process: SandboxProcess | None = None
        self._deadline = None if container.timeout_seconds is None else time.monotonic() + container.timeout_seconds
        self._cancelled = False
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._result = ContainerResult(_START_ERROR, ExitReason.START_FAILED)

    def wait(self) -> ContainerResult:
        self._done.wait()
        return self._result

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.stop(ExitReason.CANCELLED)

    def _live(self) -> None:
        try:
            self._result = self._run_and_clean_up()
        except Exception as error:
            logger.exception("the container %s could not be run to its end", self._container.name)
            self._result = ContainerResult(_START_ERROR, ExitReason.START_FAILED, f"The emulator failed: {error}")
        finally:
            self._done.set()
            self._over(self)

    def _run_and_clean_up(self) -> ContainerResult:
        # Links are for level `none`: elsewhere /gcs is a mount of the sandbox's own.
        linked = self._runner.sandboxes.level == "none"
        if linked:
            self._runner.links.acquire()
        try:
            ending = self._run()
        except (StartFailed, NoEnvironment) as failure:
            return ContainerResult(_START_ERROR, ExitReason.START_FAILED, str(failure))
        except _Stopped as stopped:
            ending = stopped.ending
        except CommandFailed as failure:
            ending = failure.ending
            self._report(str(failure))
            self._report(f"Task completed. Exit code ({ending.code}). Exit reason (SUBPROCESS_EXCEPTION)")
        finally:
            self._clean_up(linked)
        return ContainerResult(ending.code, ending.reason, ending.message, ending.stderr_tail)

    def _clean_up(self, linked: bool) -> None:
        try:
            if self._sees_objects:
                for line in self._runner.objects.end_job():
                    self._report(line)
        finally:
            if self._sandbox is not None:
                self._sandbox.close()
            if linked:
                self._runner.links.release()

    def _run(self) -> Ending:
        container = self._container
        if self._runner.sandboxes.level == "none":
            self._check_without_sandbox()
        environment = self._runner.environments.of_image(container.image, self._report)
        self._report(f"{container.image} runs as a local process with {environment.description}.")
        self._sees_objects = True
        for line in self._runner.objects.begin_job():
            self._report(line)
        if container.package is not None:
            self._sandbox = self._open(environment)
            return self._run_package(container.package.uris, container.package.module)
        command = container.command or self._runner.environments.entrypoint(container.image)
        if not command:
            raise StartFailed(
                f"The container names no command, and that of {container.image} is not known here; "
                "name one, or an entrypoint in emulator.image_table of config"
            )
        component = component_command.recognise(command, container.args)
        if component is not None and component_command.is_met(component.requirements, environment):
            self._report(f"The environment has {', '.join(component.requirements)}: pip has nothing to do.")
            return self._run_component(component, environment)
        self._sandbox = self._open(environment)
        return self._execute([*command, *container.args], self._output)

    def _run_component(self, component: PythonComponent, environment: Environment) -> Ending:
        """A Python component whose requirements are met, in an interpreter that waits for one if there is any."""
        container = self._container
        alone = not container.mounts and container.network is None
        warm = self._runner.warm.take(environment, container.env) if alone else None
        if warm is not None:
            self._sandbox = warm.sandbox
            caller = SandboxCaller(container.name, container.project, container.service_account)
            begin = partial(warm.begin, component, caller, _hostname(container), container.env)
            # It may have ended while it waited.
            with contextlib.suppress(StartFailed):
                try:
                    return self._follow(begin, self._output)
                finally:
                    if warm.process.is_alive:
                        warm.discard()
        self._sandbox = self._open(environment)
        return self._execute(component.command, self._output)

    def _run_package(self, uris: Sequence[str], module: str) -> Ending:
        """PythonPackageSpec, with the log lines of the runner in Vertex AI's images."""
        assert self._sandbox is not None  # noqa: S101  # opened by the caller
        container = self._container
        self._report("Running run_module.py")
        self._report(f"Running task with arguments: {_task_arguments(container, self._sandbox.description.hostname)}")
        self._report(f"Running module {module}.")
        Installer(
            self._sandbox,
            self._runner.objects,
            self._runner.wheels,
            self._report,
            self._run_command,
            self._ask,
            container.image,
            self._runner.has_way_out,
        ).install(uris)
        command = ["python3", "-m", module, *container.args]
        self._report(f"Running command: {' '.join(command)}")
        self._run_command(command)
        self._report("Task completed. Exit code (0). Exit reason (SUCCEEDED)")
        return Ending(0)

    def _open(self, environment: Environment) -> Sandbox:
        container = self._container
        return self._runner.sandboxes.open(
            Description(
                container.name,
                environment,
                SandboxCaller(container.name, container.project, container.service_account),
                hostname=_hostname(container),
                env=container.env,
                writable=container.mounts,
                readonly={INSTALL_WHEEL_SEEN: INSTALL_WHEEL},
                network=container.network if isinstance(container.network, SharedNetwork) else None,
                limits=self._runner.limits,
            )
        )

    def _check_without_sandbox(self) -> None:
        """Say what level `none` means, and refuse what cannot be done there. Raises StartFailed."""
        container = self._container
        self._report(
            f"Sandbox level none ({self._runner.sandboxes.level_reason}): this process sees the machine's files, "
            "and only its proxy variables lead it to the emulator."
        )
        moved = [inside for inside, folder in container.mounts.items() if inside != os.fspath(folder)]
        if moved:
            paths = ", ".join(moved)
            raise StartFailed(f"{container.name} needs {paths} mounted, which sandbox level none cannot do")
        texts = [*container.command, *container.args, *container.env.values()]
        outputs = [value for name, value in container.env.items() if name.startswith("AIP_")]
        problem = self._runner.links.problem(texts, outputs)
        if problem is not None:
            raise StartFailed(f"{container.name} cannot be run: {problem}")
        if self._runner.links.warning is not None:
            self._report(f"There is no /gcs in this run: {self._runner.links.warning}.")

    def _execute(self, command: Sequence[str], output: Output) -> Ending:
        """Run one program to its end. Raises StartFailed, and _Stopped when it was made to end."""
        assert self._sandbox is not None  # noqa: S101  # opened before anything runs
        return self._follow(partial(self._sandbox.start, command, None), output)

    def _follow(self, start: Callable[[float | None], SandboxProcess], output: Output) -> Ending:
        """Start a program, given the seconds that it has, and follow it to its end."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if self._cancelled:
            raise _Stopped(Ending(128 + signal.SIGTERM, ExitReason.CANCELLED))
        if left is not None and left <= 0:
            raise _Stopped(Ending(128 + signal.SIGTERM, ExitReason.TIMED_OUT, TIMEOUT_MESSAGE))
        process = start(left)
        with self._lock:
            self._process = process
            if self._cancelled:
                process.stop(ExitReason.CANCELLED)
        ending = process.follow(output)
        with self._lock:
            self._process = None
        if ending.reason is not ExitReason.EXITED:
            raise _Stopped(ending)
        return ending

    def _run_command(self, command: Sequence[str], read: Output = lambda lines: None) -> None:
        """Run a program whose failure is the container's. read: gets its lines besides the log."""

        def deliver(lines: Sequence[OutputLine]) -> None:
            read(lines)
            self._output(lines)

        ending = self._execute(command, deliver)
        if ending.code != 0:
            raise CommandFailed(command, ending)

    def _ask(self, command: Sequence[str]) -> list[OutputLine]:
        """What a program of ours prints; what it complains of goes to the log."""
        answers: list[OutputLine] = []

        def sort(lines: Sequence[OutputLine]) -> None:
            answers.extend(line for line in lines if not line.is_error)
            complaints = [line for line in lines if line.is_error]
            if complaints:
                self._output(complaints)

        self._execute(command, sort)
        return answers

    def _report(self, text: str) -> None:
        self._output([OutputLine(text, is_error=False)])


def _hostname(container: Container) -> str:
    """HOSTNAME of the container's variables, or one in Vertex AI's style."""
    named = container.env.get("HOSTNAME", "")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", named):
        return named
    slug = re.sub(r"[^a-z0-9]+", "-", container.name.lower()).strip("-")
    return f"cmle-training-{slug}"[:63].rstrip("-")


def _task_arguments(container: Container, hostname: str) -> str:
    """The runner's own description of its task: a cluster of several replicas is in TF_CONFIG."""
    assert container.package is not None  # noqa: S101  # only packages have a runner
    try:
        config = json.loads(container.env.get("TF_CONFIG", ""))
        cluster, task = config["cluster"], config["task"]
    except (ValueError, KeyError, TypeError):
        cluster, task = {"chief": [f"{hostname}:2222"]}, {"type": "chief", "index": 0}
    job = {
        "python_module": container.package.module,
        "package_uris": list(container.package.uris),
        "job_args": list(container.args),
    }
    return f"--cluster={json.dumps(cluster)} --task={json.dumps(task)} --job={json.dumps(job)}"
