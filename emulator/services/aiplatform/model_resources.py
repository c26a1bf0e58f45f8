"""Models of the registry: names, ids, aliases, what the service fills in. Pure functions.

Source: https://cloud.google.com/vertex-ai/docs/model-registry/versioning and the comments of model.proto
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from google.api_core.exceptions import Aborted, FailedPrecondition, InvalidArgument
from google.protobuf.message import Message
from selfloop_apis import aiplatform_v1

from emulator.core.ids import new_etag
from emulator.core.messages import stamp
from emulator.core.projects import Projects
from emulator.services.aiplatform.validation import FoundErrors

DEFAULT_ALIAS = "default"
_MODEL = re.compile(r"(projects/[^/]+/locations/[a-z0-9-]+/models/[A-Za-z0-9_-]+)(?:@([A-Za-z0-9-]+))?")
_MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")

#: What a prebuilt image's server looks for directly below artifact_uri: exactly one of these.
#: Source: https://cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts
_ARTIFACTS: Mapping[str, tuple[str, ...]] = {
    "sklearn-cpu": ("model.pkl", "model.joblib"),
    "xgboost-cpu": ("model.bst", "model.joblib", "model.pkl"),
    "tf": ("saved_model.pb", "saved_model.pbtxt"),
    "tf2-cpu": ("saved_model.pb", "saved_model.pbtxt"),
    "tf2-gpu": ("saved_model.pb", "saved_model.pbtxt"),
    "pytorch-cpu": ("model.mar",),
    "pytorch-gpu": ("model.mar",),
}
_PREBUILT = re.compile(
    r"(?:(?:us|europe|asia)-docker\.pkg\.dev/vertex-ai|(?:(?:us|eu|asia)\.)?gcr\.io/cloud-aiplatform)/prediction/"
    r"(?P<framework>[a-z0-9]+(?:-[cg]pu)?)\.[0-9-]+(?:[:@].*)?"
)


@dataclass(frozen=True)
class ModelName:
    """A model's name as a caller wrote it, the project's number in it."""

    model: str
    """`projects/N/locations/L/models/M`"""
    version: str
    """a version's id, an alias, or empty; `@-` means the model as a whole and counts as empty"""

    @property
    def location(self) -> str:
        """`projects/N/locations/L`"""
        return self.model.rpartition("/models/")[0]

    @property
    def id(self) -> str:
        return self.model.rpartition("/")[2]


def parse_model_name(name: str, projects: Projects) -> ModelName:
    """Raises InvalidArgument for what is no model's name."""
    # `@-` is spelt with a character that no id or alias ends in.
    found = _MODEL.fullmatch(name.removesuffix("@-"))
    if not found:
        raise InvalidArgument(f"Invalid Model resource name: {name[:300]!r}.")
    return ModelName(projects.canonical(found[1]), found[2] or "")


def check_upload(model: aiplatform_v1.Model, model_id: str, parent_model: str) -> None:
    """Raises InvalidArgument for what an upload may not say."""
    if model_id and parent_model:
        raise InvalidArgument("Only one of parent_model and model_id can be set.")
    if model_id and not _MODEL_ID.fullmatch(model_id):
        raise InvalidArgument(
            f"The model_id {model_id[:100]!r} is invalid: up to 63 of [a-z0-9_-], no number or hyphen first."
        )
    found = FoundErrors()
    found.check_display_name(model.display_name)
    found.check_labels(model.labels)
    if model.artifact_uri:
        found.check_gcs_uri(model.artifact_uri, "artifact_uri")
    found.raise_any()
    for alias in model.version_aliases:
        _check_alias(alias)


def parse_alias_changes(changes: Iterable[str]) -> tuple[list[str], set[str]]:
    """Aliases to give and to take away. Raises InvalidArgument; `default` moves, but never goes."""
    added, removed = [], set()
    for change in changes:
        _check_alias(change.removeprefix("-"))
        if change.startswith("-"):
            removed.add(change[1:])
        else:
            added.append(change)
    if DEFAULT_ALIAS in removed:
        raise InvalidArgument("The alias `default` cannot be removed; assign it to another version and it moves there.")
    return added, removed


def _check_alias(alias: str) -> None:
    if not _ALIAS.fullmatch(alias):
        raise InvalidArgument(
            f"The version alias {alias[:150]!r} is invalid; it must match [a-z][a-zA-Z0-9-]{{0,126}}[a-z0-9]."
        )


