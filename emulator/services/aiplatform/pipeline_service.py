"""Vertex AI PipelineService: training pipelines and pipeline jobs.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#pipelineservice
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    BatchCancelPipelineJobsOperationMetadata,
    BatchCancelPipelineJobsRequest,
    BatchCancelPipelineJobsResponse,
    BatchDeletePipelineJobsRequest,
    BatchDeletePipelineJobsResponse,
    CancelPipelineJobRequest,
    CancelTrainingPipelineRequest,
    CreatePipelineJobRequest,
    CreateTrainingPipelineRequest,
    DeleteOperationMetadata,
    DeletePipelineJobRequest,
    DeleteTrainingPipelineRequest,
    GetPipelineJobRequest,
    GetTrainingPipelineRequest,
    ListPipelineJobsRequest,
    ListPipelineJobsResponse,
    ListTrainingPipelinesRequest,
    ListTrainingPipelinesResponse,
    PipelineJob,
    PipelineState,
    TrainingPipeline,
)

from emulator.core import pagination
from emulator.core.clock import Clock
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.lifecycle import is_over
from emulator.services.aiplatform.names import last_part, location_of, new_parent, resource_name
from emulator.services.aiplatform.persistent_resources import check_available
from emulator.services.aiplatform.pipelines.runs import PipelineRuns
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.training_runs import TrainingRuns
from emulator.services.aiplatform.training_tasks import check_pipeline, job_spec_of

#: Of one batch call. Source: the comments of BatchDeletePipelineJobsRequest
_MOST_IN_A_BATCH = 32


class PipelineService(GapicService):
    api = "google.cloud.aiplatform.v1.PipelineService"

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        runs: TrainingRuns,
        pipelines: PipelineRuns,
    ) -> None:
        self._clock = clock
        self._pipelines = pipelines
        self._state = state
        self._projects = projects
        self._operations = operations
        self._runs = runs

    def create_training_pipeline(self, request: CreateTrainingPipelineRequest, context: Context) -> TrainingPipeline:
        """Check the pipeline and the job it asks for, store it as PENDING and start the job."""
        location = new_parent(self._projects, request.parent)
        spec = job_spec_of(request.training_pipeline)
        check_pipeline(request.training_pipeline, spec)
        check_available(self._state.persistent_resources, location.parent, spec)
        return self._runs.create(location, request.training_pipeline, spec)

    def get_training_pipeline(self, request: GetTrainingPipelineRequest, context: Context) -> TrainingPipeline:
        return self._state.training_pipelines.get(self._name(request.name))

    def list_training_pipelines(
        self, request: ListTrainingPipelinesRequest, context: Context
    ) -> ListTrainingPipelinesResponse:
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(
            self._state.training_pipelines.list(parent),
            request,
            TrainingPipeline,
            filterable=("display_name", "state", "create_time", "labels", "training_task_definition"),
        )
        return ListTrainingPipelinesResponse(training_pipelines=page.items, next_page_token=page.next_page_token)

    def cancel_training_pipeline(self, request: CancelTrainingPipelineRequest, context: Context) -> Any:
        """CANCELLING at once, CANCELLED when its job is; nothing for a pipeline that is over."""
        self._runs.cancel(self._name(request.name))
        return protobuf.Empty()

    def delete_training_pipeline(self, request: DeleteTrainingPipelineRequest, context: Context) -> Any:
        """Forget a pipeline that is over; its job and its model stay."""
        name = self._name(request.name)
        pipeline = self._state.training_pipelines.get(name)
        if not is_over(pipeline):
            state = PipelineState.Name(pipeline.state)
            raise FailedPrecondition(
                f"The TrainingPipeline `{name}` is in state {state}; cancel it before deleting it."
            )
        self._state.training_pipelines.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def create_pipeline_job(self, request: CreatePipelineJobRequest, context: Context) -> PipelineJob:
        """Compile the pipeline, check what it is given, store the job as PENDING and start it."""
        location = new_parent(self._projects, request.parent)
        return self._pipelines.create(location, request.pipeline_job, request.pipeline_job_id, self._clock.now())

    def get_pipeline_job(self, request: GetPipelineJobRequest, context: Context) -> PipelineJob:
        return self._pipelines.get(self._job_name(request.name))

    def list_pipeline_jobs(self, request: ListPipelineJobsRequest, context: Context) -> ListPipelineJobsResponse:
        """Without the details of tasks, as documented."""
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(
            self._state.pipeline_jobs.list(parent),
            request,
            PipelineJob,
            filterable=(
                "display_name", "state", "create_time", "update_time", "end_time", "labels", "template_uri",
                "template_metadata.version", "schedule_name",
            ),
            computed={
                "pipeline_name": _pipeline_name,
                "pipeline_job_user_id": lambda job: last_part(job.name),
            },
            canonical=self._projects.canonical,
            sortable=("create_time", "update_time", "end_time", "start_time"),
        )  # fmt: skip
        return ListPipelineJobsResponse(pipeline_jobs=page.items, next_page_token=page.next_page_token)

    def cancel_pipeline_job(self, request: CancelPipelineJobRequest, context: Context) -> Any:
        """CANCELLING at once, CANCELLED when its tasks are over; nothing for a job that is over."""
        self._pipelines.cancel(self._job_name(request.name))
        return protobuf.Empty()

    def delete_pipeline_job(self, request: DeletePipelineJobRequest, context: Context) -> Any:
        """Forget a job that is over; its custom jobs, artifacts and lineage stay."""
        name = self._job_name(request.name)
        self._check_deletable([name])
        self._pipelines.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def batch_cancel_pipeline_jobs(self, request: BatchCancelPipelineJobsRequest, context: Context) -> Any:
        """Cancel all of them, or none when one does not exist."""
        parent = location_of(self._projects, request.parent).parent
        names = self._batch(parent, request.names)
        for name in names:
            self._pipelines.cancel(name)
        response = BatchCancelPipelineJobsResponse(pipeline_jobs=[self._pipelines.get(name) for name in names])
        return self._operations.finished(parent, BatchCancelPipelineJobsOperationMetadata(), response, context)

    def batch_delete_pipeline_jobs(self, request: BatchDeletePipelineJobsRequest, context: Context) -> Any:
        """Delete all of them, or none when one does not exist or is not over."""
        parent = location_of(self._projects, request.parent).parent
        names = self._batch(parent, request.names)
        self._check_deletable(names)
        response = BatchDeletePipelineJobsResponse(pipeline_jobs=[self._pipelines.get(name) for name in names])
        for name in names:
            self._pipelines.delete(name)
        return self._operations.finished(parent, DeleteOperationMetadata(), response, context)

    def _batch(self, parent: str, asked: Iterable[str]) -> list[str]:
        names = [self._job_name(name) for name in dict.fromkeys(asked)]
        if not 0 < len(names) <= _MOST_IN_A_BATCH:
            raise InvalidArgument(f"names must hold between 1 and {_MOST_IN_A_BATCH} names.")
        for name in names:
            if not name.startswith(f"{parent}/"):
                raise InvalidArgument(f"{name} is not below the parent {parent}.")
            if self._state.pipeline_jobs.find(name) is None:
                raise NotFound(f"The PipelineJob `{name}` does not exist.")
        return names

    def _check_deletable(self, names: Iterable[str]) -> None:
        for name in names:
            job = self._pipelines.get(name)
            if not is_over(job):
                state = PipelineState.Name(job.state)
                raise FailedPrecondition(f"The PipelineJob `{name}` is in state {state}; cancel it before deleting it.")

    def _job_name(self, name: str) -> str:
        return resource_name(self._projects, name, "pipelineJobs")

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "trainingPipelines")


def _pipeline_name(job: PipelineJob) -> str:
    return str(job.pipeline_spec.fields["pipelineInfo"].struct_value.fields["name"].string_value)
