"""A model version's evaluation: what its training measured, imported into the registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from ops.clients import TIMEOUT_SECONDS, Clients
from ops.errors import OpsError, ResourceNotFound

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import ModelEvaluation

METRICS_FILE = "metrics.json"
SCHEMAS = {
    kind: f"gs://google-cloud-aiplatform/schema/modelevaluation/{kind}_1.0.0.yaml"
    for kind in ("classification_metrics", "regression_metrics", "forecasting_metrics")
}
"""key in that file -> the published schema that the metrics under it follow"""
SHOWN = ("auRoc", "auPrc", "logLoss")


def find(clients: Clients, versioned_name: str) -> ModelEvaluation | None:
    """The version's evaluation; None when there is none."""
    found = clients.models.list_model_evaluations(parent=versioned_name, timeout=TIMEOUT_SECONDS)
    return next(iter(found), None)


def import_from_artifacts(clients: Clients, versioned_name: str) -> ModelEvaluation:
    """Import what the training left in metrics.json beside the model; gives back what the registry made of it.

    Raises ResourceNotFound without such a file, OpsError when it holds no evaluation.
    """
    from google.protobuf import json_format, struct_pb2

    model = clients.models.get_model(name=versioned_name, timeout=TIMEOUT_SECONDS)
    uri = f"{model.artifact_uri.rstrip('/')}/{METRICS_FILE}"
    schema_uri, measured = _measured(read_object(clients, uri), uri)
    evaluation = {
        "display_name": f"training of version {model.version_id}",
        "metrics_schema_uri": schema_uri,
        "metrics": json_format.ParseDict(measured, struct_pb2.Value()),
    }
    request = {"parent": versioned_name, "model_evaluation": evaluation}
    return clients.models.import_model_evaluation(request, timeout=TIMEOUT_SECONDS)


def metrics(evaluation: ModelEvaluation) -> dict[str, Any]:
    """The metrics as plain values."""
    from google.protobuf import json_format

    message = type(evaluation).pb(evaluation)
    found = json_format.MessageToDict(message.metrics)
    return found if isinstance(found, dict) else {}


def numbers(evaluation: ModelEvaluation) -> dict[str, float]:
    """Those of the metrics that are a number."""
    found = metrics(evaluation).items()
    return {name: float(value) for name, value in found if isinstance(value, int | float)}


def summary(evaluation: ModelEvaluation) -> str:
    """The leading metrics on one line: `auRoc 0.731, logLoss 0.62`."""
    values = metrics(evaluation)
    return ", ".join(f"{name} {values[name]:.4g}" for name in SHOWN if isinstance(values.get(name), int | float))


def read_object(clients: Clients, uri: str) -> bytes:
    """The bytes of a gs:// object.

    Raises ResourceNotFound when it is not there.
    """
    from google.api_core.exceptions import NotFound

    parts = urlsplit(uri)
    blob = clients.storage.bucket(parts.netloc).blob(parts.path.removeprefix("/"))
    try:
        return cast(bytes, blob.download_as_bytes(timeout=TIMEOUT_SECONDS))
    except NotFound:
        raise ResourceNotFound(f"{uri} does not exist; the training did not leave it there") from None


def _measured(payload: bytes, uri: str) -> tuple[str, dict[str, Any]]:
    """URI of the schema, and the metrics that follow it."""
    try:
        document = json.loads(payload)
    except ValueError:
        document = None
    for kind, schema_uri in SCHEMAS.items() if isinstance(document, dict) else ():
        if isinstance(document.get(kind), dict):
            return schema_uri, document[kind]
    raise OpsError(f"{uri} holds none of {', '.join(SCHEMAS)}; mend the training code")
