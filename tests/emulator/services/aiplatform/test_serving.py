"""Whole stories of a model: the Vertex SDK, gcloud, crashes and restarts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded, FailedPrecondition, ResourceExhausted, ServiceUnavailable
from google.cloud import aiplatform_v1beta1 as v1beta1
from google.cloud.aiplatform_v1 import EndpointServiceClient, ModelServiceClient, PredictionServiceClient
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client

from emulator.runners.limits import descendants, process_tree
from tests.conftest import LOCATION, Emulator, wait_until
from tests.emulator.services.aiplatform import registry


@pytest.fixture(params=["grpc", "rest"])
def sdk(emulator: Emulator, project: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The Vertex SDK, as a user's script initialises it."""
    from google.cloud import aiplatform

    with emulator.exported():
        aiplatform.init(
            project=project, location=LOCATION, staging_bucket=f"gs://{project}-models", api_transport=request.param
        )
        yield aiplatform
    aiplatform.initializer.global_config._api_transport = None


def test_sdk_uploads_versions_evaluates_deploys_and_predicts(
    sdk: Any, emulator: Emulator, project: str, tmp_path: Path
) -> None:
    uri = registry.put_model(emulator, project, registry.constant(1), "first")
    first = sdk.Model.upload(display_name="tips", artifact_uri=uri, serving_container_image_uri=registry.IMAGE)
    uri = registry.put_model(emulator, project, registry.constant(2), "second")
    second = sdk.Model.upload(
        display_name="tips",
        artifact_uri=uri,
        serving_container_image_uri=registry.IMAGE,
        parent_model=first.resource_name,
        is_default_version=False,
        version_aliases=["challenger"],
        version_description="learned more",
    )
    versions = second.versioning_registry
    assert [(v.version_id, v.version_aliases) for v in versions.list_versions()] == [
        ("2", ["challenger"]),
        ("1", ["default"]),
    ]
    assert versions.get_version_info("challenger").version_description == "learned more"
    versions.update_version("2", version_description="learned most", labels={"stage": "test"})
    assert versions.get_model("2").version_description == "learned most"
    versions.add_version_aliases(["default"], "2")
    versions.remove_version_aliases(["challenger"], "2")
    assert sdk.Model(first.resource_name).version_id == "2"

    (listed,) = sdk.Model.list(filter='display_name="tips"')
    assert listed.versioned_resource_name == second.versioned_resource_name
    second.update(display_name="better tips")
    assert sdk.Model(first.name).display_name == "better tips"

    endpoint = sdk.Endpoint.create(display_name="tips")
    first.deploy(endpoint, machine_type="n1-standard-2")
    second.deploy(endpoint, machine_type="n1-standard-2", traffic_percentage=100)
    answer = endpoint.predict([[0, 0], [1, 1]])
    assert answer.predictions == [2.0, 2.0]
    assert answer.model_version_id == "2"
    assert answer.model_resource_name == first.resource_name
    raw = endpoint.predict([[0, 0]], use_raw_predict=True)
    assert (raw.predictions, raw.deployed_model_id) == ([2.0], answer.deployed_model_id)
    assert endpoint.traffic_split[answer.deployed_model_id] == 100
    assert len(endpoint.list_models()) == 2

    endpoint.delete(force=True)
    versions.delete_version("1")
    second.delete()
    assert sdk.Model.list() == []
    assert sdk.Endpoint.list() == []


def test_sdk_reads_evaluations(sdk: Any, emulator: Emulator, parent: str) -> None:
    models = emulator.client(ModelServiceClient)
    name = registry.upload(models, parent).name
    schema = "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml"
    models.import_model_evaluation(
        parent=name,
        model_evaluation={"metrics_schema_uri": schema, "metrics": {"rootMeanSquaredError": 0.25}},  # type: ignore[arg-type]
    )
    model = sdk.Model(name)
    (listed,) = model.list_model_evaluations()
    assert dict(listed.metrics) == {"rootMeanSquaredError": 0.25}
    assert model.get_model_evaluation().resource_name == listed.resource_name
    assert model.get_model_evaluation(listed.name).metrics == listed.metrics


def test_sdk_stages_and_uploads_a_model_file(sdk: Any, emulator: Emulator, project: str, tmp_path: Path) -> None:
    registry.put(emulator, project, "staging", {"here": b""})
    path = tmp_path / "model.joblib"
    path.write_bytes(registry.dumped(registry.constant(3)))
    model = sdk.Model.upload_scikit_learn_model_file(model_file_path=str(path), sklearn_version="1.6")
    assert model.container_spec.image_uri.endswith("prediction/sklearn-cpu.1-6:latest")
    assert model.version_id == "1"


class Evaluated:
    """A pickle of what an expression gives, which needs no module of this test."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, (self.source,)


#: A model that ends its process when it is asked for 13.
CRASHING = """type("Model", (), {"predict": lambda self, rows: [
    __import__("os")._exit(3) if row[0] == 13 else float(row[0]) for row in rows
]})()"""


class Served:
    """A model deployed on an emulator."""

    def __init__(self, emulator: Emulator, project: str, parent: str, uri: str) -> None:
        models, self.endpoints = emulator.client(ModelServiceClient), emulator.client(EndpointServiceClient)
        self.predictions = emulator.client(PredictionServiceClient)
        self.model = registry.upload(models, parent, registry.described(uri)).name
        self.endpoint = registry.new_endpoint(self.endpoints, parent)
        registry.deploy(self.endpoints, self.endpoint, self.model, {"0": 100})

    def predict(self, value: float, timeout: float = 60) -> float:
        answer = self.predictions.predict(
            endpoint=self.endpoint,
            instances=[[value, 0]],  # type: ignore[list-item]
            timeout=timeout,
        )
        return float(answer.predictions[0])  # type: ignore[arg-type]


def servers_of(emulator: Emulator) -> list[int]:
    """Process ids of an emulator's model servers."""
    return [pid for pid in descendants(emulator.process.pid, process_tree()) if is_server(pid)]


