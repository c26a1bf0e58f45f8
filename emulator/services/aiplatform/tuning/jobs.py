"""Hyperparameter tuning jobs at work: one thread a job, a custom job for each trial.

The thread proposes points, starts their trials up to the limit, reads what these report, stops those that fall
behind, and stores every step in the job. A job that was not over when the emulator ended is FAILED for it.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from selfloop_apis.aiplatform_v1 import CustomJob, HyperparameterTuningJob, Trial

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.messages import stamp
from emulator.services.aiplatform import job_failure
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_environment import TrialPlace
from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.job_logs import JobLog
from emulator.services.aiplatform.lifecycle import Lifecycle, State, is_over, state_of
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.tuning.reports import TrialReports, falls_behind, values_of
from emulator.services.aiplatform.tuning.search import search_for
from emulator.services.aiplatform.tuning.space import flag

logger = logging.getLogger(__name__)

#: Tuning jobs that run at a time; the others are PENDING until a place is free.
MOST_AT_A_TIME = 16
#: Trials without one that succeeded after which a job ends whose max_failed_trial_count leaves that to the service.
MOST_FAILURES = 10
_LOOK_SECONDS = 0.2
_NOUN = "hyperparameter tuning job"


@dataclass
class _Active:
    """A trial at work."""

    number: int
    """from 0, as the search counts"""
    job_name: str
    reports: TrialReports
    is_stopping: bool = False


class _Run:
    """One tuning job at work."""

    def __init__(self, job: HyperparameterTuningJob, location: Location, log: JobLog, folder: Path) -> None:
        self.job = job
        self.location = location
        self.log = log
        self.folder = folder
        self.cancelled = threading.Event()
        self.over = threading.Event()
        """set once its end is stored"""
        self.ended: SimpleQueue[CustomJob] = SimpleQueue()
        """jobs of trials that are over"""
        self.active: dict[str, _Active] = {}
        """by the names of their jobs"""
        self.completed: list[list[Any]] = []
        """measurements of each trial that succeeded"""
        self.failures = 0

    def watch(self, job: CustomJob) -> None:
        """Hear of a trial's job."""
        if is_over(job):
            self.ended.put(job)


