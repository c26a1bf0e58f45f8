"""Vertex AI ScheduleService: schedules of pipeline jobs.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#scheduleservice
"""

from __future__ import annotations

from typing import Any

from selfloop_apis import protobuf
from selfloop_apis.aiplatform_v1 import (
    CreateScheduleRequest,
    DeleteOperationMetadata,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PauseScheduleRequest,
    ResumeScheduleRequest,
    Schedule,
    UpdateScheduleRequest,
)

from emulator.core import field_masks, pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.names import location_of, new_parent, resource_name
from emulator.services.aiplatform.schedules import Schedules, check_schedule
from emulator.services.aiplatform.state import AiplatformState

_UPDATABLE = (
    "display_name",
    "cron",
    "start_time",
    "end_time",
    "max_run_count",
    "max_concurrent_run_count",
    "max_concurrent_active_run_count",
    "allow_queueing",
    "create_pipeline_job_request",
)


class ScheduleService(GapicService):
    api = "google.cloud.aiplatform.v1.ScheduleService"

    def __init__(
        self, *, state: AiplatformState, projects: Projects, operations: Operations, schedules: Schedules
    ) -> None:
        self._state = state
        self._projects = projects
        self._operations = operations
        self._schedules = schedules

    def create_schedule(self, request: CreateScheduleRequest, context: Context) -> Schedule:
        """Store a schedule as ACTIVE; its first run comes at the first time of its cron expression."""
        location = new_parent(self._projects, request.parent)
        check_schedule(request.schedule)
        return self._schedules.create(location, request.schedule)

    def get_schedule(self, request: GetScheduleRequest, context: Context) -> Schedule:
        return self._state.schedules.get(self._name(request.name))

    def list_schedules(self, request: ListSchedulesRequest, context: Context) -> ListSchedulesResponse:
        page = pagination.page(
            self._state.schedules.list(location_of(self._projects, request.parent).parent),
            request,
            Schedule,
            filterable=(
                "display_name",
                "state",
                "create_time",
                "start_time",
                "end_time",
                "next_run_time",
                "create_pipeline_job_request",
            ),
            sortable=("create_time", "start_time", "end_time", "next_run_time"),
        )
        return ListSchedulesResponse(schedules=page.items, next_page_token=page.next_page_token)

    def pause_schedule(self, request: PauseScheduleRequest, context: Context) -> Any:
        """No run begins until it is resumed; those at work go on."""
        self._schedules.pause(self._name(request.name))
        return protobuf.Empty()

    def resume_schedule(self, request: ResumeScheduleRequest, context: Context) -> Any:
        """Runs begin again; with catch_up first those whose time came meanwhile."""
        self._schedules.resume(self._name(request.name), catch_up=request.catch_up)
        return protobuf.Empty()

    def update_schedule(self, request: UpdateScheduleRequest, context: Context) -> Schedule:
        """Change a schedule that is not over; its next run is planned anew."""

        def change(stored: Schedule) -> None:
            field_masks.update(stored, request.schedule, request.update_mask.paths, _UPDATABLE)
            check_schedule(stored)

        return self._schedules.update(self._name(request.schedule.name), change)

    def delete_schedule(self, request: DeleteScheduleRequest, context: Context) -> Any:
        """Forget a schedule; its runs stay."""
        name = self._name(request.name)
        self._schedules.delete(name)
        parent = location_of(self._projects, name).parent
        return self._operations.finished(parent, DeleteOperationMetadata(), protobuf.Empty(), context)

    def _name(self, name: str) -> str:
        return resource_name(self._projects, name, "schedules")
