"""Pipeline jobs at work: from PENDING to their end, one thread a job.

A job is stored before it starts. One that was not over when the emulator ended is FAILED with that reason; what its
tasks had done stays, and serves the cache.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime
from typing import Any

from google.api_core.exceptions import InvalidArgument, NotFound
from selfloop_apis import rpc
from selfloop_apis.aiplatform_v1 import Execution, PipelineFailurePolicy, PipelineJob, PipelineTaskDetail

from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.interfaces import LogSink, ObjectStore
from emulator.core.messages import as_datetime, stamp
from emulator.services.aiplatform import job_failure
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.lifecycle import Lifecycle, State
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.pipelines import submission
from emulator.services.aiplatform.pipelines.cache import Cache
from emulator.services.aiplatform.pipelines.engine import Engine
from emulator.services.aiplatform.pipelines.inputs import fit
from emulator.services.aiplatform.pipelines.lineage import Lineage
from emulator.services.aiplatform.pipelines.nodes import TaskState
from emulator.services.aiplatform.pipelines.placeholders import Scope
from emulator.services.aiplatform.pipelines.plan import Pipeline
from emulator.services.aiplatform.pipelines.run_logs import RunLog
from emulator.services.aiplatform.pipelines.steps import Steps
from emulator.services.aiplatform.pipelines.task_details import RunRecord, TaskDetails
from emulator.services.aiplatform.pipelines.values import RunFacts, Values
from emulator.services.aiplatform.state import AiplatformState

logger = logging.getLogger(__name__)

#: Runs at a time; the others are PENDING until a place is free.
MOST_AT_A_TIME = 64
_NOUN = "pipeline"
#: How long `close` waits for what it stopped.
_CLOSE_SECONDS = 10
#: The label that every run gets; its value is the run's numeric id.
BILLING_LABEL = "vertex-ai-pipelines-run-billing-id"
#: How often a run that waits looks at the emulator's clock, which may be moved.
_LOOK_SECONDS = 0.5


class _Line:
    """What a run's thread is to do, in order; some of it not before its time on the emulator's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._actions: queue.SimpleQueue[tuple[Callable[[], None], datetime | None]] = queue.SimpleQueue()
        self._later: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def put(self, action: Callable[[], None], at: datetime | None = None) -> None:
        """From any thread."""
        self._actions.put((action, at))

    def next(self) -> Callable[[], None]:
        """Wait for the next action."""
        while True:
            if self._later and self._later[0][0] <= self._clock.now():
                return heapq.heappop(self._later)[2]
            try:
                action, at = self._actions.get(timeout=self._patience())
            except queue.Empty:
                continue
            if at is None:
                return action
            heapq.heappush(self._later, (at, next(self._numbers), action))

    def _patience(self) -> float | None:
        if not self._later:
            return None
        return min(_LOOK_SECONDS, max((self._later[0][0] - self._clock.now()).total_seconds(), 0.001))


class _Run:
    """One job at work."""

    def __init__(self, facts: RunFacts, pipeline: Pipeline, inputs: Values, clock: Clock, *, fails_fast: bool) -> None:
        self.facts = facts
        self.pipeline = pipeline
        self.inputs = inputs
        self.fails_fast = fails_fast
        self.line = _Line(clock)
        self.future: Future[None] | None = None
        self.engine: Engine | None = None
        self.steps: Steps | None = None
        self.is_stopped = False
        """the emulator ends"""
        self.over = threading.Event()
        """set once its end is stored"""

    def cancel(self) -> None:
        self.line.put(lambda: self.engine.cancel() if self.engine is not None else None)

    def stop(self) -> None:
        def end() -> None:
            self.is_stopped = True

        self.line.put(end)


