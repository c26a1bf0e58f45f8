"""Metadata schemas: those that every store has, and what one of a user's own must be.

Source: https://cloud.google.com/vertex-ai/docs/ml-metadata/system-schemas
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from google.api_core.exceptions import InvalidArgument
from selfloop_apis.aiplatform_v1 import MetadataSchema

_VERSION = "0.0.1"
_VERSION_FORM = re.compile(r"[0-9]+[.][0-9]+[.][0-9]+")
#: Longer than any schema that people write; a parser's memory is finite.
_LONGEST = 64 * 1024

_NUMBER, _STRING, _OBJECT = {"type": "number"}, {"type": "string"}, {"type": "object"}
_ARRAY = {"type": "array"}
_RESOURCE = {"resourceName": _STRING}
_CLASSIFICATION = {
    "auPrc": _NUMBER, "auRoc": _NUMBER, "logLoss": _NUMBER, "confusionMatrix": _OBJECT, "confidenceMetrics": _ARRAY,
}  # fmt: skip
_REGRESSION = {
    "rootMeanSquaredError": _NUMBER, "meanAbsoluteError": _NUMBER, "meanAbsolutePercentageError": _NUMBER,
    "rSquared": _NUMBER, "rootMeanSquaredLogError": _NUMBER,
}  # fmt: skip

#: Title -> the properties that its metadata is known by; others may be there too.
_SYSTEM: dict[MetadataSchema.MetadataSchemaType.ValueType, dict[str, dict[str, dict[str, str]]]] = {
    MetadataSchema.ARTIFACT_TYPE: {
        "system.Artifact": {},
        "system.Dataset": {"container_format": _STRING, "payload_format": _STRING},
        "system.Model": {"framework": _STRING, "framework_version": _STRING, "payload_format": _STRING},
        "system.Metrics": {"accuracy": _NUMBER, "precision": _NUMBER, "recall": _NUMBER, "f1score": _NUMBER},
        "system.ClassificationMetrics": {"confusionMatrix": _OBJECT, "confidenceMetrics": _ARRAY},
        "system.SlicedClassificationMetrics": {},
        "system.HTML": {},
        "system.Markdown": {},
        "google.VertexDataset": _RESOURCE,
        "google.VertexModel": _RESOURCE,
        "google.VertexEndpoint": _RESOURCE,
        "google.VertexBatchPredictionJob": _RESOURCE,
        "google.VertexTensorboardRun": _RESOURCE,
        "google.VertexPipelineJob": _RESOURCE,
        "google.UnmanagedContainerModel": {"predictSchemata": _OBJECT, "containerSpec": _OBJECT},
        "google.ExperimentModel": {
            "frameworkName": _STRING, "frameworkVersion": _STRING, "modelFile": _STRING, "modelClass": _STRING,
            "predictSchemata": _OBJECT,
        },
        "google.BQTable": {"projectId": _STRING, "datasetId": _STRING, "tableId": _STRING},
        "google.BQMLModel": {"projectId": _STRING, "datasetId": _STRING, "modelId": _STRING},
        "google.ClassificationMetrics": _CLASSIFICATION,
        "google.RegressionMetrics": _REGRESSION,
        "google.ForecastingMetrics": _REGRESSION,
    },
    MetadataSchema.EXECUTION_TYPE: {
        "system.Run": {},
        "system.ContainerExecution": {},
        "system.CustomJobExecution": {},
        "system.ImporterExecution": {},
        "system.ResolverExecution": {},
        "system.DagExecution": {},
        "system.ReusedExecution": {},
        "system.SubPipelineExecution": {},
        "system.BatchPredictionExecution": {},
    },
    MetadataSchema.CONTEXT_TYPE: {
        "system.Experiment": {},
        "system.ExperimentRun": {},
        "system.Pipeline": {},
        "system.PipelineRun": {},
    },
}  # fmt: skip


@cache
def _system() -> tuple[MetadataSchema, ...]:
    return tuple(
        MetadataSchema(
            name=_schema_id(title),
            schema_version=_VERSION,
            schema_type=kind,
            schema=_as_yaml(title, properties),
        )
        for kind, titles in _SYSTEM.items()
        for title, properties in titles.items()
    )


def system_schemas(store: str) -> list[MetadataSchema]:
    """Google's own schemas, as one store names them."""
    return [_named(schema, f"{store}/metadataSchemas/{schema.name}") for schema in _system()]


