"""What clients may not send and may not leave out, by one generic rule.

OUTPUT_ONLY fields are cleared from every request, so that nobody creates a job that is already SUCCEEDED.
REQUIRED ones that are missing are answered together, as Vertex AI does.
Source: https://google.aip.dev/203; the table comes from the discovery documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import selfloop_apis
from google.api_core.exceptions import InvalidArgument
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

#: Fields that the documents call required, and that clients leave out all the same: the service fills them in.
OPTIONAL_IN_PRACTICE = frozenset(
    {
        # The SDK deploys with `automatic_resources` unset counts and without a machine: n1-standard-2 then.
        "google.cloud.aiplatform.v1.DedicatedResources.machine_spec",
        "google.cloud.aiplatform.v1.DedicatedResources.min_replica_count",
        # An entry may leave these to the request that brings it.
        "google.logging.v2.LogEntry.log_name",
        "google.logging.v2.LogEntry.resource",
    }
)


#: Output-only fields that a client sends back as it got them, and that say which revision it means.
KEPT = frozenset(
    {
        # The SDK's ModelRegistry.update_version sends the version as it was read: a bare name and this id.
        "google.cloud.aiplatform.v1.Model.version_id",
        # An update says by it which one is meant; a new one is named by the service all the same.
        "google.cloud.aiplatform.v1.Dataset.name",
        "google.cloud.aiplatform.v1.Artifact.name",
        "google.cloud.aiplatform.v1.Context.name",
        "google.cloud.aiplatform.v1.Execution.name",
        "google.cloud.aiplatform.v1.Tensorboard.name",
        "google.cloud.aiplatform.v1.TensorboardExperiment.name",
        "google.cloud.aiplatform.v1.TensorboardRun.name",
        "google.cloud.aiplatform.v1.TensorboardTimeSeries.name",
        # The uploader names the blobs that it has put into the bucket.
        "google.cloud.aiplatform.v1.TensorboardBlob.id",
    }
)
#: Messages that are output only to readers of the API, and that a client brings whole when it imports them.
IMPORTED = frozenset(
    {
        "google.cloud.aiplatform.v1.ModelEvaluationSlice",
        "google.cloud.aiplatform.v1.ModelExplanation",
        "google.cloud.aiplatform.v1.Attribution",
        "google.cloud.aiplatform.v1.EvaluatedAnnotation",
    }
)


@dataclass(frozen=True)
class _Rules:
    output_only: tuple[str, ...]
    required: tuple[FieldDescriptor, ...]
    nested: tuple[FieldDescriptor, ...]


def clean(request: Message) -> None:
    """Clear what only the service writes. Raises InvalidArgument naming every required field that is missing."""
    if not _concerns(request.DESCRIPTOR):
        return
    missing = [path for path in _walk(request, "") if _is_asked_for(path, request)]
    if missing:
        found = "".join(
            f"\t{index}.Field: {_shown(path, request)}; Message: Required field is not set."
            for index, path in enumerate(missing, start=1)
        )
        raise InvalidArgument(f"List of found errors:{found}\t")


def _shown(path: str, request: Message) -> str:
    """The path as errors name it: inside the resource, where a request is there to bring one."""
    brings_resource = request.DESCRIPTOR.name.startswith(("Create", "Update", "Upload"))
    return path.partition(".")[2] or path if brings_resource else path


def _is_asked_for(path: str, request: Message) -> bool:
    """Whether a required field is one that the request has to bring: an update brings what its mask names."""
    mask = getattr(request, "update_mask", None)
    if mask is None or not mask.paths or "*" in mask.paths or "." not in path:
        return True
    inside = path.partition(".")[2]
    return any(f"{inside}.".startswith(f"{named}.") for named in mask.paths)


def _walk(message: Message, prefix: str) -> Iterator[str]:
    rules = _rules(message.DESCRIPTOR)
    for name in rules.output_only:
        message.ClearField(name)
    for field in rules.required:
        if not _is_set(message, field):
            yield prefix + field.name
    for field in rules.nested:
        if field.is_repeated:
            for index, item in enumerate(getattr(message, field.name)):
                yield from _walk(item, f"{prefix}{field.name}[{index}].")
        elif message.HasField(field.name):
            yield from _walk(getattr(message, field.name), f"{prefix}{field.name}.")


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    if field.is_repeated:
        return len(getattr(message, field.name)) > 0
    if field.has_presence:
        return message.HasField(field.name)
    # Zero is a value that a caller may mean; only an empty text cannot be one.
    return field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES) or bool(
        getattr(message, field.name)
    )


@cache
def _rules(descriptor: Descriptor) -> _Rules:
    behavior = _behavior(descriptor)
    nested = tuple(
        field
        for field in descriptor.fields
        if field.message_type is not None
        and not (field.message_type.has_options and field.message_type.GetOptions().map_entry)
        and field.name not in _named(descriptor, behavior, "OUTPUT_ONLY")
        and _concerns(field.message_type)
    )
    required = tuple(
        descriptor.fields_by_name[name]
        for name in _named(descriptor, behavior, "REQUIRED")
        if f"{descriptor.full_name}.{name}" not in OPTIONAL_IN_PRACTICE
    )
    output_only = tuple(
        name
        for name in _named(descriptor, behavior, "OUTPUT_ONLY")
        if descriptor.full_name not in IMPORTED and f"{descriptor.full_name}.{name}" not in KEPT
    )
    return _Rules(output_only, required, nested)


def immutable_fields(descriptor: Descriptor) -> frozenset[str]:
    """Fields that an update may not name."""
    return frozenset(_named(descriptor, _behavior(descriptor), "IMMUTABLE"))


def output_only_fields(descriptor: Descriptor) -> frozenset[str]:
    """Fields that an update names in vain."""
    return frozenset(_named(descriptor, _behavior(descriptor), "OUTPUT_ONLY"))


def _named(descriptor: Descriptor, behavior: dict[str, str], kind: str) -> list[str]:
    return [field.name for field in descriptor.fields if behavior.get(field.json_name) == kind]


@cache
def _concerns(descriptor: Descriptor) -> bool:
    """Whether anything at or below this message has a rule: most requests can then be passed over."""
    seen: set[str] = set()
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        if current.full_name in seen:
            continue
        seen.add(current.full_name)
        if any(kind in ("OUTPUT_ONLY", "REQUIRED") for kind in _behavior(current).values()):
            return True
        waiting.extend(field.message_type for field in current.fields if field.message_type is not None)
    return False


def _behavior(descriptor: Descriptor) -> dict[str, str]:
    package = descriptor.file.package
    schema = descriptor.full_name.removeprefix(package + ".").replace(".", "")
    return _table().get(package, {}).get(schema, {})


@cache
def _table() -> dict[str, dict[str, dict[str, str]]]:
    table: dict[str, dict[str, dict[str, str]]] = json.loads(
        (selfloop_apis.FOLDER / "field_behavior.json").read_bytes()
    )
    return table
