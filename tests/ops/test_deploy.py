"""A deployment never leaves an endpoint without a version that serves."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.api_core.exceptions import FailedPrecondition, NotFound
from google.cloud.aiplatform_v1 import DeployedModel, DeployModelResponse, Endpoint
from rich.console import Console

from ops.clients import Clients
from ops.deploy import Wanted, converge, delete_endpoint
from ops.progress import Report

NAME = "projects/p/locations/us-central1/endpoints/e"
MODEL = "projects/p/locations/us-central1/models/m"
NUMBERED_MODEL = "projects/123/locations/us-central1/models/m"
DESCRIBED = {"display_name": "e", "description": "", "labels": {"team": "a"}}


class FakeEndpoints:
    """The calls of EndpointServiceClient that a deployment makes, on one endpoint in memory, with Google's rules.

    `served` notes after each call which versions have traffic.
    """

    def __init__(self, endpoint: Endpoint | None = None, broken_version: str = "") -> None:
        self.endpoint = endpoint
        self.broken_version = broken_version
        self.calls: list[str] = []
        self.served: list[dict[str, int]] = []
        self._ids = iter(range(100, 200))

    def get_endpoint(self, name: str, timeout: float) -> Endpoint:
        if self.endpoint is None:
            raise NotFound(name)
        return Endpoint(self.endpoint)

    def create_endpoint(self, request: Mapping[str, Any], timeout: float) -> Any:
        self.endpoint = Endpoint(name=f"{request['parent']}/endpoints/{request['endpoint_id']}", **request["endpoint"])
        return self._done("create_endpoint", self.endpoint)

    def update_endpoint(self, request: Mapping[str, Any], timeout: float) -> Endpoint:
        held = self._held
        for path in request["update_mask"]["paths"]:
            setattr(held, path, request["endpoint"][path])
        shares = dict(held.traffic_split)
        assert not shares or sum(shares.values()) == 100
        assert set(shares) <= {deployed.id for deployed in held.deployed_models}
        self._done("update_endpoint", None)
        return Endpoint(held)

    def deploy_model(self, request: Mapping[str, Any], timeout: float) -> Any:
        assert not request.get("traffic_split")
        name, version = request["deployed_model"]["model"].split("@")
        if version == self.broken_version:
            error = FailedPrecondition("Model server never became ready.")
            return SimpleNamespace(result=lambda timeout: (_ for _ in ()).throw(error))
        deployed = DeployedModel(request["deployed_model"])
        deployed.id, deployed.model, deployed.model_version_id = str(next(self._ids)), name, version
        self._held.deployed_models.append(deployed)
        return self._done("deploy_model", DeployModelResponse(deployed_model=deployed))

    def mutate_deployed_model(self, request: Mapping[str, Any], timeout: float) -> Any:
        for deployed in self._held.deployed_models:
            if deployed.id == request["deployed_model"]["id"]:
                for field, count in request["deployed_model"]["dedicated_resources"].items():
                    setattr(deployed.dedicated_resources, field, count)
        return self._done("mutate_deployed_model", None)

    def undeploy_model(self, request: Mapping[str, Any], timeout: float) -> Any:
        gone = request["deployed_model_id"]
        assert not self._held.traffic_split.get(gone), "a version with traffic was taken off"
        kept = [deployed for deployed in self._held.deployed_models if deployed.id != gone]
        self._held.deployed_models = kept
        return self._done("undeploy_model", None)

    def delete_endpoint(self, name: str, timeout: float) -> Any:
        assert not self._held.deployed_models
        self.endpoint = None
        return self._done("delete_endpoint", None)

    @property
    def _held(self) -> Endpoint:
        assert self.endpoint is not None
        return self.endpoint

    def _done(self, call: str, result: object) -> Any:
        self.calls.append(call)
        if self.endpoint is not None:
            versions = {deployed.id: deployed.model_version_id for deployed in self.endpoint.deployed_models}
            self.served.append({versions[id_]: share for id_, share in self.endpoint.traffic_split.items()})
        return SimpleNamespace(result=lambda timeout: result)


def serving(*versions: str, machine_type: str = "n1-standard-2", replicas: int = 1) -> Endpoint:
    """An endpoint that serves these versions, the first with all the traffic."""
    resources = {
        "machine_spec": {"machine_type": machine_type},
        "min_replica_count": replicas,
        "max_replica_count": replicas,
    }
    models = [
        DeployedModel(id=str(number), model=NUMBERED_MODEL, model_version_id=version, dedicated_resources=resources)
        for number, version in enumerate(versions, start=1)
    ]
    return Endpoint(name=NAME, display_name="e", labels={"team": "a"}, deployed_models=models, traffic_split={"1": 100})


def wanted(version: str, share: int = 100, machine_type: str = "n1-standard-2", replicas: int = 1) -> Wanted:
    return Wanted(MODEL, version, machine_type, replicas, replicas, share)


def converged(fake: FakeEndpoints, *versions: Wanted) -> Endpoint:
    clients = cast(Clients, SimpleNamespace(endpoints=fake))
    return converge(clients, NAME, DESCRIBED, versions, Report(Console(file=io.StringIO())))


def test_converge_makes_the_endpoint_and_gives_the_version_its_traffic() -> None:
    fake = FakeEndpoints()
    endpoint = converged(fake, wanted("1"))
    assert fake.calls == ["create_endpoint", "deploy_model", "update_endpoint"]
    assert [deployed.model_version_id for deployed in endpoint.deployed_models] == ["1"]
    assert list(endpoint.traffic_split.values()) == [100]


def test_converge_moves_the_traffic_before_the_old_version_goes() -> None:
    fake = FakeEndpoints(serving("1"))
    converged(fake, wanted("2"))
    assert fake.calls == ["deploy_model", "update_endpoint", "undeploy_model"]
    assert fake.served == [{"1": 100}, {"2": 100}, {"2": 100}]


def test_converge_of_what_is_served_calls_nothing() -> None:
    fake = FakeEndpoints(serving("1"))
    converged(fake, wanted("1"))
    assert fake.calls == []


def test_converge_twice_changes_nothing_the_second_time() -> None:
    fake = FakeEndpoints(serving("1"))
    converged(fake, wanted("2"))
    before = list(fake.calls)
    converged(fake, wanted("2"))
    assert fake.calls == before


def test_converge_of_a_version_that_does_not_start_leaves_the_old_one() -> None:
    fake = FakeEndpoints(serving("1"), broken_version="2")
    with pytest.raises(FailedPrecondition):
        converged(fake, wanted("2"))
    assert fake.calls == []
    assert fake.endpoint is not None
    assert dict(fake.endpoint.traffic_split) == {"1": 100}


def test_converge_to_another_machine_type_deploys_the_same_version_beside() -> None:
    fake = FakeEndpoints(serving("1"))
    endpoint = converged(fake, wanted("1", machine_type="n1-standard-8"))
    assert fake.calls == ["deploy_model", "update_endpoint", "undeploy_model"]
    assert [d.dedicated_resources.machine_spec.machine_type for d in endpoint.deployed_models] == ["n1-standard-8"]


@pytest.mark.parametrize(
    "change",
    [
        {"accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 1},
        {"service_account": "server@example.iam.gserviceaccount.com"},
    ],
)
def test_converge_to_another_accelerator_or_account_deploys_beside_and_only_once(change: dict[str, Any]) -> None:
    fake = FakeEndpoints(serving("1"))
    version = replace(wanted("1"), **change)
    endpoint = converged(fake, version)
    assert fake.calls == ["deploy_model", "update_endpoint", "undeploy_model"]
    assert version.is_served_by(endpoint.deployed_models[0])
    converged(fake, version)
    assert len(fake.calls) == 3


def test_converge_of_other_replica_counts_scales_in_place() -> None:
    fake = FakeEndpoints(serving("1"))
    endpoint = converged(fake, wanted("1", replicas=3))
    assert fake.calls == ["mutate_deployed_model"]
    assert endpoint.deployed_models[0].dedicated_resources.max_replica_count == 3


def test_converge_splits_the_traffic_between_two_versions() -> None:
    fake = FakeEndpoints(serving("1"))
    converged(fake, wanted("1", 90), wanted("2", 10))
    assert fake.calls == ["deploy_model", "update_endpoint"]
    assert fake.served[-1] == {"1": 90, "2": 10}


def test_converge_takes_off_a_version_that_is_left_over_without_traffic() -> None:
    fake = FakeEndpoints(serving("1", "2"))
    endpoint = converged(fake, wanted("1"))
    assert fake.calls == ["undeploy_model"]
    assert [deployed.model_version_id for deployed in endpoint.deployed_models] == ["1"]


def test_converge_keeps_labels_of_others() -> None:
    held = serving("1")
    held.labels = {"theirs": "x"}
    fake = FakeEndpoints(held)
    assert dict(converged(fake, wanted("1")).labels) == {"theirs": "x", "team": "a"}


def test_delete_endpoint_takes_everything_off_first() -> None:
    fake = FakeEndpoints(serving("1", "2"))
    clients = cast(Clients, SimpleNamespace(endpoints=fake))
    delete_endpoint(clients, NAME, Report(Console(file=io.StringIO())))
    assert fake.calls == ["update_endpoint", "undeploy_model", "undeploy_model", "delete_endpoint"]
