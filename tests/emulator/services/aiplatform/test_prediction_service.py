"""PredictionService through the official client, over both transports, against real model servers."""

from __future__ import annotations

import collections
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from google.api.httpbody_pb2 import HttpBody
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.aiplatform_v1 import (
    Endpoint,
    EndpointServiceClient,
    ModelServiceClient,
    PredictionServiceClient,
)
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client

from tests.conftest import LOCATION, Emulator
from tests.emulator.services.aiplatform import registry

HOST = f"https://{LOCATION}-aiplatform.googleapis.com"


class Deployed:
    """An endpoint with two versions of a model; the first one says 1 and has all the traffic, the second says 2."""

    def __init__(self, emulator: Emulator) -> None:
        self.project = "prediction-tests"
        self.parent = f"projects/{self.project}/locations/{LOCATION}"
        self.endpoints = emulator.client(EndpointServiceClient)
        models = emulator.client(ModelServiceClient)
        self.endpoint = registry.new_endpoint(self.endpoints, self.parent)
        self.ids: list[str] = []
        self.model = ""
        for value in (1, 2):
            uri = registry.put_model(emulator, self.project, registry.constant(value))
            model = registry.described(uri, display_name="constant")
            self.model = registry.upload(models, self.parent, model, parent_model=self.model).name
            split = {"0": 100} if value == 1 else {}
            version = f"{self.model}@{value}"
            self.ids.append(registry.deploy(self.endpoints, self.endpoint, version, split, enable_access_logging=True))

    def split(self, *percents: int) -> None:
        endpoint = Endpoint(name=self.endpoint, traffic_split=dict(zip(self.ids, percents, strict=True)))
        self.endpoints.update_endpoint(endpoint=endpoint, update_mask={"paths": ["traffic_split"]})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def deployed(emulator: Emulator) -> Deployed:
    return Deployed(emulator)


@pytest.fixture(params=["grpc", "rest"])
def predictions(emulator: Emulator, request: pytest.FixtureRequest) -> PredictionServiceClient:
    return emulator.client(PredictionServiceClient, transport=request.param)


