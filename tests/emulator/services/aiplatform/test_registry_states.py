"""Models, versions and endpoints in each state, times each verb, over both transports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, GoogleAPICallError, NotFound
from google.cloud.aiplatform_v1 import (
    Endpoint,
    EndpointServiceClient,
    Model,
    ModelServiceClient,
    PredictionServiceClient,
)
from google.longrunning import operations_pb2

from tests.conftest import Emulator, wait_until
from tests.emulator.services.aiplatform import registry
from tests.emulator.services.aiplatform.registry import SECONDS, deploy, described, new_endpoint, upload

#: For what would take long, and is the same over either.
one_transport = pytest.mark.parametrize("services", ["grpc"], indirect=True)


@dataclass
class Services:
    models: ModelServiceClient
    endpoints: EndpointServiceClient
    predictions: PredictionServiceClient


@pytest.fixture(params=["grpc", "rest"])
def services(emulator: Emulator, request: pytest.FixtureRequest) -> Services:
    clients: Any = [
        emulator.client(client, transport=request.param)
        for client in (ModelServiceClient, EndpointServiceClient, PredictionServiceClient)
    ]
    return Services(*clients)


@pytest.fixture
def model(emulator: Emulator, services: Services, project: str, parent: str) -> str:
    """The name of a model that can be deployed."""
    uri = registry.put_model(emulator, project, registry.constant(1))
    return upload(services.models, parent, described(uri)).name


def test_verbs_on_a_deleted_model_find_nothing(services: Services, parent: str, model: str) -> None:
    endpoint = new_endpoint(services.endpoints, parent)
    models = services.models
    models.delete_model(name=model).result(timeout=SECONDS)
    verbs: list[Callable[[], object]] = [
        lambda: models.get_model(name=model),
        lambda: models.list_model_versions(name=model),
        lambda: models.update_model(model=Model(name=model, display_name="x"), update_mask={"paths": ["display_name"]}),  # type: ignore[arg-type]
        lambda: models.merge_version_aliases(name=f"{model}@1", version_aliases=["live"]),
        lambda: models.delete_model_version(name=f"{model}@1"),
        lambda: models.delete_model(name=model),
        lambda: models.copy_model(parent=parent, source_model=model),
        lambda: models.export_model(name=model, output_config={}),  # type: ignore[arg-type]
        lambda: models.list_model_evaluations(parent=model),
        lambda: models.list_model_version_checkpoints(name=model),
        lambda: upload(models, parent, parent_model=model),
        lambda: deploy(services.endpoints, endpoint, model, {"0": 100}),
    ]
    for verb in verbs:
        with pytest.raises(NotFound, match=r"The Model `projects/\d+/locations/us-central1/models/\d+` does not exist"):
            verb()
    assert not services.endpoints.get_endpoint(name=endpoint).deployed_models


def test_verbs_on_a_deployed_version_and_on_its_endpoint(
    emulator: Emulator, services: Services, project: str, parent: str, model: str
) -> None:
    models, endpoints = services.models, services.endpoints
    endpoint = new_endpoint(endpoints, parent)
    first = deploy(endpoints, endpoint, f"{model}@1", {"0": 100})
    # Another version takes over as the default one; the deployed one stays what it is.
    uri = registry.put_model(emulator, project, registry.constant(2), "second")
    upload(models, parent, described(uri, version_aliases=["default"]), parent_model=model)
    for delete, name in ((models.delete_model_version, f"{model}@1"), (models.delete_model, model)):
        with pytest.raises(BadRequest, match=f"is deployed or being deployed .*{endpoint}. Please undeploy the model"):
            delete(name=name)
    assert models.merge_version_aliases(name=f"{model}@1", version_aliases=["old"]).version_aliases == ["old"]
    with pytest.raises(BadRequest, match=rf"Endpoint has deployed or being-deployed DeployedModel\(s\): {first}"):
        endpoints.delete_endpoint(name=endpoint)
    for split, says in (
        ({first: 99}, "must sum to 100; it sums to 99"),
        ({first: 101}, "from 0 to 100"),
        ({first: 150, "5": -50}, "not there: 5"),
        ({"5": 100}, "not there: 5"),
    ):
        with pytest.raises(BadRequest, match=says):
            endpoints.update_endpoint(
                endpoint=Endpoint(name=endpoint, traffic_split=split),
                update_mask={"paths": ["traffic_split"]},  # type: ignore[arg-type]
            )
    assert dict(endpoints.get_endpoint(name=endpoint).traffic_split) == {first: 100}

    endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=first).result(timeout=SECONDS)
    for identifier in (first, "5"):
        with pytest.raises(NotFound, match=f"The DeployedModel '{identifier}' does not exist"):
            endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=identifier)
        with pytest.raises(NotFound, match=f"The DeployedModel '{identifier}' does not exist"):
            endpoints.mutate_deployed_model(
                endpoint=endpoint,
                deployed_model={"id": identifier},  # type: ignore[arg-type]
                update_mask={"paths": ["disable_container_logging"]},  # type: ignore[arg-type]
            )
    with pytest.raises(BadRequest, match="no deployed model that takes traffic"):
        services.predictions.predict(endpoint=endpoint, instances=[[0, 0]])  # type: ignore[list-item]
    models.delete_model_version(name=f"{model}@1").result(timeout=SECONDS)

    endpoints.delete_endpoint(name=endpoint).result(timeout=SECONDS)
    gone: list[Callable[[], object]] = [
        lambda: endpoints.get_endpoint(name=endpoint),
        lambda: endpoints.delete_endpoint(name=endpoint),
        lambda: endpoints.update_endpoint(endpoint=Endpoint(name=endpoint), update_mask={"paths": ["labels"]}),  # type: ignore[arg-type]
        lambda: endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=first),
        lambda: deploy(endpoints, endpoint, model, {"0": 100}),
        lambda: services.predictions.predict(endpoint=endpoint, instances=[[0, 0]]),  # type: ignore[list-item]
    ]
    for verb in gone:
        with pytest.raises(NotFound, match=r"Endpoint `projects/\d+/locations/us-central1/endpoints/\d+`"):
            verb()


def test_a_model_that_is_being_deployed_is_not_deleted(services: Services, parent: str, model: str) -> None:
    upload(services.models, parent, parent_model=model, model=Model(display_name="m", version_aliases=["default"]))
    endpoint = new_endpoint(services.endpoints, parent)
    operation = services.endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model={"model": f"{model}@1", "dedicated_resources": {"machine_spec": {}}},  # type: ignore[arg-type]
        traffic_split={"0": 100},
    )
    assert not operation.operation.done
    for delete, name in (
        (services.models.delete_model_version, f"{model}@1"),
        (services.models.delete_model, model),
    ):
        with pytest.raises(BadRequest, match=f"is deployed or being deployed .*{endpoint}"):
            delete(name=name)
    # By the client's own method: that of the operation fails in the client over REST.
    services.endpoints.cancel_operation(operations_pb2.CancelOperationRequest(name=operation.operation.name))
    wait_until(operation.done)
    # Nothing came of it, so nothing holds the model.
    services.models.delete_model(name=model).result(timeout=SECONDS)


@one_transport
def test_two_deploys_at_once_leave_one(services: Services, parent: str, model: str) -> None:
    endpoint = new_endpoint(services.endpoints, parent)
    together = threading.Barrier(2)

    def start(_: int) -> str:
        together.wait(SECONDS)
        try:
            return deploy(services.endpoints, endpoint, model, {"0": 100})
        except GoogleAPICallError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(start, range(2)))
    stored = services.endpoints.get_endpoint(name=endpoint)
    (deployed,) = stored.deployed_models
    assert deployed.id in outcomes
    assert [outcome for outcome in outcomes if "There are other operations running on the Endpoint" in outcome]
    assert dict(stored.traffic_split) == {deployed.id: 100}


@one_transport
def test_uploads_and_deletes_of_one_id_at_once_keep_files_and_rows_together(
    emulator: Emulator, services: Services, project: str, parent: str
) -> None:
    """Whoever comes first, a version that is there has its own files."""
    uri = registry.put(emulator, project, "files", {"weights.txt": b"1"})
    name = f"{parent}/models/contested"

    def turn(number: int) -> None:
        try:
            if number % 2:
                services.models.delete_model(name=name)
            else:
                upload(services.models, parent, described(uri, image=""), model_id="contested")
        except GoogleAPICallError as error:
            assert error.code in (404, 409), error  # noqa: PT017  # a loser's answer

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(24)))
    turn(0)
    stored = services.models.get_model(name=name)
    _, number, _, location, _, identifier = stored.name.split("/")
    folder = emulator.state / "models" / number / location / identifier / stored.version_id
    assert (folder / "weights.txt").read_bytes() == b"1"


@one_transport
def test_an_artifact_that_changes_after_the_upload_changes_no_version(
    emulator: Emulator, services: Services, project: str, parent: str, model: str
) -> None:
    endpoint = new_endpoint(services.endpoints, parent)
    registry.put(emulator, project, "model", {"model.joblib": b"no model at all", "model.pkl": b"one too many"})
    deploy(services.endpoints, endpoint, model, {"0": 100})
    answer = services.predictions.predict(endpoint=endpoint, instances=[[0, 0]])  # type: ignore[list-item]
    assert list(answer.predictions) == [1.0]
    # The next upload sees the folder as it is.
    with pytest.raises(BadRequest, match="expected to contain exactly one of"):
        upload(services.models, parent, described(f"gs://{project}-models/model"), parent_model=model)
    assert [version.version_id for version in services.models.list_model_versions(name=model)] == ["1"]
