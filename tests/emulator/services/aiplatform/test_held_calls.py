"""Gets that wait for a job's end, and those that do not."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from google.api_core.gapic_v1.client_info import ClientInfo
from google.cloud.aiplatform_v1 import JobServiceClient, JobState
from selfloop_apis import aiplatform_v1 as api

from emulator.core import held_calls
from emulator.core.clock import MovableClock
from emulator.core.held_calls import HeldCalls
from emulator.core.operations import GRACE_SECONDS, Operations, Running
from emulator.core.service import Context
from emulator.core.state import Database
from tests.conftest import LOCATION, Emulator
from tests.emulator.services.aiplatform.test_job_service import python_job
from tests.emulator.services.aiplatform.world import CONTEXT, State, World, job, until

COMPONENTS = replace(CONTEXT, headers={"x-goog-api-client": "google-cloud-pipeline-components gl-python/3.11.7"})


def get(world: World, name: str, context: Context = COMPONENTS) -> api.CustomJob:
    return world.jobs.get_custom_job(api.GetCustomJobRequest(name=name), context)


def test_pipeline_component_is_answered_when_the_job_is_over(world: World) -> None:
    created = world.create(job())
    (handle,) = world.started()
    threading.Timer(0.2, handle.finish).start()
    assert get(world, created.name).state == State.JOB_STATE_SUCCEEDED
    assert get(world, created.name).state == State.JOB_STATE_SUCCEEDED


def test_other_clients_are_answered_at_once(world: World) -> None:
    created = world.create(job())
    world.reaches(created.name, State.JOB_STATE_RUNNING)
    began = time.monotonic()
    assert get(world, created.name, CONTEXT).state == State.JOB_STATE_RUNNING
    assert time.monotonic() - began < 0.2


@pytest.mark.parametrize(
    "context",
    [
        replace(COMPONENTS, seconds_left=lambda: held_calls._MARGIN_SECONDS + 0.1),
        replace(COMPONENTS, is_active=lambda: False),
    ],
)
def test_no_call_is_held_beyond_its_own_end(world: World, context: Context) -> None:
    created = world.create(job())
    world.reaches(created.name, State.JOB_STATE_RUNNING)
    began = time.monotonic()
    assert get(world, created.name, context).state == State.JOB_STATE_RUNNING
    assert time.monotonic() - began < 2


def test_calls_beyond_the_places_are_answered_at_once() -> None:
    held, over = HeldCalls(most=1), threading.Event()
    waiting = threading.Thread(target=held.hold, args=(COMPONENTS, over))
    waiting.start()
    until(lambda: held._places._value == 0)
    held.hold(COMPONENTS, threading.Event())
    over.set()
    waiting.join(10)
    assert not waiting.is_alive()
    held.hold(COMPONENTS, over)


def test_a_component_s_client_sees_the_end_at_its_first_look(emulator: Emulator, parent: str) -> None:
    with emulator.exported():
        client = JobServiceClient(
            client_options={"api_endpoint": f"{LOCATION}-aiplatform.googleapis.com"},
            client_info=ClientInfo(user_agent="google-cloud-pipeline-components"),
        )
    with client:
        created = client.create_custom_job(parent=parent, custom_job=python_job("import time; time.sleep(1)"))
        assert client.get_custom_job(name=created.name).state == JobState.JOB_STATE_SUCCEEDED


def test_operation_that_a_component_starts_is_answered_when_it_is_over(tmp_path: Path) -> None:
    operations = Operations(Database(tmp_path / "state.sqlite"), MovableClock())

    def work(running: Running) -> api.UploadModelResponse:
        time.sleep(2 * GRACE_SECONDS)
        return api.UploadModelResponse(model="models/1")

    begun = api.UploadModelOperationMetadata()
    assert not operations.start("projects/1/locations/l", begun, work, CONTEXT).done
    assert operations.start("projects/1/locations/l", begun, work, COMPONENTS).done
    operations.close()
