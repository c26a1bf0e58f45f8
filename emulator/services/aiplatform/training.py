"""Builds the services that train: JobService and PipelineService, over one set of running jobs."""

from __future__ import annotations

from emulator.core.clock import Clock
from emulator.core.interfaces import ContainerRunner, LogSink, ObjectStore
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_service import JobService
from emulator.services.aiplatform.model_sink import ModelSink
from emulator.services.aiplatform.pipeline_service import PipelineService
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.training_runs import TrainingRuns


class Training:
    """What runs jobs, and the two services that clients see of it."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        objects: ObjectStore,
        runner: ContainerRunner,
        logs: LogSink,
        models: ModelSink,
    ) -> None:
        state = AiplatformState(database)
        self._jobs = CustomJobs(state=state, clock=clock, runner=runner, logs=logs)
        self._runs = TrainingRuns(state=state, clock=clock, objects=objects, jobs=self._jobs, models=models)
        self.services = [
            JobService(state=state, projects=projects, operations=operations, jobs=self._jobs),
            PipelineService(state=state, projects=projects, operations=operations, runs=self._runs),
        ]

    def unfinished(self) -> list[str]:
        """Names of the jobs and pipelines that are not over."""
        return [*self._jobs.unfinished(), *self._runs.unfinished()]

    def close(self) -> None:
        """Fail what is not over and end its processes, as the emulator stops."""
        self._runs.close()
        self._jobs.close()
