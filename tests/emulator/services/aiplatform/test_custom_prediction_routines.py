"""Custom prediction routines: a Predictor or a Handler of one's own, served by the SDK's own model server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import InternalServerError
from google.cloud import aiplatform

from tests.conftest import LOCATION, Emulator, start_emulator
from tests.emulator.services.aiplatform import registry

# The environment is made at its first use, which needs the network.
pytestmark = pytest.mark.long

REPOSITORY = "us-central1-docker.pkg.dev/tests/routines"
SOURCE = """
import json

from fastapi import Response
from google.cloud.aiplatform.prediction.handler import PredictionHandler
from google.cloud.aiplatform.prediction.sklearn.predictor import SklearnPredictor


class Doubled(SklearnPredictor):
    def preprocess(self, prediction_input):
        if prediction_input["instances"] == ["bad"]:
            raise ValueError("these are no rows")
        return super().preprocess(prediction_input)

    def postprocess(self, prediction_results):
        return {"predictions": [2 * value for value in prediction_results.tolist()]}


class Described(PredictionHandler):
    async def handle(self, request):
        answered = await super().handle(request)
        document = json.loads(answered.body) | {"metadata": {"handled": True}}
        return Response(json.dumps(document), media_type="application/json")
"""


@pytest.fixture(scope="module")
def routines(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator that knows two images: one with a Predictor, one with a Handler besides."""
    folder = tmp_path_factory.mktemp("routines")
    (folder / "source").mkdir()
    (folder / "source" / "routine.py").write_text(SOURCE)
    handlers = {"predictor": ("google.cloud.aiplatform.prediction.handler", "PredictionHandler"),
                "handler": ("routine", "Described")}  # fmt: skip
    table = {
        f"{REPOSITORY}/{image}": {
            "environment": "custom-prediction",
            "folder": str(folder / "source"),
            "entrypoint": ["python3", "-m", "google.cloud.aiplatform.prediction.model_server"],
            "env": {
                "HANDLER_MODULE": module,
                "HANDLER_CLASS": name,
                "PREDICTOR_MODULE": "routine",
                "PREDICTOR_CLASS": "Doubled",
            },
        }
        for image, (module, name) in handlers.items()
    }
    shutil.copytree(emulator.state / "ca", folder / "state" / "ca")
    running = start_emulator(folder / "state", "--image-table", json.dumps(table))
    yield running
    running.stop()


@pytest.mark.parametrize(("image", "metadata"), [("predictor", None), ("handler", {"handled": True})])
def test_a_routine_answers_with_its_own_code(routines: Emulator, project: str, image: str, metadata: Any) -> None:
    uri = registry.put_model(routines, project, registry.constant(21.0))
    with routines.exported():
        aiplatform.init(project=project, location=LOCATION)
        model = aiplatform.Model.upload(
            display_name=image,
            artifact_uri=uri,
            serving_container_image_uri=f"{REPOSITORY}/{image}:v1",
            serving_container_predict_route="/predict",
            serving_container_health_route="/health",
            serving_container_ports=[8080],
        )
        endpoint = model.deploy(machine_type="n1-standard-2")
        answer = endpoint.predict([[1.0, 2.0]])
        assert (answer.predictions, answer.metadata) == ([42.0], metadata)
        with pytest.raises(InternalServerError, match=r"ValueError.*these are no rows"):
            endpoint.predict(["bad"])
