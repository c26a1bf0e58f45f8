"""Vertex AI JobService: custom jobs and hyperparameter tuning jobs.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#jobservice
"""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import FailedPrecondition
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CancelCustomJobRequest,
    CancelHyperparameterTuningJobRequest,
    CreateCustomJobRequest,
    CreateHyperparameterTuningJobRequest,
    CustomJob,
    DeleteCustomJobRequest,
    DeleteHyperparameterTuningJobRequest,
    DeleteOperationMetadata,
    GetCustomJobRequest,
    GetHyperparameterTuningJobRequest,
    HyperparameterTuningJob,
    JobState,
    ListCustomJobsRequest,
    ListCustomJobsResponse,
    ListHyperparameterTuningJobsRequest,
    ListHyperparameterTuningJobsResponse,
)

from emulator.core import pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.core.state import Collection
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.lifecycle import is_over
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.names import location_of, new_parent, resource_name
from emulator.services.aiplatform.persistent_resources import check_available
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.tuning.jobs import TuningJobs
from emulator.services.aiplatform.tuning.spec import check_tuning_job
from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.worker_pools import check_job_spec

#: Source: the comments of the List requests' filters
_FILTERABLE = ("display_name", "state", "create_time", "labels")


class JobService(GapicService):
    api = "google.cloud.aiplatform.v1.JobService"

    def __init__(
        self,
        *,
        state: AiplatformState,
        projects: Projects,
        operations: Operations,
        jobs: CustomJobs,
        tuning: TuningJobs,
        tracked: TrackedResources,
    ) -> None:
        self._tracked = tracked
        self._state = state
        self._projects = projects
        self._operations = operations
        self._jobs = jobs
        self._tuning = tuning
        self._held = operations.held

    def create_custom_job(self, request: CreateCustomJobRequest, context: Context) -> CustomJob:
        """Check the job, store it as PENDING and start it."""
        location = new_parent(self._projects, request.parent)
        errors = FoundErrors()
        errors.check_display_name(request.custom_job.display_name)
        errors.check_labels(request.custom_job.labels)
        check_job_spec(request.custom_job.job_spec, errors, "job_spec")
        check_available(self._state.persistent_resources, location.parent, request.custom_job.job_spec)
        created = self._jobs.create(location, self._jobs.new_name(location), request.custom_job)
        if created.job_spec.experiment_run:
            run = self._projects.canonical(created.job_spec.experiment_run)
            self._tracked.add_custom_job(location, created, run)
        return created

    def get_custom_job(self, request: GetCustomJobRequest, context: Context) -> CustomJob:
        """The job as it is; for clients that come back late, once it is over."""
        name = self._custom_job(request.name)
        self._held.hold(context, self._jobs.over(name))
        return self._state.custom_jobs.get(name)

    def list_custom_jobs(self, request: ListCustomJobsRequest, context: Context) -> ListCustomJobsResponse:
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(
            self._state.custom_jobs.list(parent),
            request,
            CustomJob,
            filterable=_FILTERABLE,
        )
        return ListCustomJobsResponse(custom_jobs=page.items, next_page_token=page.next_page_token)

    def cancel_custom_job(self, request: CancelCustomJobRequest, context: Context) -> Any:
        """CANCELLING at once, CANCELLED when its processes are gone; nothing for a job that is over."""
        self._jobs.cancel(self._custom_job(request.name))
        return protobuf.Empty()

    def delete_custom_job(self, request: DeleteCustomJobRequest, context: Context) -> Any:
        return self._delete(self._state.custom_jobs, self._custom_job(request.name), context)

    def create_hyperparameter_tuning_job(
        self, request: CreateHyperparameterTuningJobRequest, context: Context
    ) -> HyperparameterTuningJob:
        """Check the job, store it as PENDING and start it."""
        location = new_parent(self._projects, request.parent)
        check_tuning_job(request.hyperparameter_tuning_job)
        trial = request.hyperparameter_tuning_job.trial_job_spec
        check_available(self._state.persistent_resources, location.parent, trial)
        return self._tuning.create(location, request.hyperparameter_tuning_job)

    def get_hyperparameter_tuning_job(
        self, request: GetHyperparameterTuningJobRequest, context: Context
    ) -> HyperparameterTuningJob:
        """The job with its trials so far; for clients that come back late, once it is over."""
        name = self._tuning_job(request.name)
        self._held.hold(context, self._tuning.over(name))
        return self._state.tuning_jobs.get(name)

    def list_hyperparameter_tuning_jobs(
        self, request: ListHyperparameterTuningJobsRequest, context: Context
    ) -> ListHyperparameterTuningJobsResponse:
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(
            self._state.tuning_jobs.list(parent), request, HyperparameterTuningJob, filterable=_FILTERABLE
        )
        return ListHyperparameterTuningJobsResponse(
            hyperparameter_tuning_jobs=page.items, next_page_token=page.next_page_token
        )

    def cancel_hyperparameter_tuning_job(self, request: CancelHyperparameterTuningJobRequest, context: Context) -> Any:
        """CANCELLING at once, CANCELLED when its trials are over; nothing for a job that is over."""
        self._tuning.cancel(self._tuning_job(request.name))
        return protobuf.Empty()

    def delete_hyperparameter_tuning_job(self, request: DeleteHyperparameterTuningJobRequest, context: Context) -> Any:
        """Forget a job that is over; the jobs of its trials stay."""
        return self._delete(self._state.tuning_jobs, self._tuning_job(request.name), context)

    def _delete(self, collection: Collection[Any], name: str, context: Context) -> Any:
        job = collection.get(name)
        if not is_over(job):
            state = JobState.Name(job.state)
            raise FailedPrecondition(
                f"The {collection.noun} `{name}` is in state {state}; cancel it before deleting it."
            )
        collection.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def _custom_job(self, name: str) -> str:
        return resource_name(self._projects, name, "customJobs")

    def _tuning_job(self, name: str) -> str:
        return resource_name(self._projects, name, "hyperparameterTuningJobs")
