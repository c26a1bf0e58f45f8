"""Copies and exports of models through the official client, over both transports."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, MethodNotImplemented, NotFound
from google.cloud.aiplatform_v1 import CopyModelRequest, ExportModelRequest, Model, ModelServiceClient
from google.cloud.aiplatform_v1beta1 import ModelServiceClient as BetaModelServiceClient
from google.cloud.storage import Client

from tests.conftest import Emulator
from tests.emulator.services.aiplatform.registry import SECONDS, constant, described, dumped, put, put_model, upload

CUSTOM_IMAGE = "us-docker.pkg.dev/mine/images/server:1"


@pytest.fixture(params=["grpc", "rest"])
def models(emulator: Emulator, request: pytest.FixtureRequest) -> ModelServiceClient:
    return emulator.client(ModelServiceClient, transport=request.param)


def copy(models: ModelServiceClient, source: str, parent: str, **request: Any) -> Model:
    operation = models.copy_model(CopyModelRequest(parent=parent, source_model=source, **request))
    response = operation.result(timeout=SECONDS)
    return models.get_model(name=f"{response.model}@{response.model_version_id}")


def export(models: ModelServiceClient, name: str, **config: Any) -> Any:
    operation = models.export_model(ExportModelRequest(name=name, output_config=config))
    operation.result(timeout=SECONDS)
    return operation.metadata.output_info


def below(emulator: Emulator, project: str, uri: str) -> dict[str, bytes]:
    """The objects below gs://bucket/dir, by the rest of their names."""
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    with emulator.exported():
        found = Client(project=project).list_blobs(bucket, prefix=f"{prefix}/")
        return {blob.name.removeprefix(f"{prefix}/"): blob.download_as_bytes() for blob in found}