class PipelineRuns:
    """Every pipeline job, running or over."""

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        objects: ObjectStore,
        jobs: CustomJobs,
        logs: LogSink,
        lineage: Lineage,
    ) -> None:
        self._pipeline_jobs = state.pipeline_jobs
        self._lifecycle = Lifecycle(state.database, state.pipeline_jobs, clock, cancelling_is_an_error=False)
        self._details = TaskDetails(state.database)
        self._cache = Cache(state.database, lineage)
        self._clock = clock
        self._objects = objects
        self._jobs = jobs
        self._logs = logs
        self._lineage = lineage
        self._runs: dict[str, _Run] = {}
        self.when_over: list[Callable[[str], None]] = []
        """called with the name of each job that is over"""
        self._pool = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="pipeline-run")
        self._settle()

    def create(self, location: Location, given: PipelineJob, job_id: str, schedule_time: datetime) -> PipelineJob:
        """Check a job, store it as PENDING and start it.

        job_id: empty for one of the emulator's making. schedule_time: when it was due.
        Raises InvalidArgument and MethodNotImplemented for a pipeline that cannot be run, AlreadyExists.
        """
        submission.check_job(given, job_id)
        job = PipelineJob()
        job.CopyFrom(given)
        submission.load_template(job, self._objects)
        pipeline = submission.compile_job(job)
        inputs = submission.root_inputs(job, pipeline, location, self._lineage)
        now = self._clock.now()
        job_id = job_id or f"{pipeline.name}-{now:%Y%m%d%H%M%S}"
        uuid = new_id()
        job.labels[BILLING_LABEL] = uuid
        job.service_account = job.service_account or f"{location.project_number}-compute@developer.gserviceaccount.com"
        name = f"{location.parent}/pipelineJobs/{job_id}"
        stored = self._lifecycle.begin(job, name)
        facts = RunFacts(
            location=location,
            name=name,
            job_id=job_id,
            uuid=uuid,
            pipeline_name=pipeline.name,
            root=job.runtime_config.gcs_output_directory.rstrip("/"),
            create_time=as_datetime(stored.create_time),
            schedule_time=schedule_time,
            service_account=job.service_account,
            network=job.network,
            encryption_key=job.encryption_spec.kms_key_name,
            labels=dict(job.labels),
        )
        fast = job.runtime_config.failure_policy == PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST
        run = self._runs[name] = _Run(facts, pipeline, inputs, self._clock, fails_fast=fast)
        run.future = self._pool.submit(self._work, run)
        return stored

    def get(self, name: str) -> PipelineJob:
        """The job with the details of its tasks, its contexts as they are now. Raises NotFound."""
        job = self._pipeline_jobs.find(name)
        if job is None:
            raise NotFound("The PipelineJob does not exist.")
        job.job_detail.SetInParent()
        if job.job_detail.HasField("pipeline_run_context"):
            for context in (job.job_detail.pipeline_context, job.job_detail.pipeline_run_context):
                current = self._lineage.context(context.name)
                if current is not None:
                    context.CopyFrom(current)
        job.job_detail.task_details.extend(self._details.of(name))
        return job

    def cancel(self, name: str) -> None:
        """CANCELLING at once; nothing for a job that is over. Raises NotFound."""
        if self._pipeline_jobs.find(name) is None:
            raise NotFound("The PipelineJob does not exist.")
        if self._lifecycle.move(name, State.CANCELLING) is None:
            return
        run = self._runs.get(name)
        if run is None:
            return
        if run.future is not None and run.future.cancel():
            # It was still waiting for a place: no thread will end it.
            self._work(run)
        run.cancel()

    def delete(self, name: str) -> None:
        """Forget a job that is over, and its tasks; what it made stays."""
        self._pipeline_jobs.delete(name)
        self._details.delete(name)

    def over(self, name: str) -> threading.Event | None:
        """What is set when a job is over; None for one that is, or that there is not."""
        run = self._runs.get(name)
        return None if run is None else run.over

    def unfinished(self) -> list[str]:
        return list(self._runs)

    def close(self) -> None:
        """Fail what is not over, as the emulator ends."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        # Once no run writes any more.
        wait([run.future for run in runs if run.future is not None], timeout=_CLOSE_SECONDS)
        self._settle()

    def _settle(self) -> None:
        """End whatever nothing else will end, because the emulator stops or was killed."""
        error = job_failure.interrupted(_NOUN)
        for name in self._lifecycle.unfinished():
            self._interrupt_tasks(name, error)
        self._lifecycle.settle(_NOUN)

    def _interrupt_tasks(self, job: str, error: Any) -> None:
        for detail in self._details.unfinished(job):
            self._interrupt(job, detail, error)

    def _interrupt(self, job: str, detail: PipelineTaskDetail, error: Any) -> None:
        now = self._clock.now()
        detail.state = PipelineTaskDetail.FAILED
        detail.error.CopyFrom(error)
        stamp(detail.end_time, now)
        status = detail.pipeline_task_status.add(state=detail.state, error=error)
        stamp(status.update_time, now)
        if self._lineage.execution(detail.execution.name) is not None:

            def fail(execution: Execution) -> None:
                execution.state = Execution.FAILED

            detail.execution.CopyFrom(self._lineage.update_execution(detail.execution.name, fail))
        self._details.save(job, detail, is_final=True)

    def _work(self, run: _Run) -> None:
        name, log = run.facts.name, RunLog(self._logs, run.facts)
        try:
            state, error = self._run(run, log)
        except Exception as raised:
            logger.exception("%s failed inside the emulator", name)
            state, error = State.FAILED, job_failure.status(Code.INTERNAL, f"Internal error: {raised}")
        try:
            if run.steps is not None and run.engine is not None and not run.engine.is_over and not run.is_stopped:
                run.steps.abandon()
                self._interrupt_tasks(name, error)
            if not run.is_stopped:
                ended = self._lifecycle.end(name, state, error)
                if ended is not None:
                    log.job(State(ended.state), ended.error.message)
        except Exception:
            logger.exception("the end of %s could not be stored", name)
        finally:
            self._runs.pop(name, None)
            run.over.set()
            for hear in self.when_over:
                hear(name)

    def _run(self, run: _Run, log: RunLog) -> tuple[State, Any]:
        """Run a job's tasks; gives back the state in which it ends, and its error."""
        facts = run.facts
        pipeline_context, run_context = self._lineage.open_run(facts.location, facts.pipeline_name, facts.job_id)

        def show_contexts(job: PipelineJob) -> None:
            job.job_detail.pipeline_context.CopyFrom(pipeline_context)
            job.job_detail.pipeline_run_context.CopyFrom(run_context)

        if self._lifecycle.move(facts.name, State.RUNNING, show_contexts) is None:
            self._pipeline_jobs.update(facts.name, show_contexts)
            return State.CANCELLED, None
        log.job(State.RUNNING)
        problem = self._problem_of_root(facts)
        if problem:
            return State.FAILED, job_failure.status(Code.NOT_FOUND, f"Failed to create pipeline job. Error: {problem}")
        steps = Steps(
            run=facts,
            record=RunRecord(self._details, self._lineage, self._clock, facts, run_context.name),
            log=log,
            cache=self._cache,
            jobs=self._jobs,
            objects=self._objects,
            clock=self._clock,
            later=run.line.put,
        )
        inputs = fit(run.pipeline.root, run.inputs, Scope(facts, facts.job_id, 0), may_lack=False)
        engine = steps.engine = Engine(run.pipeline, facts, inputs, steps, fails_fast=run.fails_fast)
        run.engine, run.steps = engine, steps
        engine.start()
        while not engine.is_over:
            run.line.next()()
            if run.is_stopped:
                break
        return self._outcome(engine, facts)

    def _problem_of_root(self, facts: RunFacts) -> str:
        """Why nothing can be written below the pipeline's root; empty where it can."""
        try:
            next(iter(self._objects.names(f"{facts.root}/")), None)
        except (NotFound, InvalidArgument) as error:
            return submission.api_error(error)
        return ""

    @staticmethod
    def _outcome(engine: Engine, facts: RunFacts) -> tuple[State, Any]:
        root = engine.root
        if root.state is TaskState.CANCELLED:
            return State.CANCELLED, None
        if root.failure is None:
            return State.SUCCEEDED, None
        project_id, number, uuid = facts.location.project_id, facts.location.project_number, facts.uuid
        return State.FAILED, rpc.Status(
            code=int(root.failure.code),
            message=f"{root.failure.message}; Job (project_id = {project_id}, job_id = {uuid}) is failed due to the "
            f"above error.; Failed to handle the job: {{project_number = {number}, job_id = {uuid}}}",
        )
