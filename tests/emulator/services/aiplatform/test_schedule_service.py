"""Schedules through the official clients, on the emulator's clock."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, MethodNotImplemented, NotFound
from google.cloud import aiplatform, storage
from google.cloud.aiplatform_v1 import PipelineServiceClient, Schedule, ScheduleServiceClient
from google.protobuf import json_format, struct_pb2

from tests.conftest import LOCATION, Emulator, wait_until

#: A pipeline of one step, as kfp compiles it.
SPEC = {
    "pipelineInfo": {"name": "hello"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {"dag": {"tasks": {"say": {"componentRef": {"name": "comp-say"}, "taskInfo": {"name": "say"}}}}},
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {
        "executors": {
            "exec-say": {
                "container": {
                    "image": "python:3.11",
                    "command": ["sh", "-c", "echo {{$.pipeline_job_schedule_time_utc}}; sleep $0"],
                    "args": ["0"],
                }
            }
        }
    },
}


@pytest.fixture(params=["grpc", "rest"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class World:
    """An emulator whose clock the test moves, with the clients of one project."""

    def __init__(self, emulator: Emulator, parent: str, transport: str) -> None:
        self._emulator = emulator
        self.parent = parent
        self.schedules = emulator.client(ScheduleServiceClient, transport=transport)
        self.pipelines = emulator.client(PipelineServiceClient, transport=transport)

    def advance(self, **by: float) -> dict[str, Any]:
        seconds = timedelta(**by).total_seconds()
        answer: dict[str, Any] = self._emulator.control("POST", "clock", {"advance_seconds": seconds})
        return answer

    def now(self) -> datetime:
        return datetime.fromisoformat(self._emulator.control("GET", "clock")["now"])

    def create(self, cron: str = "0 * * * *", seconds: int = 0, **fields: Any) -> Any:
        spec: Any = json_format.ParseDict(SPEC, struct_pb2.Struct())
        executors = spec["deploymentSpec"]["executors"]
        executors["exec-say"]["container"]["args"] = [str(seconds)]
        job = {
            "display_name": "hello",
            "pipeline_spec": spec,
            "runtime_config": {"gcs_output_directory": "gs://schedules-bucket/root"},
        }
        schedule = {
            "display_name": "hourly",
            "cron": cron,
            "max_concurrent_run_count": 1,
            "create_pipeline_job_request": {"parent": self.parent, "pipeline_job": job},
        }
        return self.schedules.create_schedule(parent=self.parent, schedule=Schedule(schedule | fields))

    def update(self, schedule: Any, **fields: Any) -> Any:
        request: Any = {"schedule": {"name": schedule.name, **fields}, "update_mask": {"paths": list(fields)}}
        return self.schedules.update_schedule(request)

    def get(self, schedule: Any) -> Any:
        return self.schedules.get_schedule(name=schedule.name)

    def runs(self, schedule: Any) -> list[Any]:
        request = {"parent": self.parent, "filter": f"schedule_name={schedule.name}", "order_by": "create_time"}
        return list(self.pipelines.list_pipeline_jobs(request))


@pytest.fixture(scope="module")
def moved_emulator(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of this module's own, for its clock is moved."""
    from tests.conftest import start_emulator

    state = tmp_path_factory.mktemp("schedules") / "state"
    # gRPC reads its certificates once a process.
    shutil.copytree(emulator.state / "ca", state / "ca")
    running = start_emulator(state)
    with running.exported():
        storage.Client(project="schedules").create_bucket("schedules-bucket")
    yield running
    running.stop()


@pytest.fixture
def world(moved_emulator: Emulator, parent: str, transport: str) -> Iterator[World]:
    with moved_emulator.exported():
        made = World(moved_emulator, parent, transport)
        with made.schedules, made.pipelines:
            yield made
            for schedule in made.schedules.list_schedules(parent=parent):
                made.schedules.delete_schedule(name=schedule.name)


