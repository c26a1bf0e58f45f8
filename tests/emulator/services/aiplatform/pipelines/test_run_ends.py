"""Ends of runs that no client asks for: a fault inside the emulator, and its orderly end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from selfloop_apis import aiplatform_v1 as api

from emulator.services.aiplatform.pipelines.steps import Steps
from tests.emulator.services.aiplatform.fakes import SUCCESS, FakeObjects
from tests.emulator.services.aiplatform.pipelines.specs import programs, task
from tests.emulator.services.aiplatform.world import CONTEXT, PARENT, World, until

DOCUMENT = programs({"a": task("a"), "b": task("b"), "c": task("c", "a")}, {"a": "pass", "b": "pass", "c": "pass"})


def create(world: World) -> api.PipelineJob:
    job = api.PipelineJob()
    job.pipeline_spec.update(DOCUMENT)
    job.runtime_config.gcs_output_directory = "gs://bucket/root"
    return world.pipelines.create_pipeline_job(
        api.CreatePipelineJobRequest(parent=PARENT, pipeline_job=job, pipeline_job_id="run"), CONTEXT
    )


def get(world: World, name: str) -> api.PipelineJob:
    return world.pipelines.get_pipeline_job(api.GetPipelineJobRequest(name=name), CONTEXT)


def states(job: api.PipelineJob) -> dict[str, str]:
    return {detail.task_name: api.PipelineTaskDetail.State.Name(detail.state) for detail in job.job_detail.task_details}


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds(objects=FakeObjects("gs://bucket/something"))


def test_fault_inside_the_emulator_fails_the_run_and_stops_its_steps(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(self: Steps, container: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Steps, "_collect", fault)
    name = create(world).name
    first, second = world.started(2)
    with caplog.at_level(logging.CRITICAL):
        first.finish(SUCCESS)
        until(lambda: get(world, name).state == api.PipelineState.PIPELINE_STATE_FAILED)
    job = get(world, name)
    assert (job.error.code, job.error.message) == (13, "Internal error: the disk is full")
    assert second.cancelled.wait(10)
    assert states(job) == {"run": "FAILED", "a": "FAILED", "b": "FAILED"}


def test_emulator_that_ends_leaves_no_task_running(worlds: Callable[..., World], world: World) -> None:
    name = create(world).name
    world.started(2)
    until(lambda: states(get(world, name)) == {"run": "RUNNING", "a": "RUNNING", "b": "RUNNING"})
    world.training.close()
    again = worlds(objects=FakeObjects("gs://bucket/something"))
    job = get(again, name)
    assert (job.state, job.error.code) == (api.PipelineState.PIPELINE_STATE_FAILED, 10)
    assert states(job) == {"run": "FAILED", "a": "FAILED", "b": "FAILED"}
    assert {api.Execution.State.Name(detail.execution.state) for detail in job.job_detail.task_details} == {"FAILED"}
