"""Endpoints as the reconciler sees them: which version answers, on which machines, with which share of the traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ops import deploy, labels
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.config import Endpoint as DeclaredEndpoint
from ops.progress import Report
from ops.reconcile.existing import existing
from ops.reconcile.plan import Action, Change
from ops.reconcile.resource import Reference, Resource

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import DeployedModel, Endpoint


def desired(config: Config) -> Iterator[Resource]:
    for key, endpoint in config.endpoints.items():
        slots: dict[str, object] = {}
        for deployed in endpoint.deployed_models:
            model = config.model_name(deployed.model)
            version = deployed.version
            slots[f"{deployed.model}@{version}"] = {
                "version_id": version if version.isdecimal() else Reference(model, version),
                "machine_type": deployed.machine_type,
                "accelerator_type": deployed.accelerator_type or "",
                "accelerator_count": deployed.accelerator_count,
                "service_account": deployed.service_account or "",
                "min_replica_count": deployed.min_replica_count,
                "max_replica_count": deployed.max_replica_count,
                "traffic_percentage": deployed.traffic_percentage,
            }
        yield Resource(
            "endpoint",
            config.endpoint_name(key),
            {
                "display_name": endpoint.display_name or key,
                "description": endpoint.description,
                "labels": labels.owned(config, endpoint.labels),
                "deployed_models": slots,
                "other_deployed_models": [],
            },
            depends_on=tuple(dict.fromkeys(config.model_name(d.model) for d in endpoint.deployed_models)),
        )


def live(config: Config, clients: Clients, aliases: Mapping[str, Mapping[str, str]]) -> Iterator[Resource]:
    """Declared endpoints that exist, and others that carry this environment's mark.

    aliases: model name -> alias -> version id; says which deployed version stands for which declared one.
    """

    def get(key: str) -> Endpoint:
        return clients.endpoints.get_endpoint(name=config.endpoint_name(key), timeout=TIMEOUT_SECONDS)

    request = {"parent": config.parent, "filter": labels.owner_filter(config)}
    listed = clients.endpoints.list_endpoints(request, timeout=TIMEOUT_SECONDS)
    for endpoint in existing(listed, config.endpoints, get):
        yield _resource(config, endpoint, aliases)


def apply(change: Change, config: Config, clients: Clients, report: Report) -> dict[str, str]:
    """Bring an endpoint to what is declared, without a moment in which nothing serves. It has no outputs."""
    if change.action is Action.DELETE:
        deploy.delete_endpoint(clients, change.name, report)
        return {}
    assert change.desired is not None  # noqa: S101 -- only a deletion has none
    spec: Any = change.desired.spec
    wanted = [
        deploy.Wanted(model=config.model_name(slot.split("@")[0]), **fields)
        for slot, fields in spec["deployed_models"].items()
    ]
    described = {field: spec[field] for field in ("display_name", "description", "labels")}
    deploy.converge(clients, change.name, described, wanted, report)
    return {}


def _resource(config: Config, endpoint: Endpoint, aliases: Mapping[str, Mapping[str, str]]) -> Resource:
    key = endpoint.name.rsplit("/", 1)[-1]
    declared = config.endpoints.get(key)
    slots, others = _matched(config, declared, endpoint, aliases)
    spec = {
        "display_name": endpoint.display_name,
        "description": endpoint.description,
        "labels": dict(endpoint.labels),
        "deployed_models": slots,
        "other_deployed_models": others,
    }
    models = {config.model_name(deploy.model_id(deployed)) for deployed in endpoint.deployed_models}
    return Resource("endpoint", config.endpoint_name(key), spec, depends_on=tuple(sorted(models)))


def _matched(
    config: Config,
    declared: DeclaredEndpoint | None,
    endpoint: Endpoint,
    aliases: Mapping[str, Mapping[str, str]],
) -> tuple[dict[str, object], list[str]]:
    """What stands for each declared deployment, and the ids of deployed models that stand for none.

    First by version; then a deployed model of the same model, the busiest first, is what a declared one replaces.
    """
    split = endpoint.traffic_split
    rest = sorted(endpoint.deployed_models, key=lambda deployed: -split.get(deployed.id, 0))
    slots: dict[str, object] = {}
    waiting = list(declared.deployed_models) if declared else []
    for by_version in (True, False):
        for slot in list(waiting):
            resolved = aliases.get(config.model_name(slot.model), {}).get(slot.version, slot.version)
            for deployed in rest:
                version = deployed.model_version_id
                if deploy.model_id(deployed) == slot.model and (version == resolved or not by_version):
                    slots[f"{slot.model}@{slot.version}"] = _slot(deployed, split)
                    rest.remove(deployed)
                    waiting.remove(slot)
                    break
    return slots, [deployed.id for deployed in rest]


def _slot(deployed: DeployedModel, split: Mapping[str, int]) -> dict[str, object]:
    resources = deployed.dedicated_resources
    machine_type, accelerator_type, accelerator_count, service_account = deploy.machine_of(deployed)
    return {
        "version_id": deployed.model_version_id,
        "machine_type": machine_type,
        "accelerator_type": accelerator_type,
        "accelerator_count": accelerator_count,
        "service_account": service_account,
        "min_replica_count": resources.min_replica_count,
        "max_replica_count": resources.max_replica_count,
        "traffic_percentage": split.get(deployed.id, 0),
    }