def check_etag(given: str, stored: str) -> None:
    """Raises Aborted when a caller changes what he has not seen; without an etag he overwrites."""
    if given and given != stored:
        raise Aborted("The etag does not match the current one; read the resource again and retry.")


def check_model_etag(given: str, shared: aiplatform_v1.Model) -> None:
    """The same for an update of what the versions share: what happened to a single version does not count."""
    check_etag(given[: len(shared.etag) - 1], shared.etag[:-1])


def joint_etag(shared: aiplatform_v1.Model, version: aiplatform_v1.Model) -> str:
    """What a version is shown with: the model's mark, without the `=` at its end, and the version's."""
    return f"{shared.etag[:-1]}{version.etag}"


def artifact_choices(image: str) -> tuple[str, ...]:
    """Names of which exactly one must be in the model's directory; none for an image that is not prebuilt."""
    found = _PREBUILT.fullmatch(image)
    return _ARTIFACTS.get(found["framework"], ()) if found else ()


def check_artifacts(image: str, directory: str, uris: Iterable[str]) -> None:
    """Whether an image can serve what is in a directory (`gs://bucket/dir/`). Raises FailedPrecondition."""
    names = {uri.removeprefix(directory) for uri in uris}
    choices = artifact_choices(image)
    if choices and len(names.intersection(choices)) != 1:
        wanted = ",  ".join(f"[{name}]" for name in choices)
        raise FailedPrecondition(f"Model directory {directory} is expected to contain exactly one of: {wanted}.")
    if not names:
        raise FailedPrecondition(f"Model directory {directory} is empty or does not exist.")


def artifact_directory(uri: str) -> str:
    """`gs://bucket/dir/`, with one slash at its end."""
    return uri.rstrip("/") + "/"


def check_explained_by_examples(model: aiplatform_v1.Model) -> None:
    """Raises FailedPrecondition for a model that is explained in another way, or not at all."""
    if not model.explanation_spec.parameters.HasField("examples"):
        raise FailedPrecondition(
            f"The Model `{model.name}` has no example-based explanations: its explanation_spec.parameters.examples "
            "is not set."
        )


def check_not_deployed(version: aiplatform_v1.Model, deploying: Iterable[str]) -> None:
    """Raises FailedPrecondition while an endpoint serves a version, or is about to: those of `deploying`."""
    endpoints = list(dict.fromkeys([*(deployed.endpoint for deployed in version.deployed_models), *deploying]))
    if endpoints:
        raise FailedPrecondition(
            f'The Model "{version.name.partition("@")[0]}" is deployed or being deployed at the '
            f"following Endpoint(s): {', '.join(endpoints)}. Please undeploy the model before retry."
        )


#: What a copy does not have from its original: what the service writes, and what the guide says is left behind.
#: Source: https://cloud.google.com/vertex-ai/docs/model-registry/copy-model
_NOT_COPIED = (
    "name", "version_id", "version_aliases", "version_create_time", "version_update_time", "create_time", "update_time",
    "supported_export_formats", "supported_deployment_resources_types", "supported_input_storage_formats",
    "supported_output_storage_formats", "training_pipeline", "deployed_models", "etag", "encryption_spec",
    "metadata_artifact",
)  # fmt: skip


def copy_of(model: aiplatform_v1.Model, version: str, request: aiplatform_v1.CopyModelRequest) -> aiplatform_v1.Model:
    """What is to be registered as a copy of `models/M@V`."""
    copied = aiplatform_v1.Model()
    copied.CopyFrom(model)
    cleared: Message = copied
    for field in _NOT_COPIED:
        cleared.ClearField(field)
    copied.original_model_info.model = version
    copied.model_source_info.copy = True
    if request.HasField("encryption_spec"):
        copied.encryption_spec.CopyFrom(request.encryption_spec)
    return copied


def check_copy(model: aiplatform_v1.Model, source: str, name: str) -> None:
    """Raises FailedPrecondition for what may not leave its project: a model with a container of its own."""
    image = model.container_spec.image_uri
    if image and not _PREBUILT.fullmatch(image) and source.split("/")[1] != name.split("/")[1]:
        raise FailedPrecondition(f"The Model version `{source}` has a custom container and cannot leave its project.")


