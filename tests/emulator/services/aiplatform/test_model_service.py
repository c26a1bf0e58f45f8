"""ModelService through the official client, over both transports."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, FailedPrecondition, NotFound
from google.cloud.aiplatform_v1 import Model, ModelServiceClient

from tests.conftest import Emulator
from tests.emulator.services.aiplatform.registry import constant as constant_model
from tests.emulator.services.aiplatform.registry import described, dumped, pickled, put, put_model, upload

Kinds = Model.DeploymentResourcesType


@pytest.fixture(params=["grpc", "rest"])
def models(emulator: Emulator, request: pytest.FixtureRequest) -> ModelServiceClient:
    return emulator.client(ModelServiceClient, transport=request.param)


def seconds(time: Any) -> float:
    """A time of a message as proto-plus gives it, which its types call a Timestamp."""
    return float(time.timestamp())


def versions_of(models: ModelServiceClient, name: str) -> dict[str, list[str]]:
    return {model.version_id: sorted(model.version_aliases) for model in models.list_model_versions(name=name)}


def test_upload_model_makes_version_one_with_the_default_alias(models: ModelServiceClient, parent: str) -> None:
    model = upload(models, parent)
    assert (model.version_id, list(model.version_aliases)) == ("1", ["default"])
    assert re.fullmatch(r"projects/\d+/locations/us-central1/models/\d{15,19}", model.name)


def test_upload_model_fills_in_what_the_service_says_of_a_model(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = put_model(emulator, project, constant_model(1))
    model = upload(models, parent, described(uri, labels={"team": "taxi"}, description="of trips"))
    assert list(model.supported_deployment_resources_types) == [Kinds.DEDICATED_RESOURCES, Kinds.SHARED_RESOURCES]
    assert "jsonl" in model.supported_input_storage_formats
    assert list(model.supported_output_storage_formats) == ["jsonl", "bigquery"]
    assert model.supported_export_formats[0].id == "custom-trained"
    assert (model.artifact_uri, model.description, dict(model.labels)) == (uri, "of trips", {"team": "taxi"})
    assert seconds(model.create_time) <= seconds(model.version_create_time) <= seconds(model.update_time)
    assert model.etag


def test_upload_model_without_a_container_cannot_be_deployed(models: ModelServiceClient, parent: str) -> None:
    assert not upload(models, parent).supported_deployment_resources_types


def test_upload_model_takes_the_id_that_is_given_once(models: ModelServiceClient, parent: str) -> None:
    assert upload(models, parent, model_id="tips_1").name.endswith("/models/tips_1")
    with pytest.raises(Conflict, match="models/tips_1` already exists"):
        upload(models, parent, model_id="tips_1")


@pytest.mark.parametrize("model_id", ["1st", "-x", "Upper", "a" * 64, "a/b"])
def test_upload_model_refuses_an_id_of_another_form(models: ModelServiceClient, parent: str, model_id: str) -> None:
    with pytest.raises(BadRequest, match="model_id"):
        upload(models, parent, model_id=model_id)


def test_upload_model_requires_a_display_name(models: ModelServiceClient, parent: str) -> None:
    with pytest.raises(BadRequest, match=r"1\.Field: display_name; Message: Required field is not set"):
        upload(models, parent, Model(description="nameless"))


def test_upload_model_to_a_parent_adds_the_next_version(models: ModelServiceClient, parent: str) -> None:
    first = upload(models, parent, Model(display_name="tips", version_aliases=["champion"]))
    second = upload(
        models, parent, Model(display_name="other", version_aliases=["challenger"]), parent_model=first.name
    )
    assert (second.name, second.version_id, second.display_name) == (first.name, "2", "tips")
    assert versions_of(models, first.name) == {"1": ["champion", "default"], "2": ["challenger"]}
    assert models.get_model(name=first.name).version_id == "1"


def test_upload_model_moves_an_alias_that_another_version_holds(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent, Model(display_name="tips", version_aliases=["best"])).name
    upload(models, parent, Model(display_name="tips", version_aliases=["best", "default"]), parent_model=name)
    assert versions_of(models, name) == {"1": [], "2": ["best", "default"]}
    assert models.get_model(name=name).version_id == "2"


def test_upload_model_to_an_unknown_parent_is_not_found(models: ModelServiceClient, parent: str) -> None:
    with pytest.raises(NotFound, match="models/404` does not exist"):
        upload(models, parent, parent_model=f"{parent}/models/404")


@pytest.mark.parametrize("alias", ["2", "Upper", "ends-", "a"])
def test_upload_model_refuses_an_alias_of_another_form(models: ModelServiceClient, parent: str, alias: str) -> None:
    with pytest.raises(BadRequest, match="version alias"):
        upload(models, parent, Model(display_name="tips", version_aliases=[alias]))


@pytest.mark.parametrize("files", [{"model.txt": b""}, {"model.joblib": b"", "model.pkl": b""}, {"in/model.pkl": b""}])
def test_upload_model_says_which_file_a_prebuilt_image_wants(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str, files: dict[str, bytes]
) -> None:
    uri = put(emulator, project, "folder", files)
    with pytest.raises(FailedPrecondition) as raised:
        upload(models, parent, described(uri))
    expected = f"Model directory {uri}/ is expected to contain exactly one of: [model.pkl],  [model.joblib]."
    assert raised.value.message == expected
    assert not list(models.list_models(parent=parent))


def test_upload_model_from_a_bucket_that_is_not_there_is_not_found(models: ModelServiceClient, parent: str) -> None:
    with pytest.raises(NotFound):
        upload(models, parent, described("gs://no-such-bucket-anywhere/model"))


def test_upload_model_ignores_what_only_the_service_writes(models: ModelServiceClient, parent: str) -> None:
    model = upload(models, parent, Model(display_name="tips", version_id="9", training_pipeline="mine"))
    assert (model.version_id, model.training_pipeline) == ("1", "")


def test_get_model_of_an_unknown_name_is_not_found(models: ModelServiceClient, parent: str) -> None:
    with pytest.raises(NotFound, match=r"The Model `projects/\d+/locations/us-central1/models/404` does not exist"):
        models.get_model(name=f"{parent}/models/404")


def test_get_model_by_version_and_alias(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    upload(models, parent, Model(display_name="m", version_aliases=["golden"]), parent_model=name)
    assert models.get_model(name=f"{name}@golden").version_id == "2"
    assert models.get_model(name=f"{name}@1").name == name
    for version in ("3", "absent"):
        with pytest.raises(NotFound, match="version"):
            models.get_model(name=f"{name}@{version}")


def test_list_models_shows_default_versions_newest_first(models: ModelServiceClient, parent: str) -> None:
    first = upload(models, parent, Model(display_name="first"))
    upload(models, parent, Model(display_name="first", version_aliases=["default"]), parent_model=first.name)
    upload(models, parent, Model(display_name="second"))
    listed = [(model.display_name, model.version_id) for model in models.list_models(parent=parent)]
    assert listed == [("second", "1"), ("first", "2")]


def test_list_models_filters_orders_and_pages(models: ModelServiceClient, parent: str) -> None:
    for name, env in (("b", "prod"), ("a", "dev"), ("c", "prod")):
        upload(models, parent, Model(display_name=name, labels={"env": env}), model_id=f"model_{name}")

    def listed(**request: object) -> list[str]:
        return [model.display_name for model in models.list_models(request={"parent": parent, **request})]

    assert listed(filter='labels.env="prod"', order_by="display_name") == ["b", "c"]
    assert listed(filter='display_name="a"') == ["a"]
    assert listed(filter="model=model_c") == ["c"]
    assert listed(order_by="create_time desc", page_size=1) == ["c", "a", "b"]
    for bad in ('nonsense="1"', "display_name =! a", "("):
        with pytest.raises(BadRequest):
            listed(filter=bad)


def test_list_model_versions_names_the_version(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    assert [model.name for model in models.list_model_versions(name=name)] == [f"{name}@1"]


def test_update_model_changes_what_the_mask_names(models: ModelServiceClient, parent: str) -> None:
    model = upload(models, parent, Model(display_name="old", description="kept", labels={"a": "1"}))
    given = Model(name=model.name, display_name="new", labels={"b": "2"})
    updated = models.update_model(model=given, update_mask={"paths": ["display_name", "labels"]})  # type: ignore[arg-type]
    assert (updated.display_name, updated.description, dict(updated.labels)) == ("new", "kept", {"b": "2"})
    assert updated.etag != model.etag
    assert seconds(updated.update_time) > seconds(model.update_time)


def test_update_model_of_labels_needs_no_display_name(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    updated = models.update_model(model=Model(name=name, labels={"a": "b"}), update_mask={"paths": ["labels"]})  # type: ignore[arg-type]
    assert (updated.display_name, dict(updated.labels)) == ("a model", {"a": "b"})


def test_update_model_merges_labels_of_model_and_version(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent, Model(display_name="m", labels={"of": "model"})).name
    given = Model(name=f"{name}@1", labels={"also": "version"}, version_description="better")
    updated = models.update_model(model=given, update_mask={"paths": ["labels", "version_description"]})  # type: ignore[arg-type]
    assert dict(updated.labels) == {"of": "model", "also": "version"}
    assert updated.version_description == "better"


@pytest.mark.parametrize(
    ("suffix", "paths"),
    [("", ["version_description"]), ("@1", ["display_name"]), ("@1", ["display_name", "version_description"])],
)
def test_update_model_refuses_fields_that_the_name_does_not_mean(
    models: ModelServiceClient, parent: str, suffix: str, paths: list[str]
) -> None:
    name = upload(models, parent).name
    given = Model(name=f"{name}{suffix}", display_name="new", version_description="new")
    with pytest.raises(BadRequest):
        models.update_model(model=given, update_mask={"paths": paths})  # type: ignore[arg-type]
    assert models.get_model(name=name).display_name == "a model"


@pytest.mark.parametrize("path", ["artifact_uri", "container_spec"])
def test_update_model_refuses_a_path_that_cannot_change(models: ModelServiceClient, parent: str, path: str) -> None:
    given = Model(name=upload(models, parent).name, artifact_uri="gs://other/place")
    with pytest.raises(BadRequest):
        models.update_model(model=given, update_mask={"paths": [path]})  # type: ignore[arg-type]


def test_update_model_refuses_a_path_that_there_is_not(emulator: Emulator, parent: str) -> None:
    models = emulator.client(ModelServiceClient)  # over REST the client's own JSON refuses it
    given = Model(name=upload(models, parent).name)
    with pytest.raises(BadRequest, match="no_such_field"):
        models.update_model(model=given, update_mask={"paths": ["no_such_field"]})  # type: ignore[arg-type]


def test_update_model_with_an_old_etag_is_aborted(models: ModelServiceClient, parent: str) -> None:
    model = upload(models, parent)
    model.display_name = "first"
    models.update_model(model=model, update_mask={"paths": ["display_name"]})  # type: ignore[arg-type]
    model.display_name = "second"
    with pytest.raises(Conflict, match="etag"):
        models.update_model(model=model, update_mask={"paths": ["display_name"]})  # type: ignore[arg-type]


def test_update_model_heeds_the_etag_of_what_it_changes(models: ModelServiceClient, parent: str) -> None:
    model = upload(models, parent)
    given = Model(name=f"{model.name}@1", version_description="first", etag=model.etag)
    models.update_model(model=given, update_mask={"paths": ["version_description"]})  # type: ignore[arg-type]
    with pytest.raises(Conflict, match="etag"):
        models.update_model(model=given, update_mask={"paths": ["version_description"]})  # type: ignore[arg-type]
    # What happened to a version is no reason to refuse a new name for the model.
    given = Model(name=model.name, display_name="renamed", etag=model.etag)
    models.update_model(model=given, update_mask={"paths": ["display_name"]})  # type: ignore[arg-type]


def test_merge_version_aliases_adds_moves_and_removes(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent, Model(display_name="m", version_aliases=["live", "old"])).name
    upload(models, parent, parent_model=name)
    merged = models.merge_version_aliases(name=f"{name}@2", version_aliases=["default", "live"])
    assert sorted(merged.version_aliases) == ["default", "live"]
    models.merge_version_aliases(name=f"{name}@1", version_aliases=["-old"])
    assert versions_of(models, name) == {"1": [], "2": ["default", "live"]}


@pytest.mark.parametrize(("suffix", "alias"), [("", "live"), ("@1", "-default"), ("@1", "1")])
def test_merge_version_aliases_refuses(models: ModelServiceClient, parent: str, suffix: str, alias: str) -> None:
    name = upload(models, parent).name
    with pytest.raises(BadRequest):
        models.merge_version_aliases(name=f"{name}{suffix}", version_aliases=[alias])


def test_delete_model_version_keeps_the_others_and_never_gives_its_id_again(
    models: ModelServiceClient, parent: str
) -> None:
    name = upload(models, parent).name
    upload(models, parent, parent_model=name)
    models.delete_model_version(name=f"{name}@2").result()
    assert upload(models, parent, parent_model=name).version_id == "3"
    assert set(versions_of(models, name)) == {"1", "3"}


def test_delete_model_version_refuses_the_only_and_the_default_one(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent).name
    with pytest.raises(BadRequest, match="only one"):
        models.delete_model_version(name=f"{name}@1")
    upload(models, parent, parent_model=name)
    with pytest.raises(BadRequest, match="default"):
        models.delete_model_version(name=f"{name}@1")
    with pytest.raises(BadRequest, match="version"):
        models.delete_model_version(name=name)


def test_delete_model_removes_all_versions(models: ModelServiceClient, parent: str) -> None:
    name = upload(models, parent, model_id="gone").name
    upload(models, parent, parent_model=name)
    operation = models.delete_model(name=name)
    operation.result()
    assert operation.done()
    for version in ("", "@1", "@2"):
        with pytest.raises(NotFound):
            models.get_model(name=f"{name}{version}")
    assert upload(models, parent, model_id="gone").version_id == "1"


def test_models_keep_their_files_under_the_service_s_own_folder(
    emulator: Emulator, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = put(emulator, project, "pickled", {"model.pkl": pickled({}), "deep/er/notes.txt": b"kept"})
    name = upload(models, parent, described(uri)).name
    put(emulator, project, "pickled", {"model.pkl": dumped({"other": 1})})
    _, number, _, location, _, model_id = name.split("/")
    folder = emulator.state / "models" / number / location / model_id
    assert (folder / "1" / "model.pkl").read_bytes() == pickled({})
    assert (folder / "1" / "deep" / "er" / "notes.txt").read_bytes() == b"kept"
    models.delete_model(name=name).result()
    assert not (folder / "1").exists()
