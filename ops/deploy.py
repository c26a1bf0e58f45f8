"""Put model versions on an endpoint so that it never stops serving.

The new version is deployed beside the old one without traffic, the traffic moves when it answers, and only then is
the old one taken off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops import worlds
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.errors import OpsError, ResourceNotFound
from ops.progress import Report

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import DeployedModel, Endpoint

DEPLOY_SECONDS = 1800
"""Vertex AI's own limit for a deployment"""
UNDEPLOY_SECONDS = 600


@dataclass(frozen=True)
class Wanted:
    """One version that an endpoint shall serve."""

    model: str
    """projects/P/locations/L/models/M"""
    version_id: str
    machine_type: str
    min_replica_count: int
    max_replica_count: int
    traffic_percentage: int
    accelerator_type: str = ""
    """empty: none"""
    accelerator_count: int = 0
    service_account: str = ""
    """empty: Vertex AI's own"""

    @property
    def machine_spec(self) -> dict[str, Any]:
        """As the API takes it."""
        spec: dict[str, Any] = {"machine_type": self.machine_type}
        if self.accelerator_type:
            spec |= {"accelerator_type": self.accelerator_type, "accelerator_count": self.accelerator_count}
        return spec

    def is_served_by(self, deployed: DeployedModel) -> bool:
        """Whether a deployed model is this version on such a machine: neither can be had but by deploying anew."""
        here = (model_id(deployed), deployed.model_version_id, *machine_of(deployed))
        return here == (
            self.model.rsplit("/", 1)[-1], self.version_id,
            self.machine_type, self.accelerator_type, self.accelerator_count, self.service_account,
        )  # fmt: skip


def machine_of(deployed: DeployedModel) -> tuple[str, str, int, str]:
    """Machine type, accelerator's type (empty for none) and count, and service account of what is deployed."""
    spec = deployed.dedicated_resources.machine_spec
    accelerator_type = spec.accelerator_type.name if spec.accelerator_count else ""
    return spec.machine_type, accelerator_type, spec.accelerator_count, deployed.service_account


def converge(
    clients: Clients, name: str, described: Mapping[str, Any], wanted: Sequence[Wanted], report: Report
) -> Endpoint:
    """The endpoint, once it serves exactly what is wanted.

    described: display_name, description and labels; labels of others are kept.
    """
    endpoint = _described(clients, name, described, report)
    chosen: dict[str, Wanted] = {}
    for version in wanted:
        deployed = next((d for d in endpoint.deployed_models if d.id not in chosen and version.is_served_by(d)), None)
        if deployed is None:
            deployed = _deploy(clients, endpoint, version, report)
        else:
            _scale(clients, endpoint, deployed, version, report)
        chosen[deployed.id] = version
    split = {deployed_id: v.traffic_percentage for deployed_id, v in chosen.items() if v.traffic_percentage}
    endpoint = get_endpoint(clients, name)
    if {d: share for d, share in endpoint.traffic_split.items() if share} != split:
        with report.step("traffic") as step:
            request = {"endpoint": {"name": name, "traffic_split": split}, "update_mask": {"paths": ["traffic_split"]}}
            endpoint = clients.endpoints.update_endpoint(request, timeout=TIMEOUT_SECONDS)
            step.outcome = ", ".join(f"{share} % to version {chosen[d].version_id}" for d, share in split.items())
    for deployed in endpoint.deployed_models:
        if deployed.id not in chosen:
            _undeploy(clients, name, deployed, report)
    return get_endpoint(clients, name)


def get_endpoint(clients: Clients, name: str) -> Endpoint:
    """Raises ResourceNotFound when there is none."""
    from google.api_core.exceptions import NotFound

    try:
        return clients.endpoints.get_endpoint(name=name, timeout=TIMEOUT_SECONDS)
    except NotFound:
        raise ResourceNotFound(f"{name} does not exist; make it with: inv deploy") from None


def delete_endpoint(clients: Clients, name: str, report: Report) -> None:
    """Take everything off an endpoint and delete it."""
    endpoint = get_endpoint(clients, name)
    if endpoint.traffic_split:
        # With an empty split every deployed model may go, in any order.
        request = {"endpoint": {"name": name, "traffic_split": {}}, "update_mask": {"paths": ["traffic_split"]}}
        clients.endpoints.update_endpoint(request, timeout=TIMEOUT_SECONDS)
    for deployed in endpoint.deployed_models:
        _undeploy(clients, name, deployed, report)
    clients.endpoints.delete_endpoint(name=name, timeout=TIMEOUT_SECONDS).result(timeout=UNDEPLOY_SECONDS)