def test_copy_model_to_another_location_leaves_aliases_and_evaluations_behind(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = put(emulator, project, "model", {"model.joblib": dumped(constant(1)), "deep/notes.txt": b"kept"})
    given = described(uri, labels={"team": "taxi"}, description="of trips", version_aliases=["live"])
    source = upload(models, parent, given)
    models.import_model_evaluation(parent=source.name, model_evaluation={"display_name": "e"})  # type: ignore[arg-type]
    put(emulator, project, "model", {"model.joblib": b"changed after the upload"})

    europe = emulator.client(ModelServiceClient, models.transport.kind, location="europe-west4")
    there = f"projects/{project}/locations/europe-west4"
    copied = copy(europe, source.name, there, model_id="tips_copy")

    assert re.fullmatch(r"projects/\d+/locations/europe-west4/models/tips_copy", copied.name)
    assert (copied.version_id, list(copied.version_aliases)) == ("1", ["default"])
    assert (copied.display_name, copied.description, dict(copied.labels)) == ("a model", "of trips", {"team": "taxi"})
    assert copied.original_model_info.model == f"{source.name}@1"
    assert (copied.model_source_info.copy, copied.model_source_info.source_type.name) == (True, "CUSTOM")
    assert copied.container_spec == source.container_spec
    assert copied.supported_deployment_resources_types == source.supported_deployment_resources_types
    assert copied.supported_export_formats == source.supported_export_formats
    assert not list(europe.list_model_evaluations(parent=copied.name))
    # The files are those of the version, whatever became of the bucket.
    info = export(europe, copied.name, artifact_destination={"output_uri_prefix": f"gs://{project}-models/out"})
    files = below(emulator, project, info.artifact_output_uri)
    assert files == {"model.joblib": dumped(constant(1)), "deep/notes.txt": b"kept"}
    # The original may go.
    models.delete_model(name=source.name).result(timeout=SECONDS)
    assert europe.get_model(name=copied.name).artifact_uri == uri


def test_copy_model_as_a_version_of_another(models: ModelServiceClient, parent: str) -> None:
    source = upload(models, parent, Model(display_name="s", version_description="first", version_aliases=["old"]))
    upload(models, parent, Model(display_name="s", version_description="second"), parent_model=source.name)
    target = upload(models, parent, Model(display_name="target", version_aliases=["live"]))
    copied = copy(models, f"{source.name}@2", parent, parent_model=target.name)
    assert (copied.name, copied.version_id, copied.display_name) == (target.name, "2", "target")
    assert (copied.version_description, list(copied.version_aliases)) == ("second", [])
    assert copied.original_model_info.model == f"{source.name}@2"
    assert models.get_model(name=f"{target.name}@live").version_id == "1"
    # By an alias, into a generated model, then a copy of the copy.
    again = copy(models, f"{source.name}@old", parent)
    assert again.version_description == "first"
    assert copy(models, again.name, parent).original_model_info.model == f"{again.name}@1"


def test_copy_model_refuses(models: ModelServiceClient, project: str, parent: str) -> None:
    source = upload(models, parent, model_id="source").name
    with pytest.raises(NotFound, match="models/404` does not exist"):
        copy(models, f"{parent}/models/404", parent)
    with pytest.raises(NotFound, match="source@7` does not exist"):
        copy(models, f"{source}@7", parent)
    with pytest.raises(NotFound, match="models/404` does not exist"):
        copy(models, source, parent, parent_model=f"{parent}/models/404")
    with pytest.raises(Conflict, match="models/source` already exists"):
        copy(models, source, parent, model_id="source")
    with pytest.raises(BadRequest, match="model_id"):
        copy(models, source, parent, model_id="Upper")
    with pytest.raises(BadRequest, match="parent_model must be in"):
        copy(models, source, f"projects/{project}/locations/europe-west4", parent_model=source)
    with pytest.raises(BadRequest, match="source_model"):
        copy(models, "", parent)


def test_copy_model_to_another_project_takes_prebuilt_containers_alone(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    other = f"projects/{project}-other/locations/us-central1"
    uri = put_model(emulator, project, constant(1))
    copied = copy(models, upload(models, parent, described(uri)).name, other)
    assert list(models.list_models(parent=other)) == [copied]
    with pytest.raises(BadRequest, match="custom container"):
        copy(models, upload(models, parent, described(uri, image=CUSTOM_IMAGE)).name, other)


def test_export_model_writes_its_files_to_a_folder_of_their_own(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = put(emulator, project, "model", {"model.joblib": dumped(constant(1)), "deep/er/notes.txt": b"kept"})
    model = upload(models, parent, described(uri))
    prefix = f"gs://{project}-models/exports/"
    info = export(models, f"{model.name}@default", artifact_destination={"output_uri_prefix": prefix})
    identifier = model.name.rpartition("/")[2]
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(rf"{prefix}model-{identifier}/custom-trained/{time}", info.artifact_output_uri)
    assert not info.image_output_uri
    files = below(emulator, project, info.artifact_output_uri)
    assert files == {"model.joblib": dumped(constant(1)), "deep/er/notes.txt": b"kept"}
    # What was exported is a model's folder: it can be registered in its turn.
    assert upload(models, parent, described(info.artifact_output_uri)).version_id == "1"


def test_export_model_refuses(emulator: Emulator, models: ModelServiceClient, project: str, parent: str) -> None:
    model = upload(models, parent, described(put_model(emulator, project, constant(1))))
    destination = {"output_uri_prefix": f"gs://{project}-models/out"}
    with pytest.raises(BadRequest, match=r"'tf-saved-model' is not supported .* it supports: custom-trained"):
        export(models, model.name, export_format_id="tf-saved-model", artifact_destination=destination)
    with pytest.raises(BadRequest, match="container image"):
        export(models, model.name, image_destination={"output_uri": "gcr.io/p/image"})
    with pytest.raises(BadRequest, match="output_uri_prefix; Message: Required field"):
        export(models, model.name, export_format_id="custom-trained")
    with pytest.raises(BadRequest, match="Cloud Storage URI"):
        export(models, model.name, artifact_destination={"output_uri_prefix": "/tmp/out"})
    with pytest.raises(NotFound, match="bucket does not exist"):
        export(models, model.name, artifact_destination={"output_uri_prefix": "gs://no-such-bucket-anywhere/out"})
    with pytest.raises(NotFound, match="models/404"):
        export(models, f"{parent}/models/404", artifact_destination=destination)
    with pytest.raises(BadRequest, match="is not exportable"):
        export(models, upload(models, parent).name, artifact_destination=destination)


def test_update_explanation_dataset_adds_examples_to_a_model_explained_by_them(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = put(emulator, project, "examples", {"first.jsonl": b"{}", "second.jsonl": b"{}"})

    def examples(name: str) -> dict[str, Any]:
        return {"example_gcs_source": {"data_format": "JSONL", "gcs_source": {"uris": [f"{uri}/{name}.jsonl"]}}}

    spec = {"parameters": {"examples": {"neighbor_count": 5, **examples("first")}}}
    name = upload(models, parent, Model(display_name="m", explanation_spec=spec)).name

    def update(model: str, **given: Any) -> None:
        models.update_explanation_dataset({"model": model, **given}).result(timeout=SECONDS)

    update(name, examples=examples("second"))
    stored = models.get_model(name=name).explanation_spec.parameters.examples
    assert list(stored.example_gcs_source.gcs_source.uris) == [f"{uri}/first.jsonl", f"{uri}/second.jsonl"]
    assert stored.neighbor_count == 5
    with pytest.raises(NotFound, match=r"third\.jsonl"):
        update(name, examples=examples("third"))
    with pytest.raises(BadRequest, match="no example-based explanations"):
        update(upload(models, parent).name, examples=examples("first"))


def test_list_model_version_checkpoints_finds_none(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    assert not list(models.list_model_version_checkpoints(name=f"{name}@default"))
    with pytest.raises(NotFound):
        models.list_model_version_checkpoints(name=f"{name}@2")


def test_beta_method_that_is_not_there_answers_unimplemented_by_name(emulator: Emulator, parent: str) -> None:
    for transport in ("grpc", "rest"):
        beta = emulator.client(BetaModelServiceClient, transport=transport)
        with pytest.raises(MethodNotImplemented, match=r"ModelService\.RecommendSpec is not emulated"):
            beta.recommend_spec({"parent": parent, "gcs_uri": "gs://bucket/model"})