@pytest.fixture
def session(emulator: Emulator) -> Iterator[requests.Session]:
    """HTTP with a token, through the emulator's proxy."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {emulator.token}"
        yield session


def predict(predictions: PredictionServiceClient, endpoint: str, instances: list[Any]) -> Any:
    return predictions.predict(endpoint=endpoint, instances=instances)


def test_predict_answers_in_the_order_of_the_instances(
    predictions: PredictionServiceClient, deployed: Deployed
) -> None:
    answer = predict(predictions, deployed.endpoint, [[0, 0], [1, 1], [0.5, 0]])
    assert list(answer.predictions) == [1.0, 1.0, 1.0]
    assert (answer.deployed_model_id, answer.model, answer.model_version_id, answer.model_display_name) == (
        deployed.ids[0],
        deployed.model,
        "1",
        "constant",
    )


def test_predict_of_rows_of_another_width_tells_what_the_container_said(
    predictions: PredictionServiceClient, deployed: Deployed
) -> None:
    with pytest.raises(BadRequest, match="Prediction failed: Exception during sklearn prediction: X has 3 features"):
        predict(predictions, deployed.endpoint, [[1, 2, 3]])


def test_predict_of_objects_is_what_the_prebuilt_container_makes_of_them(
    predictions: PredictionServiceClient, deployed: Deployed
) -> None:
    with pytest.raises(BadRequest, match="Exception during sklearn prediction"):
        predict(predictions, deployed.endpoint, [{"a": 1, "b": 2}])


def test_predict_without_instances_is_refused(predictions: PredictionServiceClient, deployed: Deployed) -> None:
    with pytest.raises(BadRequest, match="instance"):
        predict(predictions, deployed.endpoint, [])


def test_predict_of_an_unknown_endpoint_is_not_found(predictions: PredictionServiceClient, parent: str) -> None:
    with pytest.raises(NotFound, match=r"Endpoint `projects/\d+/locations/us-central1/endpoints/404` not found"):
        predict(predictions, f"{parent}/endpoints/404", [[1]])


def test_predict_of_an_empty_endpoint_is_refused(
    emulator: Emulator, predictions: PredictionServiceClient, parent: str
) -> None:
    endpoint = registry.new_endpoint(emulator.client(EndpointServiceClient), parent)
    with pytest.raises(BadRequest, match="no deployed model"):
        predict(predictions, endpoint, [[1]])


def test_predict_takes_at_most_one_and_a_half_megabytes(
    predictions: PredictionServiceClient, deployed: Deployed
) -> None:
    with pytest.raises(BadRequest, match="Request payload size exceeds the limit: 1572864 bytes"):
        predict(predictions, deployed.endpoint, [["x" * 1_600_000]])
    assert len(predict(predictions, deployed.endpoint, [[0, 0]] * 20_000).predictions) == 20_000


def test_predict_follows_the_traffic_split(emulator: Emulator, deployed: Deployed) -> None:
    predictions = emulator.client(PredictionServiceClient)

    def share(calls: int) -> collections.Counter[float]:
        answers = (predict(predictions, deployed.endpoint, [[0, 0]]) for _ in range(calls))
        return collections.Counter(answer.predictions[0] for answer in answers)

    try:
        deployed.split(0, 100)
        assert share(20) == {2.0: 20}
        deployed.split(50, 50)
        # Each value is missed by 100 fair throws once in 10**30 runs.
        assert set(share(100)) == {1.0, 2.0}
    finally:
        deployed.split(100, 0)
    assert share(20) == {1.0: 20}


def test_predict_for_many_clients_at_once(emulator: Emulator, deployed: Deployed) -> None:
    predictions = emulator.client(PredictionServiceClient)
    answers: list[float] = []

    def ask() -> None:
        answers.extend(predict(predictions, deployed.endpoint, [[0, 0]]).predictions[0] for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1.0] * 400


def test_predict_is_logged_where_the_deployment_asks_for_it(emulator: Emulator, deployed: Deployed) -> None:
    predict(emulator.client(PredictionServiceClient), deployed.endpoint, [[0, 0], [1, 1]])
    logging = emulator.client(LoggingServiceV2Client)
    (entry, *_) = logging.list_log_entries(
        request={
            "resource_names": [f"projects/{deployed.project}"],
            "filter": 'logName:"prediction_access" AND jsonPayload.instance_count=2',
            "order_by": "timestamp desc",
        }
    )
    payload = dict(entry.json_payload)
    assert payload["deployed_model_id"] == deployed.ids[0]
    assert entry.resource.type == "aiplatform.googleapis.com/Endpoint"


def test_raw_predict_passes_body_and_headers(session: requests.Session, deployed: Deployed) -> None:
    answer = session.post(f"{HOST}/v1/{deployed.endpoint}:rawPredict", data=b'{"instances": [[0, 0]]}')
    assert (answer.status_code, answer.json()) == (200, {"predictions": [1.0]})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-vertex-ai-deployed-model-id"] == deployed.ids[0]
    assert answer.headers["x-vertex-ai-model"] == deployed.model
    assert answer.headers["x-vertex-ai-model-version-id"] == "1"


def test_raw_predict_passes_the_container_s_error_unchanged(session: requests.Session, deployed: Deployed) -> None:
    answer = session.post(f"{HOST}/v1/{deployed.endpoint}:rawPredict", data=b"no JSON")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Prediction failed: ")


def test_raw_predict_over_grpc(emulator: Emulator, deployed: Deployed) -> None:
    predictions = emulator.client(PredictionServiceClient)
    body = HttpBody(data=b'{"instances": [[0, 0], [1, 1]]}', content_type="application/json")
    answer = predictions.raw_predict(request={"endpoint": deployed.endpoint, "http_body": body})
    assert json.loads(answer.data) == {"predictions": [1.0, 1.0]}
    (piece,) = predictions.stream_raw_predict(request={"endpoint": deployed.endpoint, "http_body": body})
    assert piece.data == answer.data
    with pytest.raises(BadRequest, match="Prediction failed"):
        predictions.raw_predict(request={"endpoint": deployed.endpoint, "http_body": HttpBody(data=b"{}")})


def test_raw_predict_of_an_unknown_endpoint_is_google_s_json(session: requests.Session, deployed: Deployed) -> None:
    answer = session.post(f"{HOST}/v1/{deployed.parent}/endpoints/404:rawPredict", data=b"{}")
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize("body", [b"[]", b'{"instances": 1}', b'{"instances": ', b'{"instances": [1], "x": 2}'])
def test_predict_of_a_body_of_another_form_is_refused(
    session: requests.Session, deployed: Deployed, body: bytes
) -> None:
    answer = session.post(f"{HOST}/v1/{deployed.endpoint}:predict", data=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
