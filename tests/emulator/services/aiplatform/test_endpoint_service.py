"""EndpointService through the official client. Deployments run real model servers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, FailedPrecondition, NotFound
from google.cloud.aiplatform_v1 import (
    DeploymentStage,
    DeployModelOperationMetadata,
    Endpoint,
    EndpointServiceClient,
    ModelServiceClient,
    PredictionServiceClient,
)

from tests.conftest import Emulator, wait_until
from tests.emulator.services.aiplatform import registry
from tests.emulator.services.aiplatform.registry import SECONDS, constant, deploy, described, new_endpoint, upload


@pytest.fixture(params=["grpc", "rest"])
def endpoints(emulator: Emulator, request: pytest.FixtureRequest) -> EndpointServiceClient:
    return emulator.client(EndpointServiceClient, transport=request.param)


@pytest.fixture
def grpc_endpoints(emulator: Emulator) -> EndpointServiceClient:
    return emulator.client(EndpointServiceClient)


@pytest.fixture
def models(emulator: Emulator) -> ModelServiceClient:
    return emulator.client(ModelServiceClient)


@pytest.fixture
def model(emulator: Emulator, models: ModelServiceClient, project: str, parent: str) -> str:
    """Name of a registered model that can be deployed."""
    return upload(models, parent, described(registry.put_model(emulator, project, constant(1)))).name


def resources(**counts: int) -> dict[str, Any]:
    return {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1, **counts}


def test_create_endpoint_shows_no_deployments(endpoints: EndpointServiceClient, parent: str) -> None:
    name = new_endpoint(endpoints, parent, description="of trips", labels={"team": "taxi"})
    endpoint = endpoints.get_endpoint(name=name)
    assert re.fullmatch(r"projects/\d+/locations/us-central1/endpoints/\d{15,19}", name)
    assert (endpoint.description, dict(endpoint.labels)) == ("of trips", {"team": "taxi"})
    assert not endpoint.deployed_models
    assert not endpoint.traffic_split
    assert endpoint.etag
    assert endpoint.create_time


def test_create_endpoint_takes_the_id_that_is_given_once(endpoints: EndpointServiceClient, parent: str) -> None:
    def create() -> str:
        operation = endpoints.create_endpoint(
            request={"parent": parent, "endpoint": {"display_name": "e"}, "endpoint_id": "tips-1"}
        )
        assert "/endpoints/tips-1/operations/" in operation.operation.name
        return str(operation.result(timeout=SECONDS).name)

    assert create().endswith("/endpoints/tips-1")
    with pytest.raises(Conflict, match="endpoints/tips-1` already exists"):
        create()


@pytest.mark.parametrize("endpoint_id", ["Upper", "ends-", "0123", "12345678901", "a" * 64])
def test_create_endpoint_refuses_an_id_of_another_form(
    endpoints: EndpointServiceClient, parent: str, endpoint_id: str
) -> None:
    with pytest.raises(BadRequest, match="endpoint_id"):
        endpoints.create_endpoint(
            request={"parent": parent, "endpoint": {"display_name": "e"}, "endpoint_id": endpoint_id}
        )


def test_create_endpoint_ignores_a_deployed_model_and_refuses_a_split(
    endpoints: EndpointServiceClient, parent: str
) -> None:
    assert not endpoints.get_endpoint(
        name=new_endpoint(endpoints, parent, deployed_models=[{"id": "1"}])
    ).deployed_models
    with pytest.raises(BadRequest, match="not there: 1"):
        new_endpoint(endpoints, parent, traffic_split={"1": 100})


def test_get_endpoint_of_an_unknown_name_is_not_found(endpoints: EndpointServiceClient, parent: str) -> None:
    with pytest.raises(NotFound, match=r"The Endpoint `projects/\d+/locations/us-central1/endpoints/404`"):
        endpoints.get_endpoint(name=f"{parent}/endpoints/404")


def test_list_endpoints_filters_and_orders(endpoints: EndpointServiceClient, parent: str) -> None:
    names = {name: new_endpoint(endpoints, parent, display_name=name, labels={"is": name}) for name in ("b", "a", "c")}

    def listed(**request: Any) -> list[str]:
        return [e.display_name for e in endpoints.list_endpoints(request={"parent": parent, **request})]

    assert listed() == ["c", "a", "b"]
    assert listed(order_by="display_name", page_size=2) == ["a", "b", "c"]
    assert listed(filter="labels.is=a") == ["a"]
    assert listed(filter=f"endpoint={names['b'].rpartition('/')[2]}") == ["b"]


def test_update_endpoint_changes_what_the_mask_names(endpoints: EndpointServiceClient, parent: str) -> None:
    name = new_endpoint(endpoints, parent, description="kept")
    given = Endpoint(name=name, display_name="new", labels={"a": "b"})
    updated = endpoints.update_endpoint(endpoint=given, update_mask={"paths": ["display_name", "labels"]})  # type: ignore[arg-type]
    assert (updated.display_name, updated.description, dict(updated.labels)) == ("new", "kept", {"a": "b"})
    with pytest.raises(BadRequest):
        endpoints.update_endpoint(endpoint=given, update_mask={"paths": ["network"]})  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="not there"):
        endpoints.update_endpoint(
            endpoint=Endpoint(name=name, traffic_split={"5": 100}),
            update_mask={"paths": ["traffic_split"]},  # type: ignore[arg-type]
        )


def test_update_endpoint_long_running_changes_the_timeout(endpoints: EndpointServiceClient, parent: str) -> None:
    name = new_endpoint(endpoints, parent)
    given = {"name": name, "display_name": "an endpoint", "client_connection_config": {"inference_timeout": "90s"}}
    operation = endpoints.update_endpoint_long_running(
        endpoint=given  # type: ignore[arg-type]
    )
    assert operation.result(timeout=SECONDS).client_connection_config.inference_timeout.seconds == 90


def test_delete_endpoint_is_done_at_once(endpoints: EndpointServiceClient, parent: str) -> None:
    name = new_endpoint(endpoints, parent)
    operation = endpoints.delete_endpoint(name=name)
    assert re.fullmatch(r"projects/\d+/locations/us-central1/operations/\d+", operation.operation.name)
    assert operation.operation.done
    with pytest.raises(NotFound):
        endpoints.delete_endpoint(name=name)


def test_deploy_model_serves_and_undeploy_ends_it(
    emulator: Emulator, endpoints: EndpointServiceClient, models: ModelServiceClient, parent: str, model: str
) -> None:
    endpoint = new_endpoint(endpoints, parent)
    operation = endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model={"model": model, "dedicated_resources": {"machine_spec": {}}},  # type: ignore[arg-type]
        traffic_split={"0": 100},
    )
    deployed = operation.result(timeout=SECONDS).deployed_model
    assert operation.metadata.deployment_stage == DeploymentStage.SUCCESSFULLY_DEPLOYED
    assert (deployed.model, deployed.model_version_id, deployed.display_name) == (model, "1", "a model")
    assert deployed.dedicated_resources.machine_spec.machine_type == "n1-standard-2"
    assert (deployed.dedicated_resources.min_replica_count, deployed.dedicated_resources.max_replica_count) == (1, 1)
    stored = endpoints.get_endpoint(name=endpoint)
    assert [one.id for one in stored.deployed_models] == [deployed.id]
    assert dict(stored.traffic_split) == {deployed.id: 100}
    references = [(one.endpoint, one.deployed_model_id) for one in models.get_model(name=model).deployed_models]
    assert references == [(endpoint, deployed.id)]
    with pytest.raises(FailedPrecondition, match="is deployed or being deployed at the following Endpoint"):
        models.delete_model(name=model)
    with pytest.raises(BadRequest, match=r"Endpoint has deployed or being-deployed DeployedModel\(s\)"):
        endpoints.delete_endpoint(name=endpoint)

    endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=deployed.id).result(timeout=SECONDS)
    assert not endpoints.get_endpoint(name=endpoint).deployed_models
    assert not models.get_model(name=model).deployed_models
    endpoints.delete_endpoint(name=endpoint)
    models.delete_model(name=model)


def test_deploy_model_takes_a_version_by_alias(
    grpc_endpoints: EndpointServiceClient, models: ModelServiceClient, parent: str, model: str
) -> None:
    models.merge_version_aliases(name=f"{model}@1", version_aliases=["live"])
    endpoint = new_endpoint(grpc_endpoints, parent)
    deploy(grpc_endpoints, endpoint, f"{model}@live", {"0": 100}, id="77", display_name="mine")
    (deployed,) = grpc_endpoints.get_endpoint(name=endpoint).deployed_models
    assert (deployed.id, deployed.display_name, deployed.model_version_id) == ("77", "mine", "1")
    with pytest.raises(BadRequest, match="in use"):
        deploy(grpc_endpoints, endpoint, model, {}, id="77")


@pytest.mark.parametrize(
    ("fields", "split", "says"),
    [
        ({"dedicated_resources": resources()}, {"0": 90}, "sum to 100"),
        ({"dedicated_resources": resources()}, {"0": 50, "9": 50}, "not there: 9"),
        ({"dedicated_resources": {"machine_spec": {"machine_type": "abacus-1"}}}, {"0": 100}, "is not supported"),
        ({"dedicated_resources": resources(min_replica_count=2, max_replica_count=1)}, {"0": 100}, "max_replica_count"),
        ({"automatic_resources": {"min_replica_count": 1}}, {"0": 100}, "'automatic_resources' is not supported for"),
        ({}, {"0": 100}, "dedicated_resources"),
        ({"dedicated_resources": resources(), "id": "x"}, {"0": 100}, "id"),
    ],
)
def test_deploy_model_refuses(  # noqa: PLR0917  # fixtures
    endpoints: EndpointServiceClient,
    parent: str,
    model: str,
    fields: dict[str, Any],
    split: dict[str, int],
    says: str,
) -> None:
    endpoint = new_endpoint(endpoints, parent)
    with pytest.raises(BadRequest, match=says):
        endpoints.deploy_model(endpoint=endpoint, deployed_model={"model": model, **fields}, traffic_split=split)  # type: ignore[arg-type]


def test_deploy_model_of_an_unknown_model_or_endpoint_is_not_found(
    endpoints: EndpointServiceClient, parent: str, model: str
) -> None:
    with pytest.raises(NotFound, match="models/404"):
        deploy(endpoints, new_endpoint(endpoints, parent), f"{parent}/models/404", {"0": 100})
    with pytest.raises(NotFound, match="endpoints/404"):
        deploy(endpoints, f"{parent}/endpoints/404", model, {"0": 100})


def test_deploy_model_without_a_container_is_refused(
    endpoints: EndpointServiceClient, models: ModelServiceClient, parent: str
) -> None:
    name = upload(models, parent).name
    with pytest.raises(BadRequest, match="container_spec"):
        deploy(endpoints, new_endpoint(endpoints, parent), name, {"0": 100})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"this is no model", "Could not load the model"),
        (registry.dumped({"no": "model"}), "has no method predict"),
        (registry.dumped(registry.Exits()), "exit_code: 7"),
    ],
    ids=["no pickle", "no model", "exits"],
)
def test_deploy_model_that_cannot_be_loaded_fails_and_leaves_nothing(  # noqa: PLR0917  # fixtures
    emulator: Emulator,
    grpc_endpoints: EndpointServiceClient,
    models: ModelServiceClient,
    project: str,
    parent: str,
    content: bytes,
    says: str,
) -> None:
    name = upload(models, parent, described(registry.put(emulator, project, "bad", {"model.joblib": content}))).name
    endpoint = new_endpoint(grpc_endpoints, parent)
    operation = grpc_endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model={"model": name, "dedicated_resources": resources()},  # type: ignore[arg-type]
        traffic_split={"0": 100},
    )
    with pytest.raises(FailedPrecondition, match="Model server never became ready") as raised:
        operation.result(timeout=SECONDS)
    assert says in raised.value.message
    assert "Model server logs can be found at https://console.cloud.google.com/logs/" in raised.value.message
    metadata = operation.metadata
    assert isinstance(metadata, DeployModelOperationMetadata)
    assert metadata.deployment_stage == DeploymentStage.FAILED_TO_DEPLOY
    assert not grpc_endpoints.get_endpoint(name=endpoint).deployed_models
    assert not models.get_model(name=name).deployed_models
    grpc_endpoints.delete_endpoint(name=endpoint)


def test_deploy_model_of_an_image_that_nothing_stands_in_for_fails(
    emulator: Emulator, grpc_endpoints: EndpointServiceClient, models: ModelServiceClient, project: str, parent: str
) -> None:
    uri = registry.put(emulator, project, "custom", {"weights": b""})
    name = upload(models, parent, described(uri, image="us-docker.pkg.dev/mine/images/server:1")).name
    with pytest.raises(FailedPrecondition, match=r"us-docker\.pkg\.dev/mine/images/server:1"):
        deploy(grpc_endpoints, new_endpoint(grpc_endpoints, parent), name, {"0": 100})


def test_one_operation_at_a_time_on_an_endpoint(grpc_endpoints: EndpointServiceClient, parent: str, model: str) -> None:
    endpoint = new_endpoint(grpc_endpoints, parent)
    deployed_model: Any = {"model": model, "dedicated_resources": resources()}
    first = grpc_endpoints.deploy_model(endpoint=endpoint, deployed_model=deployed_model, traffic_split={"0": 100})
    with pytest.raises(FailedPrecondition, match="There are other operations running on the Endpoint") as raised:
        grpc_endpoints.deploy_model(endpoint=endpoint, deployed_model=deployed_model, traffic_split={"0": 100})
    assert first.operation.name in raised.value.message
    with pytest.raises(FailedPrecondition, match="other operations running"):
        grpc_endpoints.delete_endpoint(name=endpoint)
    first.result(timeout=SECONDS)


def test_deploy_model_can_be_cancelled(grpc_endpoints: EndpointServiceClient, parent: str, model: str) -> None:
    endpoint = new_endpoint(grpc_endpoints, parent)
    operation = grpc_endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model={"model": model, "dedicated_resources": resources()},  # type: ignore[arg-type]
        traffic_split={"0": 100},
    )
    operation.cancel()
    wait_until(operation.done)
    assert operation.operation.error.code == 1
    assert not grpc_endpoints.get_endpoint(name=endpoint).deployed_models


def test_undeploy_model_with_traffic_needs_a_split(
    emulator: Emulator, grpc_endpoints: EndpointServiceClient, parent: str, model: str
) -> None:
    endpoint = new_endpoint(grpc_endpoints, parent)
    first = deploy(grpc_endpoints, endpoint, model, {"0": 100})
    second = deploy(grpc_endpoints, endpoint, model, {"0": 40, first: 60})
    with pytest.raises(FailedPrecondition, match="has 40% of the traffic"):
        grpc_endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=second)
    with pytest.raises(NotFound, match="404"):
        grpc_endpoints.undeploy_model(endpoint=endpoint, deployed_model_id="404")
    grpc_endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=second, traffic_split={first: 100}).result(
        timeout=SECONDS
    )
    assert dict(grpc_endpoints.get_endpoint(name=endpoint).traffic_split) == {first: 100}
    answer = emulator.client(PredictionServiceClient).predict(endpoint=endpoint, instances=[[0, 0]])  # type: ignore[list-item]
    assert answer.deployed_model_id == first


def test_mutate_deployed_model_changes_replica_counts(
    endpoints: EndpointServiceClient, parent: str, model: str
) -> None:
    endpoint = new_endpoint(endpoints, parent)
    identifier = deploy(endpoints, endpoint, model, {"0": 100})
    changed: Any = {"id": identifier, "dedicated_resources": {"min_replica_count": 2, "max_replica_count": 3}}
    paths = ["dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count"]
    operation = endpoints.mutate_deployed_model(
        endpoint=endpoint,
        deployed_model=changed,
        update_mask={"paths": paths},  # type: ignore[arg-type]
    )
    after = operation.result(timeout=SECONDS).deployed_model.dedicated_resources
    assert (after.min_replica_count, after.max_replica_count) == (2, 3)
    assert after.machine_spec.machine_type == "n1-standard-2"
    (stored,) = endpoints.get_endpoint(name=endpoint).deployed_models
    assert stored.dedicated_resources == after
    for mask in (["display_name"], ["dedicated_resources.machine_spec"]):
        with pytest.raises(BadRequest, match="cannot be changed"):
            endpoints.mutate_deployed_model(endpoint=endpoint, deployed_model=changed, update_mask={"paths": mask})  # type: ignore[arg-type]
