"""Custom jobs at work: from PENDING to their end, one thread a job.

A job is stored before it starts. One that was not over when the emulator ended is FAILED with that reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from selfloop_apis.aiplatform_v1 import CustomJob

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.interfaces import ContainerRunner, ExitReason, LogSink
from emulator.services.aiplatform import job_failure, job_machine
from emulator.services.aiplatform.job_environment import TrialPlace
from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.job_logs import JobLog
from emulator.services.aiplatform.job_replicas import JobReplicas, StartedContainers, timeout_seconds
from emulator.services.aiplatform.lifecycle import Lifecycle, State
from emulator.services.aiplatform.names import Location, last_part
from emulator.services.aiplatform.state import AiplatformState

logger = logging.getLogger(__name__)

#: Jobs that run at a time; the others are PENDING until a place is free.
MOST_AT_A_TIME = 32
#: Steps of pipelines at a time. They have places of their own: a step may wait for a job that it has made.
MOST_STEPS_AT_A_TIME = 32
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
        self.containers = StartedContainers()
        self._lock = threading.Lock()
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
        self._steps = ThreadPoolExecutor(MOST_STEPS_AT_A_TIME, thread_name_prefix="pipeline-step")
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
        of_pipeline: bool = False,
    ) -> CustomJob:
        """Store a checked job as PENDING and start it.

        watcher: told of every further state; of the final one when everything of the job is over.
        variables: environment variables of every replica, besides those that follow from the job.
        trial: where the job is a trial of a hyperparameter tuning job.
        of_pipeline: whether it is a step of a pipeline.
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
        run.future = (self._steps if of_pipeline else self._pool).submit(self._work, run)
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
        run.containers.stop()

    def over(self, name: str) -> threading.Event | None:
        """What is set when a job is over; None for one that is, or that there is not."""
        run = self._runs.get(name)
        return None if run is None else run.over

    def unfinished(self) -> list[str]:
        """Names of the jobs that are not over."""
        return list(self._runs)

    def on_persistent_resource(self, resource_id: str, parent: str) -> list[str]:
        """Names of the jobs below a parent that are not over and run on a persistent resource."""
        return [
            name
            for name, run in list(self._runs.items())
            if run.job.job_spec.persistent_resource_id == resource_id and run.location.parent == parent
        ]

    def close(self) -> None:
        """Stop what runs; each such job is FAILED from then on."""
        self._lifecycle.settle(_NOUN)
        runs = list(self._runs.values())
        for pool in (self._pool, self._steps):
            pool.shutdown(wait=False, cancel_futures=True)
        for run in runs:
            run.containers.stop()
        wait([run.future for run in runs if run.future is not None], timeout=_CLOSE_SECONDS)

    def _work(self, run: _Run) -> None:
        try:
            state, error = self._run(run)
        except Exception as raised:
            logger.exception("%s failed inside the emulator", run.job.name)
            run.containers.stop()
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
        log = run.log
        replicas = JobReplicas(
            job=run.job,
            location=run.location,
            log=log,
            variables=run.variables,
            trial=run.trial,
            containers=run.containers,
            runner=self._runner,
        )
        log.tell("Waiting for job to be provisioned.")
        for image in replicas.images:
            problem = self._runner.check_image(image)
            if problem:
                return State.FAILED, job_failure.status(Code.FAILED_PRECONDITION, problem)
        if not run.job.job_spec.persistent_resource_id:
            log.tell(
                "Vertex AI is provisioning job running framework. First time usage might take couple of minutes, "
                "and subsequent runs can be much faster."
            )
        log.tell(
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
        failed = replicas.run()
        log.tell("Tearing down training program.", "Finished tearing down training program.")
        if any(result.reason is ExitReason.CANCELLED for _, result in failed):
            # Nobody asked for it: the emulator is about to end.
            return State.FAILED, job_failure.interrupted(_NOUN)
        if failed:
            job_id = last_part(run.job.name)
            return State.FAILED, job_failure.failure(failed, run.location, job_id, timeout_seconds(run.job))
        return State.SUCCEEDED, None
