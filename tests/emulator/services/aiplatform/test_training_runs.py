"""States of training pipelines, with containers that a test ends by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1 as api

from emulator.core.interfaces import ContainerResult, ExitReason
from tests.emulator.services.aiplatform.fakes import SUCCESS, FakeModels, FakeObjects
from tests.emulator.services.aiplatform.world import CONTEXT, PARENT, PipelineState, State, World, training_pipeline


def test_pipeline_runs_its_job_and_uploads_the_model(worlds: Callable[..., World]) -> None:
    world = worlds(objects=FakeObjects("gs://bucket/out/model/model.joblib"))
    created = world.train(training_pipeline())
    assert created.state == PipelineState.PIPELINE_STATE_PENDING
    assert not created.HasField("training_task_metadata")
    (handle,) = world.started()
    running = world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_RUNNING)
    job_name = str(running.training_task_metadata.struct_value["backingCustomJob"])
    backing = world.get(job_name)
    assert backing.display_name == "taxi-custom-job"
    assert backing.job_spec.worker_pool_specs[0].replica_count == 1
    assert backing.job_spec.scheduling.disable_retries
    assert handle.container.env["CLOUD_ML_JOB_ID"] == job_name.rpartition("/")[2]
    assert handle.container.env["AIP_MODEL_DIR"] == "gs://bucket/out/model/"
    handle.finish()
    ended = world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_SUCCEEDED)
    ((parent, model, model_id, parent_model),) = world.models.registered
    assert parent == world.projects.canonical(PARENT)
    assert model.artifact_uri == "gs://bucket/out/model"
    assert model.training_pipeline == created.name
    assert (model_id, parent_model) == ("", "")
    assert ended.model_to_upload.name == f"{parent}/models/77"
    assert ended.model_to_upload.version_id == "1"
    assert ended.model_to_upload.artifact_uri == "gs://bucket/out/model"
    assert ended.HasField("start_time")
    assert ended.HasField("end_time")


def test_pipeline_takes_camel_case_inputs(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS)
    pipeline = training_pipeline(
        upload=False,
        workerPoolSpecs=[
            {
                "machineSpec": {"machineType": "n1-standard-4"},
                "replicaCount": "1",
                "containerSpec": {
                    "imageUri": "python:3.11",
                    "command": ["python"],
                    "env": [{"name": "A", "value": "b"}],
                },
            }
        ],
        scheduling={"timeout": "60s"},
    )
    created = world.train(pipeline)
    world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_SUCCEEDED)
    container = world.runner.started[0].container
    assert container.env["A"] == "b"
    assert container.timeout_seconds == pytest.approx(60, abs=5)
    assert not world.models.registered


def test_pipeline_whose_job_left_no_model_fails(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS, objects=FakeObjects("gs://bucket/out/model/", "gs://bucket/out/other.txt"))
    ended = world.pipeline_reaches(world.train(training_pipeline()).name, PipelineState.PIPELINE_STATE_FAILED)
    assert ended.error.code == 9
    assert ended.error.message == 'There are no files under "gs://bucket/out/model" to copy.'
    assert world.listed()[0].state == State.JOB_STATE_SUCCEEDED
    assert not ended.model_to_upload.name


def test_pipeline_whose_model_is_refused_fails_with_the_registrys_words(worlds: Callable[..., World]) -> None:
    world = worlds(
        SUCCESS,
        objects=FakeObjects("gs://bucket/out/model/x"),
        models=FakeModels(FailedPrecondition("Model directory gs://bucket/out/model is expected to contain …")),
    )
    ended = world.pipeline_reaches(world.train(training_pipeline()).name, PipelineState.PIPELINE_STATE_FAILED)
    assert ended.error.code == 9
    assert ended.error.message.startswith("Model directory gs://bucket/out/model")


def test_pipeline_whose_job_fails_repeats_the_error(worlds: Callable[..., World]) -> None:
    world = worlds(ContainerResult(1, ExitReason.EXITED, stderr_tail="boom"))
    ended = world.pipeline_reaches(world.train(training_pipeline()).name, PipelineState.PIPELINE_STATE_FAILED)
    assert ended.error == world.listed()[0].error
    assert "boom" in ended.error.message


def test_cancel_of_a_pipeline_cancels_its_job(world: World) -> None:
    created = world.train(training_pipeline())
    world.started()
    request = api.CancelTrainingPipelineRequest(name=created.name)
    world.pipelines.cancel_training_pipeline(request, CONTEXT)
    ended = world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_CANCELLED)
    assert ended.error.code == 1
    assert world.listed()[0].state == State.JOB_STATE_CANCELLED
    world.pipelines.cancel_training_pipeline(request, CONTEXT)


def test_pipeline_whose_job_is_cancelled_is_cancelled(world: World) -> None:
    created = world.train(training_pipeline())
    world.started()
    world.cancel(world.listed()[0].name)
    world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_CANCELLED)


def test_delete_of_a_pipeline_keeps_its_job(worlds: Callable[..., World]) -> None:
    world = worlds()
    created = world.train(training_pipeline(upload=False))
    world.started()
    request = api.DeleteTrainingPipelineRequest(name=created.name)
    with pytest.raises(FailedPrecondition):
        world.pipelines.delete_training_pipeline(request, CONTEXT)
    world.runner.started[0].finish()
    world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_SUCCEEDED)
    assert world.pipelines.delete_training_pipeline(request, CONTEXT).done
    with pytest.raises(NotFound):
        world.get_pipeline(created.name)
    assert len(world.listed()) == 1


def _with(change: Callable[[api.TrainingPipeline], object]) -> api.TrainingPipeline:
    pipeline = training_pipeline()
    change(pipeline)
    return pipeline


def _set(pipeline: api.TrainingPipeline, **fields: str) -> None:
    for name, value in fields.items():
        setattr(pipeline, name, value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (_with(lambda p: p.input_data_config.SetInParent()), r"input_data_config\.dataset_id; Message: Required"),
        (_with(lambda p: _set(p, training_task_definition="gs://x/automl.yaml")), "automl.yaml.* is not emulated yet"),
        (_with(lambda p: _set(p, model_id="a", parent_model="b")), "Only one of model_id and parent_model"),
        (training_pipeline(worker_pool_spec=[]), "worker_pool_spec"),
        (training_pipeline(worker_pool_specs=[{"replica_count": "many"}]), "training_task_inputs"),
        (training_pipeline(base_output_directory={"output_uri_prefix": "gs://b/x"}), "worker_pool_specs; Message: Req"),
        (_with(lambda p: p.training_task_inputs.Clear()), "training_task_inputs must be an object"),
        (
            _with(lambda p: p.training_task_inputs.struct_value.fields.pop("base_output_directory")),
            "base_output_directory; Message: Required where model_to_upload",
        ),
    ],
)
def test_create_of_bad_pipeline_is_invalid_argument(world: World, bad: api.TrainingPipeline, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        world.train(bad)
    assert world.listed() == []
