"""Evaluations of models and their slices through the official client, over both transports."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.aiplatform_v1 import (
    BatchImportEvaluatedAnnotationsRequest,
    BatchImportModelEvaluationSlicesRequest,
    ModelEvaluation,
    ModelServiceClient,
)

from tests.conftest import Emulator
from tests.emulator.services.aiplatform.registry import upload


@pytest.fixture(params=["grpc", "rest"])
def models(emulator: Emulator, request: pytest.FixtureRequest) -> ModelServiceClient:
    return emulator.client(ModelServiceClient, transport=request.param)


@pytest.fixture
def evaluation(models: ModelServiceClient, parent: str) -> str:
    """The name of an evaluation of a model of its own."""
    name = upload(models, parent).name
    return models.import_model_evaluation(parent=name, model_evaluation=metrics(0.5)).name


def area(evaluation: Any) -> float:
    return float(evaluation.metrics["auRoc"])


def metrics(value: float) -> ModelEvaluation:
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml"
    return ModelEvaluation(display_name="on 2024", metrics_schema_uri=schema, metrics={"auRoc": value})


def test_import_model_evaluation_is_read_back(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    imported = models.import_model_evaluation(parent=name, model_evaluation=metrics(0.875))
    assert re.fullmatch(re.escape(name) + r"@1/evaluations/\d+", imported.name)
    assert models.get_model_evaluation(name=imported.name) == imported
    # The SDK asks by the bare model's name.
    assert area(models.get_model_evaluation(name=imported.name.replace("@1", ""))) == 0.875


def test_list_model_evaluations_shows_those_of_a_version(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    upload(models, parent, parent_model=name)
    models.import_model_evaluation(parent=name, model_evaluation=metrics(0.5))
    models.import_model_evaluation(parent=f"{name}@2", model_evaluation=metrics(0.75))
    for suffix, expected in (("", [0.5]), ("@1", [0.5]), ("@2", [0.75])):
        listed = models.list_model_evaluations(parent=f"{name}{suffix}")
        assert [area(evaluation) for evaluation in listed] == expected


def test_import_model_evaluation_to_an_unknown_model_is_not_found(models: ModelServiceClient, parent: str) -> None:
    with pytest.raises(NotFound):
        models.import_model_evaluation(parent=f"{parent}/models/404", model_evaluation=metrics(1))


def test_delete_model_takes_its_evaluations_along(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent, model_id="again").name
    models.import_model_evaluation(parent=name, model_evaluation=metrics(0.5))
    models.delete_model(name=name).result()
    upload(models, parent, model_id="again")
    assert not list(models.list_model_evaluations(parent=name))


def slice_of(value: str, dimension: str = "annotationSpec") -> dict[str, Any]:
    spec = {"configs": {"zip": {"range_": {"low": 1, "high": 2}}}} if dimension == "slice" else None
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml"
    return {
        "slice_": {"dimension": dimension, "value": value, "slice_spec": spec},
        "metrics_schema_uri": schema,
        "metrics": {"auRoc": 0.75},
    }


def import_slices(models: ModelServiceClient, parent: str, *slices: dict[str, Any]) -> list[str]:
    request = BatchImportModelEvaluationSlicesRequest(parent=parent, model_evaluation_slices=slices)
    return list(models.batch_import_model_evaluation_slices(request).imported_model_evaluation_slices)


def test_import_model_evaluation_keeps_what_explains_it(models: ModelServiceClient, parent: str) -> None:
    attributions = [{"feature_attributions": {"miles": 0.25}, "output_index": [1]}]
    given = ModelEvaluation(metrics={"auRoc": 1}, model_explanation={"mean_attributions": attributions})
    imported = models.import_model_evaluation(parent=upload(models, parent).name, model_evaluation=given)
    assert imported.model_explanation == given.model_explanation


def test_list_model_evaluations_filters_and_pages(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    for title in ("a", "b", "c"):
        models.import_model_evaluation(parent=name, model_evaluation=ModelEvaluation(display_name=title))

    def listed(**request: Any) -> list[str]:
        return [one.display_name for one in models.list_model_evaluations({"parent": name, **request})]

    assert listed(page_size=2) == ["c", "b", "a"]
    assert listed(filter='display_name="b"') == ["b"]
    with pytest.raises(BadRequest):
        listed(filter="metrics=1")


def test_import_of_slices_is_read_back_and_listed_by_dimension(models: ModelServiceClient, evaluation: str) -> None:
    given = (slice_of("tip"), slice_of("no tip"), slice_of("near", "slice"))
    names = import_slices(models, evaluation, *given)
    assert all(re.fullmatch(re.escape(evaluation) + r"/slices/\d+", name) for name in names)
    near = models.get_model_evaluation_slice(name=names[2])
    assert (near.slice_.value, near.slice_.slice_spec.configs["zip"].range_.high) == ("near", 2)
    assert near.metrics["auRoc"] == 0.75  # type: ignore[index]  # proto-plus gives a mapping
    assert near.create_time
    assert models.get_model_evaluation_slice(name=names[2].replace("@1", "")) == near

    def listed(text: str = "") -> list[str]:
        request = {"parent": evaluation, "filter": text, "page_size": 1}
        return [one.slice_.value for one in models.list_model_evaluation_slices(request)]

    assert listed() == ["near", "no tip", "tip"]
    assert listed('slice.dimension="annotationSpec"') == ["no tip", "tip"]
    with pytest.raises(BadRequest):
        listed('slice.value="tip"')
    # Who reads the evaluation learns what to list its slices by.
    assert list(models.get_model_evaluation(name=evaluation).slice_dimensions) == ["annotationSpec", "slice"]


def test_import_of_slices_is_whole_or_none(models: ModelServiceClient, evaluation: str) -> None:
    with pytest.raises(BadRequest, match=r"model_evaluation_slices\[1\]\.slice\.dimension"):
        import_slices(models, evaluation, slice_of("tip"), {"metrics": 1})
    with pytest.raises(BadRequest, match="model_evaluation_slices"):
        import_slices(models, evaluation)
    with pytest.raises(NotFound, match="ModelEvaluation `"):
        import_slices(models, f"{evaluation}0", slice_of("tip"))
    assert not list(models.list_model_evaluation_slices(parent=evaluation))


def test_evaluated_annotations_belong_to_slices_of_labels(models: ModelServiceClient, evaluation: str) -> None:
    of_label, of_range = import_slices(models, evaluation, slice_of("tip"), slice_of("near", "slice"))
    annotation = {
        "type_": "TRUE_POSITIVE",
        "predictions": [{"string_value": "tip"}],
        "evaluated_data_item_view_id": "7",
    }

    def annotate(parent: str) -> int:
        request = BatchImportEvaluatedAnnotationsRequest(parent=parent, evaluated_annotations=[annotation] * 2)
        return models.batch_import_evaluated_annotations(request).imported_evaluated_annotations_count

    assert annotate(of_label) == 2
    with pytest.raises(BadRequest, match="only those of 'annotationSpec' have annotations"):
        annotate(of_range)
    with pytest.raises(NotFound, match="ModelEvaluationSlice `"):
        annotate(f"{of_label}0")


def test_delete_model_version_takes_its_slices_along(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    upload(models, parent, parent_model=name)
    imported = models.import_model_evaluation(parent=f"{name}@2", model_evaluation=metrics(1)).name
    (one,) = import_slices(models, imported, slice_of("tip"))
    models.delete_model_version(name=f"{name}@2").result(timeout=30)
    for gone in (one, one.replace("@2", "")):
        with pytest.raises(NotFound):
            models.get_model_evaluation_slice(name=gone)


@pytest.mark.parametrize("rest", ["/evaluation/1", "/evaluations/1/slices/2", "/evaluations/1/slices/2/x"])
def test_get_model_evaluation_of_another_form_is_invalid(emulator: Emulator, parent: str, rest: str) -> None:
    models = emulator.client(ModelServiceClient)  # over REST the client itself refuses it
    with pytest.raises(BadRequest, match="Invalid ModelEvaluation resource name"):
        models.get_model_evaluation(name=f"{parent}/models/m{rest}")