def test_create_schedule_runs_at_each_time_of_its_cron(world: World) -> None:
    created = world.create()
    assert created.state == Schedule.State.ACTIVE
    assert created.next_run_time.minute == 0
    assert created.next_run_time > world.now()
    first = created.next_run_time

    advanced = world.advance(hours=3)
    assert advanced["unfinished"] == []
    schedule = world.get(created)
    assert schedule.started_run_count == 3
    assert schedule.next_run_time == first + timedelta(hours=3)
    runs = world.runs(created)
    assert [run.state.name for run in runs] == ["PIPELINE_STATE_SUCCEEDED"] * 3
    assert [run.schedule_name for run in runs] == [created.name] * 3
    due = [first + timedelta(hours=hours) for hours in range(3)]
    assert [run.name.rpartition("/")[2] for run in runs] == [f"hello-{at:%Y%m%d%H%M%S}" for at in due]
    assert all(run.create_time >= at for run, at in zip(runs, due, strict=True))
    response = schedule.last_scheduled_run_response
    assert response.scheduled_run_time == due[-1]
    assert response.run_response == runs[-1].name


def test_schedule_ends_after_its_last_run_and_at_its_end(world: World) -> None:
    counted = world.create(max_run_count=2)
    ending = world.create(end_time=world.now() + timedelta(hours=1, minutes=30))
    world.advance(hours=5)
    for schedule, most in ((counted, 2), (ending, 2)):
        found = world.get(schedule)
        assert found.state == Schedule.State.COMPLETED
        assert not found.next_run_time
        assert 1 <= found.started_run_count <= most
    with pytest.raises(BadRequest, match="cannot be paused"):
        world.schedules.pause_schedule(name=counted.name)
    with pytest.raises(BadRequest, match="completed"):
        world.update(counted, cron="1 * * * *")


def test_schedule_begins_no_earlier_than_its_start(world: World) -> None:
    start = world.now() + timedelta(hours=2, minutes=30)
    created = world.create(start_time=start)
    assert created.next_run_time > start
    world.advance(hours=2)
    assert world.get(created).started_run_count == 0
    world.advance(hours=2)
    assert world.get(created).started_run_count in (1, 2)


def test_paused_schedule_starts_nothing_and_catches_up_when_asked(world: World) -> None:
    plain, backfilled = world.create(), world.create()
    for schedule in (plain, backfilled):
        world.schedules.pause_schedule(name=schedule.name)
    with pytest.raises(BadRequest, match="is in state PAUSED and cannot be paused"):
        world.schedules.pause_schedule(name=plain.name)
    world.advance(hours=3)
    assert world.get(plain).started_run_count == 0
    assert world.get(plain).last_pause_time

    world.schedules.resume_schedule(name=plain.name)
    world.schedules.resume_schedule(name=backfilled.name, catch_up=True)
    wait_until(lambda: world.get(backfilled).started_run_count == 3)
    found = world.get(backfilled)
    assert found.catch_up
    assert found.next_run_time > world.now()
    assert len(world.runs(backfilled)) == 3
    assert world.get(plain).started_run_count == 0
    with pytest.raises(BadRequest, match="cannot be resumed"):
        world.schedules.resume_schedule(name=plain.name)


def test_run_that_outlives_its_interval_keeps_the_next_from_starting(world: World) -> None:
    created = world.create(seconds=600, max_concurrent_active_run_count=1)
    queued = world.create(seconds=600, max_concurrent_active_run_count=1, allow_queueing=True)
    due = created.next_run_time

    def advance_past(hours: int) -> None:
        # Without waiting for the run, which does not end.
        seconds = (due + timedelta(hours=hours, seconds=2) - world.now()).total_seconds()
        world._emulator.control("POST", "clock", {"advance_seconds": seconds, "wait_seconds": 0})

    advance_past(0)
    assert world.get(created).started_run_count == 1
    advance_past(1)
    skipped = world.get(created)
    assert skipped.started_run_count == 1
    assert skipped.last_scheduled_run_response.run_response == "Skipped: 1 runs are active."
    assert skipped.next_run_time == due + timedelta(hours=2)
    waiting = world.get(queued)
    assert waiting.started_run_count == 1
    assert waiting.next_run_time == due + timedelta(hours=1)
    # The place is free once the run before is over.
    world.pipelines.cancel_pipeline_job(name=world.runs(queued)[0].name)
    wait_until(lambda: world.get(queued).started_run_count == 2)
    for schedule in (created, queued):
        for run in world.runs(schedule):
            world.pipelines.cancel_pipeline_job(name=run.name)


