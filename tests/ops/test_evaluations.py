"""What a training measured becomes an evaluation of its version."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.cloud.aiplatform_v1 import ModelEvaluation

from ops import evaluations
from ops.clients import Clients
from ops.errors import OpsError

VERSION = "projects/p/locations/us-central1/models/m@3"


class FakeModels:
    def __init__(self) -> None:
        self.imported: dict[str, Any] = {}

    def get_model(self, name: str, timeout: float) -> Any:
        return SimpleNamespace(artifact_uri="gs://bucket/run/model/", version_id=name.rpartition("@")[2])

    def import_model_evaluation(self, request: dict[str, Any], timeout: float) -> ModelEvaluation:
        self.imported = request
        return ModelEvaluation(request["model_evaluation"])


def import_from(document: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeModels, ModelEvaluation]:
    """Import a metrics.json of that content."""
    models = FakeModels()
    read = []

    def read_object(clients: Clients, uri: str) -> bytes:
        read.append(uri)
        return document

    monkeypatch.setattr(evaluations, "read_object", read_object)
    made = evaluations.import_from_artifacts(cast(Clients, SimpleNamespace(models=models)), VERSION)
    assert read == ["gs://bucket/run/model/metrics.json"]
    return models, made


def test_import_takes_the_published_part_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"rows": 5, "classification_metrics": {"auRoc": 0.75, "logLoss": 0.5, "confusionMatrix": {"rows": []}}}
    models, made = import_from(json.dumps(document).encode(), monkeypatch)
    assert models.imported["parent"] == VERSION
    assert made.metrics_schema_uri.endswith("/classification_metrics_1.0.0.yaml")
    assert evaluations.metrics(made)["auRoc"] == 0.75
    assert evaluations.summary(made) == "auRoc 0.75, logLoss 0.5"


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"classification_metrics": 3}', b"\xff"])
def test_import_of_anything_else_names_the_file(document: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OpsError, match=r"gs://bucket/run/model/metrics\.json holds none of classification_metrics"):
        import_from(document, monkeypatch)
