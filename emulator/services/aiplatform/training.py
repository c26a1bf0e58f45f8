"""Builds the services that train: jobs, training pipelines, pipeline jobs, and the datasets that these read."""

from __future__ import annotations

from pathlib import Path

from emulator.core.clock import Clock
from emulator.core.interfaces import ContainerRunner, LogSink, ObjectStore
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.schedule import Schedule
from emulator.core.state import Database
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.dataset_exports import Exporter
from emulator.services.aiplatform.dataset_service import DatasetService
from emulator.services.aiplatform.job_service import JobService
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.model_sink import ModelSink
from emulator.services.aiplatform.persistent_resource_service import PersistentResourceService
from emulator.services.aiplatform.pipeline_service import PipelineService
from emulator.services.aiplatform.pipelines.runs import PipelineRuns
from emulator.services.aiplatform.schedule_service import ScheduleService
from emulator.services.aiplatform.schedules import Schedules
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.training_data import TrainingData
from emulator.services.aiplatform.training_runs import TrainingRuns
from emulator.services.aiplatform.tuning.jobs import TuningJobs


class Training:
    """What runs jobs, and the services that clients see of it."""

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
        graph: MetadataGraph,
        schedule: Schedule,
        scratch: Path,
    ) -> None:
        """scratch: an existing folder on disk, for as much as a dataset holds."""
        state = AiplatformState(database)
        self._jobs = CustomJobs(state=state, clock=clock, runner=runner, logs=logs)
        self._tuning = TuningJobs(state=state, clock=clock, jobs=self._jobs)
        exporter = Exporter(objects, scratch)
        tracked = TrackedResources(graph)
        self._runs = TrainingRuns(
            state=state,
            clock=clock,
            objects=objects,
            jobs=self._jobs,
            models=models,
            data=TrainingData(state.datasets, objects, exporter),
            tracked=tracked,
        )
        self._pipelines = PipelineRuns(
            state=state,
            clock=clock,
            objects=objects,
            jobs=self._jobs,
            logs=logs,
            lineage=graph,
        )
        schedules = Schedules(
            state=state, clock=clock, projects=projects, runs=self._pipelines, changed=schedule.changed
        )
        schedule.add(schedules)
        self._pipelines.when_over.append(schedules.run_is_over)
        self.services = [
            JobService(
                state=state,
                projects=projects,
                operations=operations,
                jobs=self._jobs,
                tuning=self._tuning,
                tracked=tracked,
            ),
            PipelineService(
                state=state,
                clock=clock,
                projects=projects,
                operations=operations,
                runs=self._runs,
                pipelines=self._pipelines,
            ),
            PersistentResourceService(
                state=state, clock=clock, projects=projects, operations=operations, jobs=self._jobs
            ),
            ScheduleService(state=state, projects=projects, operations=operations, schedules=schedules),
            DatasetService(
                state=state,
                clock=clock,
                projects=projects,
                operations=operations,
                objects=objects,
                exporter=exporter,
                tracked=tracked,
            ),
        ]

    def unfinished(self) -> list[str]:
        """Names of the jobs and pipelines that are not over."""
        work = (self._jobs, self._tuning, self._runs, self._pipelines)
        return [name for each in work for name in each.unfinished()]

    def close(self) -> None:
        """Fail what is not over and end its processes, as the emulator stops."""
        self._pipelines.close()
        self._runs.close()
        self._tuning.close()
        self._jobs.close()
