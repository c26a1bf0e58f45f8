"""xgboost's prebuilt prediction image: the answers of a deployed model are those of the model."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import EndpointServiceClient, ModelServiceClient, PredictionServiceClient

from emulator.runners.environments import Environments
from tests.conftest import LOCATION, Emulator
from tests.emulator.runners.conftest import index_is_reachable
from tests.emulator.services.aiplatform import registry

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.2-1:latest"
ROWS = [[0.1, 2.0], [0.7, -1.0], [0.4, 0.3]]
#: Trains, saves as the guides teach, and prints what the model itself says.
TRAIN = """
import json, pickle, sys
import joblib, numpy, xgboost
name, rows = sys.argv[1], numpy.array(json.loads(sys.argv[2]))
random = numpy.random.default_rng(0)
X = random.normal(size=(200, 2)); y = X[:, 0] * 2 + X[:, 1]
booster = xgboost.train({"max_depth": 3, "nthread": 1}, xgboost.DMatrix(X, y), 10)
said = booster.predict(xgboost.DMatrix(rows))
if name == "model.bst":
    booster.save_model(name)
elif name == "model.pkl":
    pickle.dump(booster, open(name, "wb"))
else:
    model = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(X, y > 0)
    said = model.predict(rows)
    joblib.dump(model, name)
print(json.dumps(said.tolist()))
"""


def train(image: str, folder: Path, name: str) -> Any:
    """What a model that is left in a folder says of ROWS, in the environment of an image."""
    if not index_is_reachable():
        pytest.skip("xgboost's environment is made at its first use, and no package index can be reached from here")
    environment = Environments().of_image(image)
    trained = subprocess.run(
        [environment.root / "bin" / "python", "-W", "ignore", "-c", TRAIN, name, json.dumps(ROWS)],
        cwd=folder, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(trained.stdout)


@pytest.mark.long
@pytest.mark.parametrize("version", [None, "2.0", "1.1"])
def test_the_sdk_s_upload_of_a_file_deploys(
    emulator: Emulator, project: str, tmp_path: Path, version: str | None
) -> None:
    # Without a version the SDK takes 1.4.
    tag = (version or "1.4").replace(".", "-")
    said = train(f"us-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.{tag}:latest", tmp_path, "model.bst")
    with emulator.exported():
        aiplatform.init(project=project, location=LOCATION)
        path = str(tmp_path / "model.bst")
        given = {"xgboost_version": version} if version else {}
        model = aiplatform.Model.upload_xgboost_model_file(path, **given)
        endpoint = model.deploy(machine_type="n1-standard-2")
        assert endpoint.predict(ROWS).predictions == said


@pytest.mark.parametrize(
    "name",
    [
        "model.bst",
        pytest.param("model.pkl", marks=pytest.mark.long),
        pytest.param("model.joblib", marks=pytest.mark.long),
    ],
)
def test_predictions_are_those_of_the_model(
    emulator: Emulator, project: str, parent: str, tmp_path: Path, name: str
) -> None:
    said = train(IMAGE, tmp_path, name)
    uri = registry.put(emulator, project, "model", {name: (tmp_path / name).read_bytes()})
    model = registry.upload(emulator.client(ModelServiceClient), parent, registry.described(uri, IMAGE))
    endpoints = emulator.client(EndpointServiceClient)
    endpoint = registry.new_endpoint(endpoints, parent)
    registry.deploy(endpoints, endpoint, model.name, {"0": 100})
    predictions = emulator.client(PredictionServiceClient)

    def predict(rows: list[Any]) -> list[Any]:
        return list(predictions.predict(endpoint=endpoint, instances=rows).predictions)

    assert predict(ROWS) == said
    assert len(predict([["NaN", 1.0]])) == 1
    with pytest.raises(BadRequest, match="Prediction failed: Exception during xgboost prediction"):
        predict([[1.0, 2.0, 3.0]])
