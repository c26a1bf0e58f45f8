"""Managed datasets: what a schema is called, what a dataset may say, where its rows are. Pure functions.

Source: the comments of dataset.proto, and the schemas below gs://google-cloud-aiplatform/schema/dataset/metadata/
"""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, MethodNotImplemented
from selfloop_apis.aiplatform_v1 import Dataset

from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.values import plain

#: The label that tells a dataset's kind. Labels with its prefix are the service's own.
SCHEMA_LABEL = "aiplatform.googleapis.com/dataset_metadata_schema"
_SYSTEM_LABELS = "aiplatform.googleapis.com/"

_SCHEMAS = "gs://google-cloud-aiplatform/schema/dataset/"
_SCHEMA = re.compile(re.escape(_SCHEMAS) + r"metadata/([a-z_]+)_1\.\d+\.\d+\.yaml")
#: The titles of the schemas, by the names of their files.
_TITLES = {
    "tabular": "TABLE", "time_series": "TIME_SERIES", "image": "IMAGE", "text": "TEXT", "video": "VIDEO"
}  # fmt: skip
_BIGQUERY_URI = re.compile(r"bq://[^./]+(?:\.[^./]+){1,2}")


def kind_of(dataset: Dataset) -> str:
    """`tabular`, `image`, … Raises InvalidArgument for a schema that is none of Vertex AI's."""
    found = _SCHEMA.fullmatch(dataset.metadata_schema_uri)
    if found is None or found[1] not in _TITLES:
        known = ", ".join(f"{_SCHEMAS}metadata/{kind}_1.0.0.yaml" for kind in _TITLES)
        raise InvalidArgument(f'Unknown metadata_schema_uri "{dataset.metadata_schema_uri}"; there are {known}.')
    return found[1]


def check_dataset(dataset: Dataset) -> None:
    """Raises InvalidArgument, with all that is wrong in it."""
    errors = FoundErrors()
    errors.check_display_name(dataset.display_name)
    errors.check_labels(user_labels(dataset))
    errors.raise_any()
    if kind_of(dataset) in ("tabular", "time_series"):
        _check_source(plain(dataset.metadata), errors)
    errors.raise_any()


def complete(dataset: Dataset) -> None:
    """Add what the service adds to every dataset."""
    kind = kind_of(dataset)
    for key in [key for key in dataset.labels if key.startswith(_SYSTEM_LABELS)]:
        del dataset.labels[key]
    dataset.labels[SCHEMA_LABEL] = _TITLES[kind]
    if kind not in ("tabular", "time_series"):
        schema = f"{_SCHEMAS}dataitem/{kind}_1.0.0.yaml"
        dataset.metadata.struct_value.update({"dataItemSchemaUri": schema})


def user_labels(dataset: Dataset) -> dict[str, str]:
    return {key: value for key, value in dataset.labels.items() if not key.startswith(_SYSTEM_LABELS)}


def csv_uris(dataset: Dataset) -> list[str]:
    """The CSV objects that hold a dataset's rows; a `*` in them stands for any characters.

    Raises MethodNotImplemented for data that the emulator cannot read yet, FailedPrecondition for a time series,
    which no custom job is trained on.
    """
    kind = kind_of(dataset)
    if kind == "time_series":
        raise FailedPrecondition(f"The Dataset `{dataset.name}` is a time series: no custom training reads it.")
    if kind != "tabular":
        raise MethodNotImplemented(
            f"The data items of {kind} datasets are not emulated yet; read the files in the training code, "
            "or use a tabular dataset of CSV files."
        )
    source = plain(dataset.metadata)["inputConfig"]
    if "gcsSource" not in source:
        raise MethodNotImplemented(
            f"The Dataset `{dataset.name}` has its rows in BigQuery, which is not emulated yet; "
            "use CSV files in Cloud Storage."
        )
    return [str(uri) for uri in source["gcsSource"]["uri"]]


def _check_source(metadata: Any, errors: FoundErrors) -> None:
    field = "metadata.inputConfig"
    config = metadata.get("inputConfig") if isinstance(metadata, dict) else None
    sources = config if isinstance(config, dict) else {}
    if len(sources.keys() & {"gcsSource", "bigquerySource"}) != 1:
        errors.add(field, "One of gcsSource and bigquerySource must be set.")
        return
    name, source = next((name, sources[name]) for name in ("gcsSource", "bigquerySource") if name in sources)
    uri = source.get("uri") if isinstance(source, dict) else None
    if name == "bigquerySource":
        if not (isinstance(uri, str) and _BIGQUERY_URI.fullmatch(uri)):
            errors.add(f"{field}.bigquerySource.uri", f"{uri!r} is not a BigQuery table, bq://project.dataset.table.")
        return
    if not isinstance(uri, list) or not uri:
        errors.add(f"{field}.gcsSource.uri", "Required field is not set.")
        return
    for one in uri:
        errors.check_gcs_uri(str(one), f"{field}.gcsSource.uri")