def model_id(deployed: DeployedModel) -> str:
    """Last part of the deployed model's name, without its version."""
    return deployed.model.rsplit("/", 1)[-1].split("@")[0]


def _described(clients: Clients, name: str, described: Mapping[str, Any], report: Report) -> Endpoint:
    """The endpoint, made when it is missing, with the fields that describe it."""
    try:
        endpoint = get_endpoint(clients, name)
    except ResourceNotFound:
        parent, endpoint_id = name.rsplit("/endpoints/", 1)
        with report.step("endpoint") as step:
            request = {"parent": parent, "endpoint_id": endpoint_id, "endpoint": dict(described)}
            operation = clients.endpoints.create_endpoint(request, timeout=TIMEOUT_SECONDS)
            operation.result(timeout=UNDEPLOY_SECONDS)
            step.outcome = name
        return get_endpoint(clients, name)
    wanted = {**described, "labels": {**endpoint.labels, **described["labels"]}}
    fields = sorted(field for field, value in wanted.items() if _plain(getattr(endpoint, field)) != value)
    if not fields:
        return endpoint
    update = {"name": name, **{field: wanted[field] for field in fields}}
    return clients.endpoints.update_endpoint(
        {"endpoint": update, "update_mask": {"paths": fields}}, timeout=TIMEOUT_SECONDS
    )


def _deploy(clients: Clients, endpoint: Endpoint, version: Wanted, report: Report) -> DeployedModel:
    with report.step(f"deployment of {version.model.rsplit('/', 1)[-1]} version {version.version_id}") as step:
        request = {
            "endpoint": endpoint.name,
            "deployed_model": {
                "model": f"{version.model}@{version.version_id}",
                "dedicated_resources": {
                    "machine_spec": version.machine_spec,
                    "min_replica_count": version.min_replica_count,
                    "max_replica_count": version.max_replica_count,
                },
                "service_account": version.service_account,
            },
            # No traffic_split: the endpoint's stays, and the newcomer gets none yet.
        }
        operation = clients.endpoints.deploy_model(request, timeout=TIMEOUT_SECONDS)
        try:
            response = operation.result(timeout=DEPLOY_SECONDS)
        except KeyboardInterrupt:
            look = worlds.shell_command(f"gcloud ai operations describe {operation.operation.name}")
            raise OpsError(f"stopped waiting; the deployment goes on: {look}") from None
        deployed: DeployedModel = response.deployed_model
        step.outcome = f"deployed model {deployed.id}"
    return deployed


def _scale(clients: Clients, endpoint: Endpoint, deployed: DeployedModel, version: Wanted, report: Report) -> None:
    """Give a deployed model the number of replicas that is wanted."""
    resources = deployed.dedicated_resources
    counts = {"min_replica_count": version.min_replica_count, "max_replica_count": version.max_replica_count}
    fields = [field for field, count in counts.items() if getattr(resources, field) != count]
    if not fields:
        return
    with report.step(f"replicas of deployed model {deployed.id}") as step:
        request = {
            "endpoint": endpoint.name,
            "deployed_model": {"id": deployed.id, "dedicated_resources": counts},
            "update_mask": {"paths": [f"dedicated_resources.{field}" for field in fields]},
        }
        operation = clients.endpoints.mutate_deployed_model(request, timeout=TIMEOUT_SECONDS)
        operation.result(timeout=DEPLOY_SECONDS)
        step.outcome = f"{version.min_replica_count} to {version.max_replica_count}"


def _undeploy(clients: Clients, name: str, deployed: DeployedModel, report: Report) -> None:
    with report.step(f"undeployment of {model_id(deployed)} version {deployed.model_version_id}"):
        request = {"endpoint": name, "deployed_model_id": deployed.id}
        operation = clients.endpoints.undeploy_model(request, timeout=TIMEOUT_SECONDS)
        operation.result(timeout=UNDEPLOY_SECONDS)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value