def export_directory(
    model: aiplatform_v1.Model, config: aiplatform_v1.ExportModelRequest.OutputConfig, now: datetime
) -> str:
    """`gs://bucket/prefix/model-<id>/<format>/<time>/`, to which a version is exported.

    Raises FailedPrecondition for a version that has no format to be exported in, InvalidArgument for a format or a
    destination that it does not support.
    Source: the sample answer of https://cloud.google.com/vertex-ai/docs/export/export-model-tabular
    """
    formats = {known.id: known.exportable_contents for known in model.supported_export_formats}
    if not formats:
        raise FailedPrecondition(f"The Model `{model.name}` is not exportable.")
    chosen = config.export_format_id or next(iter(formats))
    if chosen not in formats:
        raise InvalidArgument(
            f"The export format {chosen[:100]!r} is not supported for Model `{model.name}`; it supports: "
            f"{', '.join(formats)}."
        )
    contents = aiplatform_v1.Model.ExportFormat.ExportableContent
    if config.HasField("image_destination") and contents.IMAGE not in formats[chosen]:
        raise InvalidArgument(f"The container image of Model `{model.name}` is not exportable as {chosen}.")
    found = FoundErrors()
    prefix = config.artifact_destination.output_uri_prefix
    field = "output_config.artifact_destination.output_uri_prefix"
    if prefix:
        found.check_gcs_uri(prefix, field)
    else:
        found.add(field, "Required field is not set.")
    found.raise_any()
    time = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z"
    return f"{artifact_directory(prefix)}model-{model.name.rpartition('/')[2]}/{chosen}/{time}/"


def complete_version(version: aiplatform_v1.Model, name: str, version_id: int, now: datetime) -> None:
    """Fill in what the service says of a new version of a custom-trained model."""
    version.name = f"{name}@{version_id}"
    version.version_id = str(version_id)
    stamp(version.version_create_time, now)
    stamp(version.version_update_time, now)
    version.etag = new_etag()
    version.predict_schemata.SetInParent()
    if not version.HasField("model_source_info"):
        version.model_source_info.source_type = aiplatform_v1.ModelSourceInfo.CUSTOM
    if version.container_spec.image_uri:
        # Without a container there is nothing to deploy or to score with.
        kinds = aiplatform_v1.Model.DeploymentResourcesType
        version.supported_deployment_resources_types.extend([kinds.DEDICATED_RESOURCES, kinds.SHARED_RESOURCES])
        version.supported_input_storage_formats.extend(
            ["jsonl", "bigquery", "csv", "tf-record", "tf-record-gzip", "file-list"]
        )
        version.supported_output_storage_formats.extend(["jsonl", "bigquery"])
    if version.artifact_uri:
        version.supported_export_formats.add(
            id="custom-trained", exportable_contents=[aiplatform_v1.Model.ExportFormat.ARTIFACT]
        )


def shared_part(model: aiplatform_v1.Model, name: str, now: datetime) -> aiplatform_v1.Model:
    """What the first upload says of the model as a whole."""
    shared = aiplatform_v1.Model(name=name, etag=new_etag())
    shared.display_name = model.display_name
    shared.description = model.description
    shared.labels.update(model.labels)
    if model.HasField("encryption_spec"):
        shared.encryption_spec.CopyFrom(model.encryption_spec)
    stamp(shared.create_time, now)
    stamp(shared.update_time, now)
    return shared


def version_part(model: aiplatform_v1.Model, *, is_first: bool) -> aiplatform_v1.Model:
    """What an upload says of its version alone; the labels of the first one are the model's."""
    version = aiplatform_v1.Model()
    version.CopyFrom(model)
    version.ClearField("display_name")
    version.ClearField("description")
    version.ClearField("encryption_spec")
    version.ClearField("etag")
    if is_first:
        version.ClearField("labels")
    return version


def join(shared: aiplatform_v1.Model, version: aiplatform_v1.Model) -> aiplatform_v1.Model:
    """A version as the API shows it: labels are merged, and the name is the model's."""
    shown = aiplatform_v1.Model()
    shown.CopyFrom(version)
    shown.name = version.name.rpartition("@")[0]
    shown.display_name = shared.display_name
    shown.description = shared.description
    shown.labels.clear()
    shown.labels.update(shared.labels)
    shown.labels.update(version.labels)
    if shared.HasField("encryption_spec"):
        shown.encryption_spec.CopyFrom(shared.encryption_spec)
    shown.create_time.CopyFrom(shared.create_time)
    shown.update_time.CopyFrom(shared.update_time)
    shown.etag = joint_etag(shared, version)
    return shown
