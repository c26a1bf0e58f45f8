"""Custom jobs at work: from PENDING to their end, one thread a job.

A job is stored before it starts. One that was not over when the emulator ended is FAILED with that reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from signal import SIGTERM
from typing import Any

from selfloop_apis.aiplatform_v1 import CustomJob

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.interfaces import (
    Container,
    ContainerHandle,
    ContainerResult,
    ContainerRunner,
    ExitReason,
    LogSink,
    PythonPackage,
    ReplicaNetwork,
    SandboxCaller,
)
from emulator.services.aiplatform import job_failure, job_machine
from emulator.services.aiplatform.job_environment import PORT, TrialPlace, host_name, replica_environment
from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.job_logs import JobLog
from emulator.services.aiplatform.lifecycle import Lifecycle, State
from emulator.services.aiplatform.names import Location, last_part
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.worker_pools import EVALUATORS, Replica, replicas

logger = logging.getLogger(__name__)

#: Jobs that run at a time; the others are PENDING until a place is free.
MOST_AT_A_TIME = 32
#: Without a timeout in the spec. Source: the comment of Scheduling.timeout.
DEFAULT_TIMEOUT_SECONDS = 7 * 24 * 3600
#: How long `close` waits for what it stopped.
_CLOSE_SECONDS = 15
_NOUN = "job"


class _Run:
    """One job at work: its containers, so that it can be cancelled from outside."""

    def __init__(
        self,
        job: CustomJob,
        location: Location,
        log: JobLog,
        *,
        watcher: Callable[[CustomJob], None],
        variables: Mapping[str, str],
        trial: TrialPlace | None,
    ) -> None:
        self.job = job
        self.location = location
        self.log = log
        self.watcher = watcher
        self.variables = variables
        self.trial = trial
        self.future: Future[None] | None = None
        self.over = threading.Event()
        """set once its end is stored"""
        self._lock = threading.Lock()
        self._handles: list[ContainerHandle] = []
        self._stopped = False
        self._cancelled = False
        self._sealed = False

    def cancel(self, move: Callable[[], CustomJob | None]) -> CustomJob | None:
        """Note that a client asked for the end; gives back what `move` makes of the job, None once it is sealed."""
        with self._lock:
            job = None if self._sealed else move()
            self._cancelled = self._cancelled or job is not None
            return job

    def seal(self) -> bool:
        """Decide how it ends: whether as cancelled. No later cancel changes that."""
        with self._lock:
            self._sealed = True
            return self._cancelled

    def add(self, start: Callable[[], ContainerHandle]) -> ContainerHandle | None:
        """Start a container unless the run was stopped meanwhile."""
        with self._lock:
            if self._stopped:
                return None
            handle = start()
            self._handles.append(handle)
            return handle

    def stop(self) -> None:
        """End every container, and let none start."""
        with self._lock:
            self._stopped = True
            for handle in self._handles:
                handle.cancel()


class CustomJobs:
    """Every custom job, running or over."""

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        runner: ContainerRunner,
        logs: LogSink,
    ) -> None:
        self._lifecycle = Lifecycle(state.database, state.custom_jobs, clock)
        self._runner = runner
        self._logs = logs
        self._runs: dict[str, _Run] = {}
        self._pool = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="custom-job")
        self._lifecycle.settle(_NOUN)

    def new_name(self, location: Location) -> str:
        """A name that no job has yet."""
        return f"{location.parent}/customJobs/{new_id()}"

    def log_of(self, location: Location, name: str, trial: TrialPlace | None = None) -> JobLog:
        return JobLog(self._logs, location, last_part(name), trial.id if trial else "")

    def create(
        self,
        location: Location,
        name: str,
        given: CustomJob,
        *,
        watcher: Callable[[CustomJob], None] = lambda job: None,
        variables: Mapping[str, str] | None = None,
        trial: TrialPlace | None = None,
    ) -> CustomJob:
        """Store a checked job as PENDING and start it.

        watcher: told of every further state; of the final one when everything of the job is over.
        variables: environment variables of every replica, besides those that follow from the job.
        trial: where the job is a trial of a hyperparameter tuning job.
        """
        job = CustomJob()
        job.CopyFrom(given)
        stored = self._lifecycle.begin(job, name)
        run = _Run(
            stored,
            location,
            self.log_of(location, name, trial),
            watcher=watcher,
            variables=variables or {},
            trial=trial,
        )
        self._runs[name] = run
        run.future = self._pool.submit(self._work, run)
        return stored

    def cancel(self, name: str) -> None:
        """Ask a job to end; nothing for one that is over. Raises NotFound."""
        move = partial(self._lifecycle.move, name, State.CANCELLING)
        run = self._runs.get(name)
        job = move() if run is None else run.cancel(move)
        if job is None or run is None:
            return
        run.watcher(job)
        if run.future is not None and run.future.cancel():
            # It was still waiting for a place: no thread will end it.
            self._end(run, State.CANCELLED, None)
        run.stop()

    def over(self, name: str) -> threading.Event | None:
        """What is set when a job is over; None for one that is, or that there is not."""
        run = self._runs.get(name)
        return None if run is None else run.over

    def unfinished(self) -> list[str]:
        """Names of the jobs that are not over."""
        return list(self._runs)

    def close(self) -> None:
        """Stop what runs; each such job is FAILED from then on."""
        self._lifecycle.settle(_NOUN)
        runs = list(self._runs.values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for run in runs:
            run.stop()
        wait([run.future for run in runs if run.future is not None], timeout=_CLOSE_SECONDS)

    def _work(self, run: _Run) -> None:
        try:
            state, error = self._run(run)
        except Exception as raised:
            logger.exception("%s failed inside the emulator", run.job.name)
            run.stop()
            state, error = State.FAILED, job_failure.status(Code.INTERNAL, f"Internal error: {raised}")
        self._end(run, state, error)

    def _end(self, run: _Run, state: State, error: Any) -> None:
        """Store a job's end. Whoever sees it finds the whole log."""
        name = run.job.name
        try:
            if run.seal():
                state, error = State.CANCELLED, None
            if state is State.SUCCEEDED:
                run.log.tell("Job completed successfully.")
            elif error is not None:
                run.log.tell(error.message, severity="ERROR")
            ended = self._lifecycle.end(name, state, error)
            if ended is not None:
                run.watcher(ended)
        except Exception:
            logger.exception("the end of %s could not be stored", name)
        finally:
            self._runs.pop(name, None)
            run.over.set()

    def _run(self, run: _Run) -> tuple[State, Any]:
        """Run a job's containers; gives back the state in which it ends, and its error."""
        log, members = run.log, replicas(run.job.job_spec)
        log.tell("Waiting for job to be provisioned.")
        for image in dict.fromkeys(replica.image for replica in members):
            problem = self._runner.check_image(image)
            if problem:
                return State.FAILED, job_failure.status(Code.FAILED_PRECONDITION, problem)
        log.tell(
            "Vertex AI is provisioning job running framework. First time usage might take couple of minutes, "
            "and subsequent runs can be much faster.",
            "Vertex AI is setting up this job.",
            "Waiting for training program to start.",
            "Job is preparing.",
        )
        log.tell(job_machine.machines(run.job, run.location.region))
        for left_out in job_machine.left_out(run.job):
            log.tell(left_out, severity="WARNING")
        running = self._lifecycle.move(run.job.name, State.RUNNING)
        if running is None:
            return State.CANCELLED, None
        run.watcher(running)
        log.tell("Job is running.")
        failed = self._run_replicas(run, members)
        log.tell("Tearing down training program.", "Finished tearing down training program.")
        if any(result.reason is ExitReason.CANCELLED for _, result in failed):
            # Nobody asked for it: the emulator is about to end.
            return State.FAILED, job_failure.interrupted(_NOUN)
        if failed:
            job_id = last_part(run.job.name)
            return State.FAILED, job_failure.failure(failed, run.location, job_id, _timeout_seconds(run.job))
        return State.SUCCEEDED, None

    def _run_replicas(self, run: _Run, members: Sequence[Replica]) -> list[tuple[str, ContainerResult]]:
        """Run all, in a network of their own where there are several; gives back what `_run_all` does."""
        if len(members) == 1:
            return self._run_all(run, members, None)
        network = self._connect(run, members)
        try:
            return self._run_all(run, members, network)
        finally:
            network.close()

    def _run_all(
        self, run: _Run, members: Sequence[Replica], network: ReplicaNetwork | None
    ) -> list[tuple[str, ContainerResult]]:
        """Run all to the end of the primary one, or of the first that fails.

        Gives back the names and ends of those that failed by themselves, or of the primary one if it was stopped.
        """
        failed: list[tuple[str, ContainerResult]] = []
        primary_is_over = threading.Event()

        def watch(replica: Replica, handle: ContainerHandle) -> None:
            result = handle.wait()
            is_primary = replica is members[0]
            counts = not result.succeeded and replica.pool != EVALUATORS and not primary_is_over.is_set()
            if result.reason is ExitReason.CANCELLED:
                counts = is_primary and not failed
            if counts:
                failed.append((replica.name, result))
            if is_primary:
                primary_is_over.set()
            if is_primary or failed:
                run.stop()

        primary: ContainerHandle | None = None
        others: list[threading.Thread] = []
        for replica in members:
            container = self._container(run, replica, members, network)
            handle = run.add(partial(self._runner.start, container, run.log.output(replica)))
            if handle is None:
                break
            if replica is members[0]:
                primary = handle
            else:
                others.append(threading.Thread(target=watch, args=(replica, handle), name=container.name, daemon=True))
                others[-1].start()
        if primary is not None:
            watch(members[0], primary)
        else:
            failed.append((members[0].name, ContainerResult(128 + SIGTERM, ExitReason.CANCELLED)))
        for thread in others:
            thread.join()
        return failed

    def _connect(self, run: _Run, members: Sequence[Replica]) -> ReplicaNetwork:
        job_id = last_part(run.job.name)
        caller = SandboxCaller(f"customJobs/{job_id}", run.location.project_id, _identity(run))
        network = self._runner.connect(caller, [host_name(job_id, replica) for replica in members])
        if network.problem is not None:
            run.log.tell(f"The replicas cannot reach one another: {network.problem}.", severity="WARNING")
        return network

    def _container(
        self, run: _Run, replica: Replica, members: Sequence[Replica], network: ReplicaNetwork | None
    ) -> Container:
        is_package = replica.spec.HasField("python_package_spec")
        package = replica.spec.python_package_spec
        task = package if is_package else replica.spec.container_spec
        alone = [f"{host_name(last_part(run.job.name), replica)}:{PORT}"]
        addresses = dict(zip(members, network.addresses if network else alone, strict=True))
        return Container(
            name=f"customJobs/{last_part(run.job.name)}/{replica.name}",
            project=run.location.project_id,
            service_account=_identity(run),
            image=replica.image,
            command=() if is_package else tuple(replica.spec.container_spec.command),
            args=tuple(task.args),
            package=PythonPackage(tuple(package.package_uris), package.python_module) if is_package else None,
            env={**replica_environment(run.job, run.location, replica, addresses, run.trial), **run.variables},
            timeout_seconds=_timeout_seconds(run.job),
            mounts={str(run.trial.folder): run.trial.folder} if run.trial else {},
            network=network,
        )


def _identity(run: _Run) -> str:
    """The service account as which a job's code calls Google."""
    number = run.location.project_number
    return run.job.job_spec.service_account or f"service-{number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"


def _timeout_seconds(job: CustomJob) -> float:
    given = job.job_spec.scheduling.timeout
    return given.seconds + given.nanos / 1e9 or DEFAULT_TIMEOUT_SECONDS
