"""Field masks on the messages of Vertex AI."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import InvalidArgument
from selfloop_apis import aiplatform_v1

from emulator.core import field_masks


def stored_model() -> aiplatform_v1.Model:
    return aiplatform_v1.Model(
        name="projects/1/locations/l/models/2",
        display_name="old",
        description="kept",
        artifact_uri="gs://b/m",
        version_id="1",
        etag="e",
        labels={"env": "dev", "team": "ml"},
        container_spec=aiplatform_v1.ModelContainerSpec(image_uri="i", predict_route="/p"),
    )


def test_update_brings_only_what_the_mask_names() -> None:
    model = stored_model()
    given = aiplatform_v1.Model(display_name="new", description="ignored")
    assert field_masks.update(model, given, ["display_name"]) == {"display_name"}
    assert (model.display_name, model.description) == ("new", "kept")


def test_update_clears_a_named_field_that_is_left_out() -> None:
    model = stored_model()
    field_masks.update(model, aiplatform_v1.Model(), ["description", "labels", "containerSpec"])
    assert model.description == ""
    assert not model.labels
    assert not model.HasField("container_spec")


def test_update_replaces_a_map_or_one_key_of_it() -> None:
    model = stored_model()
    field_masks.update(model, aiplatform_v1.Model(labels={"env": "prod"}), ["labels.env"])
    assert dict(model.labels) == {"env": "prod", "team": "ml"}
    field_masks.update(model, aiplatform_v1.Model(), ["labels.team"])
    assert dict(model.labels) == {"env": "prod"}
    field_masks.update(model, aiplatform_v1.Model(labels={"a": "b"}), ["labels"])
    assert dict(model.labels) == {"a": "b"}


def test_update_reaches_into_a_message() -> None:
    def endpoint(rate: float, *, enabled: bool) -> aiplatform_v1.Endpoint:
        config = aiplatform_v1.PredictRequestResponseLoggingConfig(enabled=enabled, sampling_rate=rate)
        return aiplatform_v1.Endpoint(predict_request_response_logging_config=config)

    stored = endpoint(0.5, enabled=True)
    mask = ["predict_request_response_logging_config.samplingRate"]
    field_masks.update(stored, endpoint(0.25, enabled=False), mask)
    assert stored == endpoint(0.25, enabled=True)


def test_update_with_star_replaces_all_but_fixed_fields() -> None:
    model = stored_model()
    field_masks.update(model, aiplatform_v1.Model(display_name="new", version_id="9", etag="x"), ["*"])
    assert model.display_name == "new"
    assert model.description == ""
    assert (model.version_id, model.artifact_uri, model.etag) == ("1", "gs://b/m", "e")
    assert model.name.endswith("/2")


def test_update_passes_over_output_only_fields() -> None:
    model = stored_model()
    given = aiplatform_v1.Model(version_id="9", display_name="new")
    assert field_masks.update(model, given, ["version_id", "name", "display_name"]) == {"display_name"}
    assert model.version_id == "1"


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([], "update_mask; Message: Required field"),
        (["no_such_field"], "no_such_field"),
        (["description.x"], r"description\.x"),
        (["artifact_uri"], "artifact_uri is immutable"),
        (["container_spec.predict_route"], "container_spec.predict_route is immutable"),
        (["description", "explanation_spec"], "explanation_spec cannot be updated"),
    ],
)
def test_update_with_bad_mask_is_invalid_argument_and_changes_nothing(mask: list[str], message: str) -> None:
    model = stored_model()
    given = aiplatform_v1.Model(description="new", artifact_uri="gs://b/other")
    with pytest.raises(InvalidArgument, match=message):
        field_masks.update(model, given, mask, updatable={"description", "artifact_uri", "container_spec"})
    assert model == stored_model()


def test_update_accepts_an_immutable_field_that_stays_as_it_is() -> None:
    model = stored_model()
    field_masks.update(model, aiplatform_v1.Model(artifact_uri="gs://b/m"), ["artifact_uri"])
    assert model == stored_model()


def test_read_shows_the_named_fields_and_the_name() -> None:
    shown = field_masks.read(stored_model(), ["displayName", "container_spec.image_uri", "explanation_spec.parameters"])
    assert shown == aiplatform_v1.Model(
        name="projects/1/locations/l/models/2",
        display_name="old",
        container_spec=aiplatform_v1.ModelContainerSpec(image_uri="i"),
    )


@pytest.mark.parametrize("mask", [[], ["*"]])
def test_read_without_a_mask_shows_everything(mask: list[str]) -> None:
    assert field_masks.read(stored_model(), mask) == stored_model()


def test_read_looks_into_a_struct() -> None:
    job = aiplatform_v1.PipelineJob(name="n")
    job.pipeline_spec.update({"pipelineInfo": {"name": "p"}, "root": {"dag": {}}})
    shown = field_masks.read(job, ["name", "pipeline_spec.pipelineInfo", "pipeline_spec.absent", "state"])
    assert dict(shown.pipeline_spec) == {"pipelineInfo": {"name": "p"}}
    assert "root" in job.pipeline_spec


def test_read_looks_into_a_free_form_value() -> None:
    pipeline = aiplatform_v1.TrainingPipeline(name="n")
    pipeline.training_task_inputs.struct_value.update({"a": 1, "b": 2})
    shown = field_masks.read(pipeline, ["training_task_inputs.a"])
    assert dict(shown.training_task_inputs.struct_value) == {"a": 1}


def test_read_of_unknown_field_is_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match="no_such"):
        field_masks.read(stored_model(), ["no_such"])