def is_server(pid: int) -> bool:
    try:
        return b"\0--socket\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_a_server_that_crashes_is_started_again(emulator: Emulator, project: str, parent: str) -> None:
    served = Served(
        emulator,
        project,
        parent,
        registry.put(emulator, project, "crashing", {"model.pkl": registry.pickled(Evaluated(CRASHING))}),
    )
    assert served.predict(5) == 5
    with pytest.raises(ServiceUnavailable):
        served.predict(13)

    def again() -> bool:
        try:
            return served.predict(6) == 6
        except ServiceUnavailable:
            return False

    wait_until(again, 60)


def test_undeploying_lets_a_server_answer_what_it_was_asked(emulator: Emulator, project: str, parent: str) -> None:
    predict = 'lambda self, rows: print("asked") or __import__("time").sleep(2) or [9.0]'
    slow = Evaluated(f'type("Model", (), {{"predict": {predict}}})()')
    uri = registry.put(emulator, project, "slow", {"model.pkl": registry.pickled(slow)})
    served = Served(emulator, project, parent, uri)
    (deployed,) = served.endpoints.get_endpoint(name=served.endpoint).deployed_models
    answers: list[float] = []
    asking = threading.Thread(target=lambda: answers.append(served.predict(0)))
    asking.start()
    wait_until(lambda: "asked" in printed(emulator, project, served.endpoint))
    operation = served.endpoints.undeploy_model(endpoint=served.endpoint, deployed_model_id=deployed.id)
    operation.result(timeout=60)
    asking.join()
    assert answers == [9.0]


def test_slow_models_leave_threads_to_other_calls(emulator: Emulator, project: str, parent: str) -> None:
    predict = 'lambda self, rows: print("asked") or __import__("time").sleep(600)'
    slow = Evaluated(f'type("Model", (), {{"predict": {predict}}})()')
    uri = registry.put(emulator, project, "slow", {"model.pkl": registry.pickled(slow)})
    served = Served(emulator, project, parent, uri)
    refused: list[str] = []

    def ask() -> None:
        try:
            served.predict(0, timeout=8)
        except (DeadlineExceeded, ResourceExhausted) as error:
            refused.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(60)]
    for thread in threads:
        thread.start()
    wait_until(lambda: refused.count("ResourceExhausted") >= 40)
    served.endpoints.get_endpoint(name=served.endpoint, timeout=5)
    for thread in threads:
        thread.join()


def test_the_beta_version_sees_and_serves_the_same(emulator: Emulator, project: str, parent: str) -> None:
    served = Served(emulator, project, parent, registry.put_model(emulator, project, registry.constant(6)))
    endpoints = emulator.client(v1beta1.EndpointServiceClient)
    (deployed,) = endpoints.get_endpoint(name=served.endpoint).deployed_models
    assert emulator.client(v1beta1.ModelServiceClient).get_model(name=served.model).version_id == "1"
    predictions = emulator.client(v1beta1.PredictionServiceClient)
    answer = predictions.predict(endpoint=served.endpoint, instances=[[0, 0]])  # type: ignore[list-item]
    assert list(answer.predictions) == [6.0]
    operation = endpoints.undeploy_model(endpoint=served.endpoint, deployed_model_id=deployed.id)
    assert isinstance(operation.result(timeout=60), v1beta1.UndeployModelResponse)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_deployed_models_come_back_after_a_restart(
    new_emulator: Callable[..., Emulator], project: str, parent: str, number: signal.Signals
) -> None:
    before = new_emulator()
    uri = registry.put_model(before, project, registry.constant(5))
    served = Served(before, project, parent, uri)
    servers = servers_of(before)
    assert servers
    before.stop(number)
    wait_until(lambda: not any(is_server(pid) for pid in servers))

    after = new_emulator(state=before.state)
    served.predictions = after.client(PredictionServiceClient)
    assert served.predict(0) == 5
    endpoints = after.client(EndpointServiceClient)
    (deployed,) = endpoints.get_endpoint(name=served.endpoint).deployed_models
    endpoints.undeploy_model(endpoint=served.endpoint, deployed_model_id=deployed.id).result(timeout=60)
    assert not servers_of(after)


def printed(emulator: Emulator, project: str, endpoint: str, severity: str = "INFO") -> str:
    """What the containers of an endpoint printed, as Cloud Logging has it."""
    entries = emulator.client(LoggingServiceV2Client).list_log_entries(
        request={
            "resource_names": [f"projects/{project}"],
            "filter": f'resource.labels.endpoint_id="{endpoint.rpartition("/")[2]}" AND severity={severity}',
        }
    )
    return "\n".join(str(dict(entry.json_payload)["message"]) for entry in entries)


def test_what_a_container_prints_is_in_its_endpoint_s_log(emulator: Emulator, project: str, parent: str) -> None:
    models, endpoints = emulator.client(ModelServiceClient), emulator.client(EndpointServiceClient)
    uri = registry.put(emulator, project, "bad", {"model.joblib": b"no model"})
    model = registry.upload(models, parent, registry.described(uri)).name
    endpoint = registry.new_endpoint(endpoints, parent)
    with pytest.raises(FailedPrecondition, match="never became ready"):
        registry.deploy(endpoints, endpoint, model, {"0": 100})
    assert "Failed to load model" in printed(emulator, project, endpoint, "ERROR")
