"""Vertex AI PersistentResourceService: machines that stay there between jobs.

Every machine is this one and stays there anyway: what is kept is the resource, its states and who may use it.
Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#persistentresourceservice
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import FailedPrecondition
from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CreatePersistentResourceOperationMetadata,
    CreatePersistentResourceRequest,
    DeleteOperationMetadata,
    DeletePersistentResourceRequest,
    GetPersistentResourceRequest,
    ListPersistentResourcesRequest,
    ListPersistentResourcesResponse,
    PersistentResource,
    RebootPersistentResourceOperationMetadata,
    RebootPersistentResourceRequest,
    UpdatePersistentResourceOperationMetadata,
    UpdatePersistentResourceRequest,
)

from emulator.core import field_masks, pagination
from emulator.core.clock import Clock
from emulator.core.messages import stamp
from emulator.core.operations import Operations, Running
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform import persistent_resources as resources
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_failure import interrupted
from emulator.services.aiplatform.names import last_part, location_of, new_parent, resource_name
from emulator.services.aiplatform.state import AiplatformState

State = PersistentResource.State
_UPDATABLE = ("display_name", "labels", "resource_pools")


class PersistentResourceService(GapicService):
    api = "google.cloud.aiplatform.v1.PersistentResourceService"

    def __init__(
        self, *, state: AiplatformState, clock: Clock, projects: Projects, operations: Operations, jobs: CustomJobs
    ) -> None:
        self._resources = state.persistent_resources
        self._clock = clock
        self._projects = projects
        self._operations = operations
        self._jobs = jobs
        self._settle()

    def create_persistent_resource(self, request: CreatePersistentResourceRequest, context: Context) -> Any:
        """Store a resource as PROVISIONING; it is RUNNING when the operation is done."""
        location = new_parent(self._projects, request.parent)
        resources.check_id(request.persistent_resource_id)
        resource = PersistentResource()
        resource.CopyFrom(request.persistent_resource)
        resources.check_resource(resource)
        resources.complete(resource)
        resource.name = f"{location.parent}/persistentResources/{request.persistent_resource_id}"
        resource.state = State.PROVISIONING
        now = self._clock.now()
        stamp(resource.create_time, now)
        stamp(resource.update_time, now)
        self._resources.insert(resource)
        return self._run_again(resource.name, CreatePersistentResourceOperationMetadata(), context)

    def get_persistent_resource(self, request: GetPersistentResourceRequest, context: Context) -> PersistentResource:
        return self._resources.get(self._name(request.name))

    def list_persistent_resources(
        self, request: ListPersistentResourcesRequest, context: Context
    ) -> ListPersistentResourcesResponse:
        parent = location_of(self._projects, request.parent).parent
        page = pagination.page(self._resources.list(parent), request, PersistentResource)
        return ListPersistentResourcesResponse(persistent_resources=page.items, next_page_token=page.next_page_token)

    def update_persistent_resource(self, request: UpdatePersistentResourceRequest, context: Context) -> Any:
        """UPDATING, with the new pools, until the operation is done."""

        def change(stored: PersistentResource) -> None:
            field_masks.update(stored, request.persistent_resource, request.update_mask.paths, _UPDATABLE)
            resources.check_resource(stored)
            resources.complete(stored)

        name = self._name(request.persistent_resource.name)
        self._leave(name, State.UPDATING, change)
        return self._run_again(name, UpdatePersistentResourceOperationMetadata(), context)

    def reboot_persistent_resource(self, request: RebootPersistentResourceRequest, context: Context) -> Any:
        """REBOOTING until the operation is done."""
        name = self._name(request.name)
        self._check_unused(name)
        self._leave(name, State.REBOOTING)
        return self._run_again(name, RebootPersistentResourceOperationMetadata(), context)

    def delete_persistent_resource(self, request: DeletePersistentResourceRequest, context: Context) -> Any:
        name = self._name(request.name)
        self._resources.get(name)
        self._check_unused(name)
        self._resources.delete(name)
        return self._operations.finished(name, DeleteOperationMetadata(), protobuf.Empty(), context)

    def _leave(
        self, name: str, state: State.ValueType, change: Callable[[PersistentResource], None] = lambda stored: None
    ) -> None:
        """Bring a RUNNING resource into a state that lasts as long as an operation. Raises FailedPrecondition."""

        def leave(stored: PersistentResource) -> None:
            if stored.state != State.RUNNING:
                raise FailedPrecondition(
                    f"The PersistentResource `{name}` is in state {State.Name(stored.state)}, not RUNNING."
                )
            change(stored)
            stored.state = state
            stamp(stored.update_time, self._clock.now())

        self._resources.update(name, leave)

    def _run_again(self, name: str, metadata: Any, context: Context) -> Any:
        """The operation at whose end the resource is RUNNING."""

        def run(stored: PersistentResource) -> None:
            now = self._clock.now()
            stored.state = State.RUNNING
            if not stored.HasField("start_time"):
                stamp(stored.start_time, now)
            stamp(stored.update_time, now)

        def work(_: Running) -> PersistentResource:
            return self._resources.update(name, run)

        return self._operations.start(name, metadata, work, context)

    def _check_unused(self, name: str) -> None:
        """Raises FailedPrecondition while jobs run on it."""
        users = self._jobs.on_persistent_resource(last_part(name), location_of(self._projects, name).parent)
        if users:
            raise FailedPrecondition(f"The PersistentResource `{name}` is in use by `{users[0]}`; cancel it first.")

    def _settle(self) -> None:
        """End what an operation was about to change when the emulator ended."""
        for resource in self._resources.list():
            if resource.state in {State.RUNNING, State.ERROR}:
                continue

            def fail(stored: PersistentResource) -> None:
                stored.state = State.ERROR
                stored.error.CopyFrom(interrupted("change of a persistent resource"))
                stamp(stored.update_time, self._clock.now())

            self._resources.update(resource.name, fail)

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "persistentResources")
