"""Vertex AI PipelineService: training pipelines.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#pipelineservice
"""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import FailedPrecondition
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CancelTrainingPipelineRequest,
    CreateTrainingPipelineRequest,
    DeleteOperationMetadata,
    DeleteTrainingPipelineRequest,
    GetTrainingPipelineRequest,
    ListTrainingPipelinesRequest,
    ListTrainingPipelinesResponse,
    PipelineState,
    TrainingPipeline,
)

from emulator.core import pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.lifecycle import is_over
from emulator.services.aiplatform.names import location_of, new_parent, resource_name
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.training_runs import TrainingRuns
from emulator.services.aiplatform.training_tasks import check_pipeline, job_spec_of


class PipelineService(GapicService):
    api = "google.cloud.aiplatform.v1.PipelineService"

    def __init__(
        self, *, state: AiplatformState, projects: Projects, operations: Operations, runs: TrainingRuns
    ) -> None:
        self._state = state
        self._projects = projects
        self._operations = operations
        self._runs = runs

    def create_training_pipeline(self, request: CreateTrainingPipelineRequest, context: Context) -> TrainingPipeline:
        """Check the pipeline and the job it asks for, store it as PENDING and start the job."""
        location = new_parent(self._projects, request.parent)
        spec = job_spec_of(request.training_pipeline)
        check_pipeline(request.training_pipeline, spec)
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

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "trainingPipelines")
