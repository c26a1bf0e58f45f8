"""Traffic splits and resources of deployments."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from selfloop_apis import aiplatform_v1

from emulator.services.aiplatform import endpoint_resources as resources

ENDPOINT = aiplatform_v1.Endpoint(
    name="projects/1/locations/us-central1/endpoints/9",
    deployed_models=[aiplatform_v1.DeployedModel(id="1"), aiplatform_v1.DeployedModel(id="2")],
    traffic_split={"1": 60, "2": 40},
)


@pytest.mark.parametrize(
    ("asked", "split"),
    [
        ({}, {"1": 60, "2": 40}),
        ({"0": 100}, {"3": 100}),
        ({"0": 10, "1": 90}, {"3": 10, "1": 90}),
        ({"0": 0, "1": 100}, {"3": 0, "1": 100}),
    ],
)
def test_new_split_puts_the_new_model_for_zero(asked: dict[str, int], split: dict[str, int]) -> None:
    assert resources.new_split(ENDPOINT, asked, "3") == split


@pytest.mark.parametrize("asked", [{"0": 99}, {"0": 101}, {"0": 50, "7": 50}, {"0": 150, "1": -50}])
def test_new_split_refuses(asked: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        resources.new_split(ENDPOINT, asked, "3")


@pytest.mark.parametrize(
    ("asked", "split"),
    [({"1": 100}, {"1": 100}), ({"1": 100, "2": 0}, {"1": 100})],
)
def test_split_without_a_model_is_what_was_asked_for(asked: dict[str, int], split: dict[str, int]) -> None:
    assert resources.split_without(ENDPOINT, asked, "2") == split


@pytest.mark.parametrize("asked", [{}, {"1": 50, "2": 50}])
def test_split_without_a_model_that_has_traffic_is_refused(asked: dict[str, int]) -> None:
    with pytest.raises(FailedPrecondition, match="of the traffic"):
        resources.split_without(ENDPOINT, asked, "2")


def test_split_without_the_last_model_is_empty() -> None:
    endpoint = aiplatform_v1.Endpoint(deployed_models=[aiplatform_v1.DeployedModel(id="1")], traffic_split={"1": 100})
    assert resources.split_without(endpoint, {}, "1") == {}


def test_dedicated_dns_has_no_scheme() -> None:
    assert resources.dedicated_dns(ENDPOINT.name) == "9.us-central1-1.prediction.vertexai.goog"


def test_mutate_brings_lists_and_counts() -> None:
    deployed = aiplatform_v1.DeployedModel(id="1")
    deployed.dedicated_resources.min_replica_count = deployed.dedicated_resources.max_replica_count = 1
    given = aiplatform_v1.DeployedModel(disable_container_logging=True)
    given.dedicated_resources.max_replica_count = 4
    given.dedicated_resources.autoscaling_metric_specs.add(metric_name="cpu", target=70)
    paths = ["dedicated_resources.max_replica_count", "dedicated_resources.autoscaling_metric_specs"]
    resources.mutate(deployed, given, [*paths, "disable_container_logging"])
    assert deployed.dedicated_resources.min_replica_count == 1
    assert deployed.dedicated_resources.max_replica_count == 4
    assert deployed.dedicated_resources.autoscaling_metric_specs[0].target == 70
    assert deployed.disable_container_logging
    with pytest.raises(InvalidArgument, match="update_mask"):
        resources.mutate(deployed, given, [])