def find_system_schema(name: str) -> MetadataSchema | None:
    """The one of this full name, if it is Google's."""
    found = next((schema for schema in _system() if schema.name == name.rpartition("/")[2]), None)
    return None if found is None else _named(found, name)


def title_of(schema: MetadataSchema) -> str:
    """The title inside a schema. Raises InvalidArgument for what is no schema."""
    if len(schema.schema) > _LONGEST:
        raise InvalidArgument(f"The schema must be at most {_LONGEST} characters long.")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(schema.schema)
    except (YAMLError, RecursionError) as error:
        raise InvalidArgument(f"The schema is not valid YAML: {error}") from None
    title = content.get("title") if isinstance(content, dict) else None
    if not isinstance(title, str) or not title:
        raise InvalidArgument("The schema must be an OpenAPI schema object with a title.")
    return title


def check_new(schema: MetadataSchema, existing: Iterable[MetadataSchema]) -> None:
    """Fill in what a user's schema leaves out. Raises InvalidArgument for what it may not say.

    existing: the user's schemas that are in the store already.
    """
    title = title_of(schema)
    if not schema.schema_version:
        schema.schema_version = _VERSION
    if not _VERSION_FORM.fullmatch(schema.schema_version):
        raise InvalidArgument(f'The schema_version "{schema.schema_version}" is not of the form 1.0.0.')
    if schema.schema_type == MetadataSchema.METADATA_SCHEMA_TYPE_UNSPECIFIED:
        raise InvalidArgument("The schema_type must say whether this is for artifacts, executions or contexts.")
    if title.startswith(("system.", "google.")):
        raise InvalidArgument(f'The title "{title}" is in a namespace of Google\'s own.')
    for other in existing:
        if title_of(other) == title and other.schema_version == schema.schema_version:
            raise InvalidArgument(f'There is a schema "{title}" of version {schema.schema_version} already.')


def version_for(
    title: str, version: str, kind: MetadataSchema.MetadataSchemaType.ValueType, own: Iterable[MetadataSchema]
) -> str:
    """The version of a node's schema: the one asked for, or the latest.

    own: the user's schemas in the store. Raises InvalidArgument for a schema that is not registered there.
    """
    if title in _SYSTEM.get(kind, {}):
        known = [_VERSION]
    else:
        known = [one.schema_version for one in own if one.schema_type == kind and title_of(one) == title]
    if version and version in known:
        return version
    if version or not known:
        shown = f'"{title}" of version {version}' if version else f'"{title}"'
        raise InvalidArgument(f"There is no metadata schema {shown} for this kind of resource in the metadata store.")
    return max(known, key=lambda one: [int(part) for part in one.split(".")])


def _schema_id(title: str) -> str:
    """`system-dataset-v0-0-1`, as the ids of the system's schemas are."""
    return f"{title}-v{_VERSION}".replace(".", "-").lower()


def _as_yaml(title: str, properties: dict[str, dict[str, str]]) -> str:
    lines = [f"title: {title}", "type: object"]
    if properties:
        lines.append("properties:")
    for name, kind in properties.items():
        lines += [f"  {name}:", f"    type: {kind['type']}"]
    return "\n".join(lines) + "\n"


def _named(schema: MetadataSchema, name: str) -> MetadataSchema:
    named = MetadataSchema()
    named.CopyFrom(schema)
    named.name = name
    return named