class TuningJobs:
    """Every hyperparameter tuning job, running or over."""

    def __init__(self, *, state: AiplatformState, clock: Clock, jobs: CustomJobs) -> None:
        self._collection = state.tuning_jobs
        self._lifecycle = Lifecycle(state.database, state.tuning_jobs, clock)
        self._clock = clock
        self._jobs = jobs
        self._runs: dict[str, _Run] = {}
        self._pool = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="tuning-job")
        self._closing = threading.Event()
        self._settle()

    def create(self, location: Location, given: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """Store a checked job as PENDING and start it."""
        name = f"{location.parent}/hyperparameterTuningJobs/{new_id()}"
        job = HyperparameterTuningJob()
        job.CopyFrom(given)
        stored = self._lifecycle.begin(job, name)
        folder = Path(tempfile.mkdtemp(prefix="selfloop-hypertune-"))
        run = _Run(stored, location, self._jobs.log_of(location, name), folder)
        self._runs[name] = run
        self._pool.submit(self._work, run)
        return stored

    def cancel(self, name: str) -> None:
        """Ask a job and its trials to end; nothing for one that is over. Raises NotFound."""
        if self._lifecycle.move(name, State.CANCELLING) is None:
            return
        run = self._runs.get(name)
        if run is not None:
            run.cancelled.set()

    def over(self, name: str) -> threading.Event | None:
        """What is set when a job is over; None for one that is, or that there is not."""
        run = self._runs.get(name)
        return None if run is None else run.over

    def unfinished(self) -> list[str]:
        """Names of the jobs that are not over."""
        return list(self._runs)

    def close(self) -> None:
        """Fail what is not over, as the emulator ends; the trials' jobs end with all the others."""
        self._closing.set()
        self._settle()
        for run in list(self._runs.values()):
            run.cancelled.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _settle(self) -> None:
        for name in self._lifecycle.settle(_NOUN):
            self._collection.update(name, partial(_end_trials, reason="The emulator stopped.", now=self._clock.now()))

    def _work(self, run: _Run) -> None:
        try:
            state, error = self._run(run)
        except Exception as raised:
            logger.exception("%s failed inside the emulator", run.job.name)
            state, error = State.FAILED, job_failure.status(Code.INTERNAL, f"Internal error: {raised}")
        try:
            if error is not None:
                run.log.tell(error.message, severity="ERROR")
            elif state is State.SUCCEEDED:
                run.log.tell("Job completed successfully.")
            self._lifecycle.end(run.job.name, state, error)
        except Exception:
            logger.exception("the end of %s could not be stored", run.job.name)
        finally:
            self._runs.pop(run.job.name, None)
            run.over.set()
            shutil.rmtree(run.folder, ignore_errors=True)

    def _run(self, run: _Run) -> tuple[State, Any]:
        """Run trials until enough are over; gives back the state in which the job ends, and its error."""
        job = run.job
        if self._lifecycle.move(job.name, State.RUNNING) is None:
            return State.CANCELLED, None
        run.log.tell("Job is running.")
        search = search_for(job.study_spec)
        asked, is_exhausted = 0, False
        while not run.cancelled.is_set() and not _has_failed(run):
            while not is_exhausted and asked < job.max_trial_count and len(run.active) < job.parallel_trial_count:
                point = search.ask()
                is_exhausted = point is None
                if point is not None:
                    self._start_trial(run, asked, point)
                    asked += 1
            if not run.active:
                break
            self._follow(run, search.tell)
        if run.active:
            self._stop_all(run, search.tell)
        if run.cancelled.is_set():
            return State.CANCELLED, None
        if _has_failed(run):
            return State.FAILED, job_failure.status(
                Code.INVALID_ARGUMENT,
                f"Too many trials failed: {run.failures} of {asked}. See infeasible_reason of each trial.",
            )
        return State.SUCCEEDED, None

    def _start_trial(self, run: _Run, number: int, point: list[Any]) -> None:
        """Store a trial as ACTIVE and start its job."""
        job, trial_id = run.job, str(number + 1)
        name = self._jobs.new_name(run.location)
        place = TrialPlace(trial_id, job.study_spec.metrics[0].metric_id, run.folder / trial_id)
        place.folder.mkdir()
        trial = Trial(id=trial_id, state=Trial.State.ACTIVE, parameters=point, custom_job=name)
        stamp(trial.start_time, self._clock.now())
        self._collection.update(job.name, lambda stored: stored.trials.append(trial))
        run.active[name] = _Active(number, name, TrialReports(place.metric_file, job.study_spec.metrics, time.time()))
        run.log.tell(f"Trial {trial_id} started with {' '.join(map(flag, point))}: {name}.")
        self._jobs.create(run.location, name, _trial_job(job, trial_id, point), watcher=run.watch, trial=place)

    def _follow(self, run: _Run, tell: Callable[[int, list[float] | None], None]) -> None:
        """Wait a moment for what trials report and for their ends, and store it."""
        try:
            ended = run.ended.get(timeout=_LOOK_SECONDS)
        except Empty:
            for trial in run.active.values():
                if trial.reports.look():
                    self._store_measurements(run, trial)
        else:
            trial = run.active.pop(ended.name)
            tell(trial.number, self._end_trial(run, trial, ended))

    def _store_measurements(self, run: _Run, trial: _Active) -> None:
        """Show what a running trial reported, and stop it if it falls behind."""
        measurements = trial.reports.measurements
        study = run.job.study_spec
        stops = study.HasField("median_automated_stopping_spec") and falls_behind(
            measurements,
            run.completed,
            study.metrics[0],
            by_duration=study.median_automated_stopping_spec.use_elapsed_duration,
        )

        def change(job: HyperparameterTuningJob) -> None:
            stored = job.trials[trial.number]
            del stored.measurements[:]
            stored.measurements.extend(measurements)
            if stops:
                stored.state = Trial.State.STOPPING

        self._collection.update(run.job.name, change)
        if stops and not trial.is_stopping:
            trial.is_stopping = True
            run.log.tell(f"Trial {trial.number + 1} falls behind the median of the others and is stopped.")
            self._jobs.cancel(trial.job_name)

    def _end_trial(self, run: _Run, trial: _Active, ended: CustomJob) -> list[float] | None:
        """Store a trial's end; gives back its final values, None where it has none."""
        trial.reports.look()
        study = run.job.study_spec
        final = trial.reports.final(study.measurement_selection_type)
        reason = ""
        if state_of(ended) is not State.SUCCEEDED and not trial.is_stopping:
            reason = ended.error.message or "The trial's job was cancelled."
        elif final is None:
            wanted = ", ".join(metric.metric_id for metric in study.metrics)
            reason = f"The trial ended without a report of {wanted}."

        def change(job: HyperparameterTuningJob) -> None:
            stored = job.trials[trial.number]
            del stored.measurements[:]
            stored.measurements.extend(trial.reports.measurements)
            stamp(stored.end_time, self._clock.now())
            stored.state = Trial.State.INFEASIBLE if reason else Trial.State.SUCCEEDED
            if reason:
                stored.infeasible_reason = reason
            elif final is not None:
                stored.final_measurement.CopyFrom(final)

        self._collection.update(run.job.name, change)
        if reason or final is None:
            run.failures += 1
            run.log.tell(f"Trial {trial.number + 1} is infeasible: {reason}", severity="WARNING")
            return None
        run.completed.append(trial.reports.measurements)
        told = ", ".join(f"{metric.metric_id} {metric.value:.6g}" for metric in final.metrics)
        run.log.tell(f"Trial {trial.number + 1} succeeded: {told}.")
        return values_of(final)

    def _stop_all(self, run: _Run, tell: Callable[[int, list[float] | None], None]) -> None:
        """End every trial and wait until they are over."""
        for name in run.active:
            self._jobs.cancel(name)
        while run.active and not self._closing.is_set():
            self._follow(run, tell)


def _has_failed(run: _Run) -> bool:
    """Whether so many trials failed that the job does."""
    job = run.job
    if job.max_failed_trial_count:
        return run.failures >= job.max_failed_trial_count
    return not run.completed and run.failures >= min(job.max_trial_count, MOST_FAILURES)


def _trial_job(job: HyperparameterTuningJob, trial_id: str, point: list[Any]) -> CustomJob:
    """A trial's job: the spec of all, with its own output folder, and its parameters as flags behind the arguments."""
    made = CustomJob(display_name=f"{job.display_name}_{trial_id}", job_spec=job.trial_job_spec, labels=job.labels)
    if job.HasField("encryption_spec"):
        made.encryption_spec.CopyFrom(job.encryption_spec)
    if made.job_spec.HasField("base_output_directory"):
        directory = made.job_spec.base_output_directory
        directory.output_uri_prefix = f"{directory.output_uri_prefix.rstrip('/')}/{trial_id}"
    for pool in made.job_spec.worker_pool_specs:
        task = pool.WhichOneof("task")
        if task is not None:
            getattr(pool, task).args.extend(map(flag, point))
    return made


def _end_trials(job: HyperparameterTuningJob, *, reason: str, now: Any) -> None:
    """Settle the trials that nothing else will end."""
    for trial in job.trials:
        if trial.state in (Trial.State.ACTIVE, Trial.State.STOPPING):
            trial.state = Trial.State.INFEASIBLE
            trial.infeasible_reason = reason
            stamp(trial.end_time, now)
