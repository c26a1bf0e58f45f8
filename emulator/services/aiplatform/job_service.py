"""Vertex AI JobService: custom jobs.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#jobservice
"""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import FailedPrecondition
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CancelCustomJobRequest,
    CreateCustomJobRequest,
    CustomJob,
    DeleteCustomJobRequest,
    DeleteOperationMetadata,
    GetCustomJobRequest,
    JobState,
    ListCustomJobsRequest,
    ListCustomJobsResponse,
)

from emulator.core import pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.held_calls import HeldCalls
from emulator.services.aiplatform.lifecycle import is_over
from emulator.services.aiplatform.names import location_of, new_parent, resource_name
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.worker_pools import check_job_spec


class JobService(GapicService):
    api = "google.cloud.aiplatform.v1.JobService"

    def __init__(self, *, state: AiplatformState, projects: Projects, operations: Operations, jobs: CustomJobs) -> None:
        self._state = state
        self._projects = projects
        self._operations = operations
        self._jobs = jobs
        self._held = HeldCalls()

    def create_custom_job(self, request: CreateCustomJobRequest, context: Context) -> CustomJob:
        """Check the job, store it as PENDING and start it."""
        location = new_parent(self._projects, request.parent)
        errors = FoundErrors()
        errors.check_display_name(request.custom_job.display_name)
        errors.check_labels(request.custom_job.labels)
        check_job_spec(request.custom_job.job_spec, errors, "job_spec")
        return self._jobs.create(location, self._jobs.new_name(location), request.custom_job)

    def get_custom_job(self, request: GetCustomJobRequest, context: Context) -> CustomJob:
        """The job as it is; for clients that come back late, once it is over."""
        name = self._name(request.name)
        self._held.hold(context, self._jobs.over(name))
        return self._state.custom_jobs.get(name)

    def list_custom_jobs(self, request: ListCustomJobsRequest, context: Context) -> ListCustomJobsResponse:
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(
            self._state.custom_jobs.list(parent),
            request,
            CustomJob,
            filterable=("display_name", "state", "create_time", "labels"),
        )
        return ListCustomJobsResponse(custom_jobs=page.items, next_page_token=page.next_page_token)

    def cancel_custom_job(self, request: CancelCustomJobRequest, context: Context) -> Any:
        """CANCELLING at once, CANCELLED when its processes are gone; nothing for a job that is over."""
        self._jobs.cancel(self._name(request.name))
        return protobuf.Empty()

    def delete_custom_job(self, request: DeleteCustomJobRequest, context: Context) -> Any:
        name = self._name(request.name)
        job = self._state.custom_jobs.get(name)
        if not is_over(job):
            state = JobState.Name(job.state)
            raise FailedPrecondition(f"The CustomJob `{name}` is in state {state}; cancel it before deleting it.")
        self._state.custom_jobs.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "customJobs")
