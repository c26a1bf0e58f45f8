"""The training services with containers that a test ends by hand, and the requests that tests make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selfloop_apis import aiplatform_v1 as api

from emulator.core.clock import MovableClock
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.schedule import Schedule
from emulator.core.service import Caller, Context, GapicService
from emulator.core.state import Database
from emulator.services.aiplatform.dataset_service import DatasetService
from emulator.services.aiplatform.job_service import JobService
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.pipeline_service import PipelineService
from emulator.services.aiplatform.training import Training
from tests.conftest import wait_until
from tests.emulator.services.aiplatform.fakes import FakeHandle, FakeLogs, FakeModels, FakeObjects, FakeRunner

State = api.JobState
PipelineState = api.PipelineState
PARENT = "projects/test-project/locations/us-central1"
PREBUILT = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
CONTEXT = Context("google.cloud.aiplatform.v1.JobService/Test", Caller("tester"))
CUSTOM_TASK = "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"


Service = TypeVar("Service", bound=GapicService)


class World:
    """The training services on a database of their own."""

    def __init__(self, path: Path, runner: FakeRunner, objects: FakeObjects, models: FakeModels) -> None:
        self.runner = runner
        self.logs = FakeLogs()
        self.objects = objects
        self.models = models
        self._database = Database(path)
        clock = MovableClock()
        self.projects = Projects(self._database, clock)
        self._operations = Operations(self._database, clock)
        self.graph = MetadataGraph(self._database, clock)
        self.training = Training(
            database=self._database,
            clock=clock,
            projects=self.projects,
            operations=self._operations,
            objects=self.objects,
            runner=runner,
            logs=self.logs,
            models=models,
            graph=self.graph,
            schedule=Schedule(clock),
            scratch=path.parent,
        )
        self.jobs = self._service(JobService)
        self.pipelines = self._service(PipelineService)
        self.datasets = self._service(DatasetService)

    def _service(self, kind: type[Service]) -> Service:
        return next(service for service in self.training.services if isinstance(service, kind))

    def create(self, job: api.CustomJob) -> api.CustomJob:
        return self.jobs.create_custom_job(api.CreateCustomJobRequest(parent=PARENT, custom_job=job), CONTEXT)

    def get(self, name: str) -> api.CustomJob:
        return self.jobs.get_custom_job(api.GetCustomJobRequest(name=name), CONTEXT)

    def cancel(self, name: str) -> None:
        self.jobs.cancel_custom_job(api.CancelCustomJobRequest(name=name), CONTEXT)

    def train(self, pipeline: api.TrainingPipeline) -> api.TrainingPipeline:
        request = api.CreateTrainingPipelineRequest(parent=PARENT, training_pipeline=pipeline)
        return self.pipelines.create_training_pipeline(request, CONTEXT)

    def get_pipeline(self, name: str) -> api.TrainingPipeline:
        return self.pipelines.get_training_pipeline(api.GetTrainingPipelineRequest(name=name), CONTEXT)

    def listed(self, filter: str = "") -> list[api.CustomJob]:
        request = api.ListCustomJobsRequest(parent=PARENT, filter=filter)
        return list(self.jobs.list_custom_jobs(request, CONTEXT).custom_jobs)

    def started(self, count: int = 1) -> list[FakeHandle]:
        until(lambda: len(self.runner.started) >= count)
        return self.runner.started

    def reaches(self, name: str, state: State.ValueType) -> api.CustomJob:
        until(lambda: self.get(name).state == state)
        return self.get(name)

    def pipeline_reaches(self, name: str, state: PipelineState.ValueType) -> api.TrainingPipeline:
        until(lambda: self.get_pipeline(name).state == state)
        return self.get_pipeline(name)

    def close(self) -> None:
        self.training.close()
        self._operations.close()
        self._database.close()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    wait_until(condition, seconds, every=0.005)


def pool(replicas: int = 1, image: str = "python:3.11", machine_type: str = "n1-standard-4") -> api.WorkerPoolSpec:
    return api.WorkerPoolSpec(
        machine_spec=api.MachineSpec(machine_type=machine_type),
        replica_count=replicas,
        container_spec=api.ContainerSpec(image_uri=image, command=["python", "-c"], args=["print(1)"]),
    )


def package_pool() -> api.WorkerPoolSpec:
    return api.WorkerPoolSpec(
        machine_spec=api.MachineSpec(machine_type="n1-standard-4"),
        replica_count=1,
        python_package_spec=api.PythonPackageSpec(
            executor_image_uri=PREBUILT,
            package_uris=["gs://bucket/trainer-0.1.tar.gz"],
            python_module="trainer.task",
            args=["--n=1"],
            env=[api.EnvVar(name="COLOR", value="red"), api.EnvVar(name="CLOUD_ML_JOB_ID", value="mine")],
        ),
    )


def job(*pools: api.WorkerPoolSpec, output: str = "", timeout_seconds: int = 0) -> api.CustomJob:
    spec = api.CustomJobSpec(worker_pool_specs=pools or [pool()])
    if output:
        spec.base_output_directory.output_uri_prefix = output
    if timeout_seconds:
        spec.scheduling.timeout.seconds = timeout_seconds
    return api.CustomJob(display_name="taxi", job_spec=spec, labels={"team": "ml"})


def training_pipeline(*, upload: bool = True, **inputs: Any) -> api.TrainingPipeline:
    pipeline = api.TrainingPipeline(display_name="taxi", training_task_definition=CUSTOM_TASK)
    pipeline.training_task_inputs.struct_value.update(
        inputs
        or {
            "worker_pool_specs": [
                {
                    "machine_spec": {"machine_type": "n1-standard-4"},
                    "replica_count": 1.0,
                    "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100.0},
                    "python_package_spec": {
                        "executor_image_uri": PREBUILT,
                        "package_uris": ["gs://bucket/t.tar.gz"],
                        "python_module": "trainer.task",
                        "args": ["--n=1"],
                    },
                }
            ],
            "base_output_directory": {"output_uri_prefix": "gs://bucket/out"},
            "scheduling": {"timeout": "60s", "disable_retries": True},
        }
    )
    if upload:
        pipeline.model_to_upload.display_name = "taxi-model"
        pipeline.model_to_upload.version_aliases.append("default")
    return pipeline
