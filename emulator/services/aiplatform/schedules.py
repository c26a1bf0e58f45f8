"""Schedules of pipeline jobs: a source of the emulator's schedule, on the emulator's clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, GoogleAPICallError, MethodNotImplemented
from selfloop_apis.aiplatform_v1 import PipelineJob, Schedule

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.messages import as_datetime, stamp
from emulator.core.projects import Projects
from emulator.core.schedule import Due, Started
from emulator.services.aiplatform.cron import next_time
from emulator.services.aiplatform.names import Location, new_parent
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.validation import FoundErrors

State = Schedule.State
_EMPTY_ID = "create_pipeline_job_request.pipeline_job_id"


class PipelineStarter(Protocol):
    """What runs pipeline jobs."""

    def create(self, location: Location, given: PipelineJob, job_id: str, schedule_time: datetime) -> PipelineJob:
        """Store a job as PENDING and start it. Raises GoogleAPICallError for one that cannot be run."""
        ...

    def over(self, name: str) -> threading.Event | None:
        """What is set when a job is over; None for one that is, or that there is not."""
        ...


@dataclass(frozen=True)
class ScheduledRun:
    """A pipeline job that a schedule has started and that is at work."""

    name: str
    over: threading.Event

    def wait(self, seconds: float) -> bool:
        return self.over.wait(seconds)


def check_schedule(schedule: Schedule) -> None:
    """Raises InvalidArgument with all that is wrong, MethodNotImplemented for other things than pipelines."""
    errors = FoundErrors()
    if not schedule.display_name:
        errors.add("schedule.display_name", "Required field is not set.")
    errors.check_display_name(schedule.display_name, "schedule.display_name")
    if not schedule.cron:
        errors.add("schedule.cron", "Required field is not set.")
    if schedule.max_concurrent_run_count < 1:
        errors.add("schedule.max_concurrent_run_count", "The value must be positive.")
    for field in ("max_run_count", "max_concurrent_active_run_count"):
        if getattr(schedule, field) < 0:
            errors.add(f"schedule.{field}", "The value must not be negative.")
    has_both = schedule.HasField("end_time") and schedule.HasField("start_time")
    if has_both and as_datetime(schedule.end_time) <= as_datetime(schedule.start_time):
        errors.add("schedule.end_time", "The end must be after the start.")
    if schedule.WhichOneof("request") is None:
        errors.add("schedule.create_pipeline_job_request", "Required field is not set.")
    elif schedule.create_pipeline_job_request.pipeline_job_id:
        errors.add(f"schedule.{_EMPTY_ID}", "The id of a scheduled pipeline job must not be set.")
    errors.raise_any()
    if schedule.HasField("create_notebook_execution_job_request"):
        raise MethodNotImplemented(
            "Schedules of notebook executions are not emulated; add them to emulator/services/aiplatform/schedules.py"
        )


class Schedules:
    """Every schedule. `next_due` and `run` are called by the emulator's schedule, the rest by clients."""

    name = "schedules of pipeline jobs"

    def __init__(
        self, *, state: AiplatformState, clock: Clock, projects: Projects, runs: PipelineStarter,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        """changed: called when something may be due earlier than before."""
        self._schedules = state.schedules
        self._clock = clock
        self._projects = projects
        self._runs = runs
        self._changed = changed
        self._lock = threading.RLock()
        self._due: dict[str, datetime] = {}
        """of each ACTIVE schedule: its next run, or its end where no run comes before it"""
        self._active: dict[str, dict[str, threading.Event]] = {}
        """schedule -> its runs at work"""
        self._queued: set[str] = set()
        """schedules of which a run waits for others to end"""
        for schedule in self._schedules.list():
            self._plan(schedule)

    def create(self, location: Location, given: Schedule) -> Schedule:
        """Store a checked schedule as ACTIVE. Raises InvalidArgument for its cron expression."""
        now = self._clock.now()
        schedule = Schedule()
        schedule.CopyFrom(given)
        schedule.name = f"{location.parent}/schedules/{new_id()}"
        schedule.state = State.ACTIVE
        stamp(schedule.create_time, now)
        stamp(schedule.update_time, now)
        if not schedule.HasField("start_time"):
            stamp(schedule.start_time, now)
        _set_next(schedule, now)
        new_parent(self._projects, schedule.create_pipeline_job_request.parent or location.parent)
        with self._lock:
            stored = self._schedules.insert(schedule)
            self._plan(stored)
        self._changed()
        return stored

    def pause(self, name: str) -> None:
        """Raises NotFound, FailedPrecondition for one that is not ACTIVE."""

        def change(schedule: Schedule) -> None:
            _require(schedule, State.ACTIVE, "paused")
            schedule.state = State.PAUSED
            stamp(schedule.last_pause_time, self._clock.now())

        self._change(name, change)

    def resume(self, name: str, *, catch_up: bool) -> None:
        """Raises NotFound, FailedPrecondition for one that is not PAUSED."""

        def change(schedule: Schedule) -> None:
            _require(schedule, State.PAUSED, "resumed")
            now = self._clock.now()
            schedule.state = State.ACTIVE
            schedule.catch_up = catch_up
            stamp(schedule.last_resume_time, now)
            if not catch_up:
                _set_next(schedule, now)

        self._change(name, change)

    def update(self, name: str, change: Callable[[Schedule], None]) -> Schedule:
        """Apply a change and plan the next run anew. Raises NotFound, FailedPrecondition for one that is over."""

        def apply(schedule: Schedule) -> None:
            if schedule.state == State.COMPLETED:
                raise FailedPrecondition(f"The Schedule `{name}` is completed and cannot be updated.")
            change(schedule)
            _set_next(schedule, self._clock.now())

        return self._change(name, apply)

    def delete(self, name: str) -> None:
        """Raises NotFound."""
        with self._lock:
            self._schedules.delete(name)
            self._due.pop(name, None)
            self._active.pop(name, None)
            self._queued.discard(name)

    def run_is_over(self, name: str) -> None:
        """Hear that a pipeline job is over; a run that waited for it is due now."""
        with self._lock:
            freed = [schedule for schedule in self._queued if name in self._active.get(schedule, {})]
            for schedule in freed:
                self._queued.discard(schedule)
                self._due[schedule] = self._clock.now()
        if freed:
            self._changed()

    def next_due(self) -> Due | None:
        """When the next schedule has something to do."""
        with self._lock:
            return Due.exactly(min(self._due.values())) if self._due else None

    def run(self, now: datetime) -> Iterable[Started]:
        """Start every run that is due; gives back those at work that it started or that others wait for."""
        started: list[Started] = []
        with self._lock:
            due = sorted((at, name) for name, at in self._due.items() if at <= now)
            for _, name in due:
                started += self._run_one(name, now)
        return started

    def _change(self, name: str, change: Callable[[Schedule], None]) -> Schedule:
        def apply(schedule: Schedule) -> None:
            change(schedule)
            stamp(schedule.update_time, self._clock.now())

        with self._lock:
            stored = self._schedules.update(name, apply)
            self._plan(stored)
        self._changed()
        return stored

    def _plan(self, schedule: Schedule) -> None:
        """Note when a schedule has something to do."""
        self._queued.discard(schedule.name)
        if schedule.state != State.ACTIVE:
            self._due.pop(schedule.name, None)
            return
        times = [as_datetime(schedule.next_run_time)] if schedule.HasField("next_run_time") else []
        times += [as_datetime(schedule.end_time)] if schedule.HasField("end_time") else []
        if times:
            self._due[schedule.name] = min(times)
        else:
            self._due.pop(schedule.name, None)

    def _run_one(self, name: str, now: datetime) -> list[ScheduledRun]:
        schedule = self._schedules.get(name)
        scheduled = as_datetime(schedule.next_run_time) if schedule.HasField("next_run_time") else None
        if scheduled is None or _is_over(schedule, scheduled, now):
            self._plan(self._schedules.update(name, _complete))
            return []
        active = self._at_work(name)
        limit = schedule.max_concurrent_active_run_count
        if limit and len(active) >= limit:
            if schedule.allow_queueing:
                # Nothing is due until one of them ends; advancing the clock waits for that.
                self._queued.add(name)
                self._due.pop(name, None)
                return [ScheduledRun(job, over) for job, over in active.items()]
            self._move_on(name, scheduled, now, f"Skipped: {len(active)} runs are active.", is_started=False)
            return []
        try:
            job = self._start(schedule, scheduled)
        except GoogleAPICallError as error:
            self._move_on(name, scheduled, now, f"Failed to start: {error.message}", is_started=False)
            return []
        self._move_on(name, scheduled, now, job.name, is_started=True)
        over = self._runs.over(job.name)
        if over is None:
            return []
        self._active.setdefault(name, {})[job.name] = over
        return [ScheduledRun(job.name, over)]

    def _start(self, schedule: Schedule, scheduled: datetime) -> PipelineJob:
        request = schedule.create_pipeline_job_request
        location = new_parent(self._projects, request.parent or schedule.name)
        job = PipelineJob()
        job.CopyFrom(request.pipeline_job)
        job.schedule_name = schedule.name
        try:
            return self._runs.create(location, job, _job_id(job, scheduled), scheduled)
        except AlreadyExists:
            # Two schedules of one pipeline at the same second.
            return self._runs.create(location, job, f"{_job_id(job, scheduled)}-{new_id()[-6:]}", scheduled)

    def _move_on(self, name: str, scheduled: datetime, now: datetime, response: str, *, is_started: bool) -> None:
        """Note what came of a run, and plan the next one."""

        def change(schedule: Schedule) -> None:
            schedule.started_run_count += is_started
            stamp(schedule.last_scheduled_run_response.scheduled_run_time, scheduled)
            schedule.last_scheduled_run_response.run_response = response
            # Times that went by while the emulator was off are passed over, unless they are to be caught up with.
            _set_next(schedule, scheduled if schedule.catch_up else max(scheduled, now))
            if schedule.max_run_count and schedule.started_run_count >= schedule.max_run_count:
                _complete(schedule)

        self._plan(self._schedules.update(name, change))

    def _at_work(self, name: str) -> dict[str, threading.Event]:
        active = {job: over for job, over in self._active.get(name, {}).items() if not over.is_set()}
        self._active[name] = active
        return active


def _job_id(job: PipelineJob, scheduled: datetime) -> str:
    """`<pipeline's name>-<time>`."""
    info: Any = job.pipeline_spec.fields.get("pipelineInfo")
    name = info.struct_value.fields["name"].string_value if info is not None else "pipeline"
    return f"{name}-{scheduled:%Y%m%d%H%M%S}"


def _set_next(schedule: Schedule, after: datetime) -> None:
    """Plan the run that follows a time, and that is not before the schedule's start."""
    start = as_datetime(schedule.start_time)
    # A run may fall on the very start.
    following = next_time(schedule.cron, max(after, start - timedelta(microseconds=1)))
    if following is None:
        schedule.ClearField("next_run_time")
    else:
        stamp(schedule.next_run_time, following)


def _is_over(schedule: Schedule, scheduled: datetime, now: datetime) -> bool:
    if not schedule.HasField("end_time"):
        return False
    end = as_datetime(schedule.end_time)
    return scheduled >= end and now >= end


def _complete(schedule: Schedule) -> None:
    schedule.state = State.COMPLETED
    schedule.ClearField("next_run_time")


def _require(schedule: Schedule, state: State.ValueType, participle: str) -> None:
    if schedule.state != state:
        found = State.Name(schedule.state)
        raise FailedPrecondition(f"The Schedule `{schedule.name}` is in state {found} and cannot be {participle}.")