def test_update_schedule_plans_the_next_run_anew(world: World) -> None:
    created = world.create("0 0 1 1 *")
    updated = world.update(created, cron="30 * * * *", display_name="half past")
    assert updated.display_name == "half past"
    assert updated.next_run_time.minute == 30
    assert updated.next_run_time - world.now() <= timedelta(hours=1)


def test_template_that_cannot_run_is_told_in_the_response(world: World) -> None:
    created = world.create(
        create_pipeline_job_request={"parent": world.parent, "pipeline_job": {"display_name": "nothing"}}
    )
    world.advance(hours=1)
    found = world.get(created)
    assert found.started_run_count == 0
    assert found.last_scheduled_run_response.run_response.startswith("Failed to start: ")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"display_name": ""}, "display_name"),
        ({"cron": "every day"}, "Invalid cron expression"),
        ({"max_concurrent_run_count": 0}, "max_concurrent_run_count"),
        ({"end_time": datetime(2020, 1, 1, tzinfo=UTC), "start_time": datetime(2021, 1, 1, tzinfo=UTC)}, "end_time"),
        (
            {"create_pipeline_job_request": {"parent": "projects/p", "pipeline_job": {}, "pipeline_job_id": "mine"}},
            "must not be set",
        ),
    ],
)
def test_create_with_a_wrong_field_is_refused(world: World, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        world.create(**fields)


def test_notebook_executions_are_not_emulated(world: World) -> None:
    with pytest.raises(MethodNotImplemented, match="notebook executions"):
        world.create(
            create_notebook_execution_job_request={
                "parent": world.parent,
                "notebook_execution_job": {"display_name": "notebook"},
            }
        )


def test_delete_schedule_leaves_its_runs(world: World) -> None:
    created = world.create(max_run_count=1)
    world.advance(hours=1)
    assert len(world.runs(created)) == 1
    world.schedules.delete_schedule(name=created.name).result(timeout=20)
    with pytest.raises(NotFound, match="Schedule"):
        world.get(created)
    assert len(world.runs(created)) == 1


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated")  # of the SDK's own logging
def test_sdk_makes_lists_pauses_and_deletes_schedules(
    moved_emulator: Emulator, project: str, transport: str, tmp_path: Any
) -> None:
    import json

    (tmp_path / "hello.json").write_text(json.dumps(SPEC))
    with moved_emulator.exported():
        aiplatform.init(project=project, location=LOCATION, api_transport=transport)
        job = aiplatform.PipelineJob(
            display_name="hello", template_path=str(tmp_path / "hello.json"), pipeline_root="gs://schedules-bucket/root"
        )
        made = job.create_schedule(cron="TZ=Europe/Berlin 0 6 * * *", display_name="daily", max_concurrent_run_count=2)
        assert made.cron == "TZ=Europe/Berlin 0 6 * * *"
        made.pause()
        assert made.state == Schedule.State.PAUSED
        made.resume()
        made.update(display_name="every day", cron="0 5 * * *")
        assert [found.display_name for found in aiplatform.PipelineJobSchedule.list()] == ["every day"]
        moved_emulator.control("POST", "clock", {"advance_seconds": 86400})
        assert len(made.list_jobs()) == 1
        made.delete()
        assert aiplatform.PipelineJobSchedule.list() == []


def test_schedule_outlives_a_crash(new_emulator: Callable[..., Emulator], parent: str) -> None:
    first = new_emulator()
    with first.exported():
        created = World(first, parent, "rest").create()
    first.stop(9)
    second = new_emulator(state=first.state)
    with second.exported():
        world = World(second, parent, "rest")
        world.advance(hours=1)
        assert world.get(created).started_run_count == 1
