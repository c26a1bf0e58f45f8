"""Endpoints and deployed models: ids, traffic splits, machines. Pure functions.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#endpointservice
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1

from emulator.services.aiplatform.machine_types import check_machine_type

Endpoint = aiplatform_v1.Endpoint
DeployedModel = aiplatform_v1.DeployedModel

#: What stands for the model that is being deployed in a traffic split, before it has an id.
NEW_MODEL = "0"
#: What serves where a deployment names no machine.
DEFAULT_MACHINE_TYPE = "n1-standard-2"
#: What MutateDeployedModel may change.
_MUTABLE = frozenset(
    {
        "dedicated_resources.min_replica_count",
        "dedicated_resources.max_replica_count",
        "dedicated_resources.required_replica_count",
        "dedicated_resources.autoscaling_metric_specs",
        "automatic_resources.min_replica_count",
        "automatic_resources.max_replica_count",
        "disable_container_logging",
    }
)
_ENDPOINT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,9}")
_DEPLOYED_MODEL_ID = re.compile(r"[1-9][0-9]{0,9}")


def check_endpoint_id(endpoint_id: str) -> None:
    if not _ENDPOINT_ID.fullmatch(endpoint_id):
        raise InvalidArgument(
            f"The endpoint_id {endpoint_id[:100]!r} is invalid: a letter and up to 62 of [a-z0-9-], a letter or "
            "number last, or up to 10 digits, no zero first."
        )


def dedicated_dns(endpoint: str) -> str:
    """The host under which a dedicated endpoint answers, without a scheme: the SDK adds its own."""
    _, number, _, region, _, endpoint_id = endpoint.split("/")
    return f"{endpoint_id}.{region}-{number}.prediction.vertexai.goog"


def check_split(split: Mapping[str, int], deployed_ids: Collection[str]) -> None:
    """Raises InvalidArgument unless the split is empty or sums to 100 over models that are deployed."""
    unknown = sorted(set(split) - set(deployed_ids))
    if unknown:
        raise InvalidArgument(f"The traffic split names DeployedModel(s) that are not there: {', '.join(unknown)}.")
    if any(not 0 <= percent <= 100 for percent in split.values()):
        raise InvalidArgument("The percents of a traffic split must be from 0 to 100.")
    if split and sum(split.values()) != 100:
        raise InvalidArgument(f"The traffic split must sum to 100; it sums to {sum(split.values())}.")


def new_split(endpoint: Endpoint, asked: Mapping[str, int], deployed_id: str) -> dict[str, int]:
    """An endpoint's split once a model is deployed; one that is not asked for stays as it is.

    Raises InvalidArgument.
    """
    if not asked:
        return dict(endpoint.traffic_split)
    split = {deployed_id if key == NEW_MODEL else key: percent for key, percent in asked.items()}
    check_split(split, [*(deployed.id for deployed in endpoint.deployed_models), deployed_id])
    return split


def split_without(endpoint: Endpoint, asked: Mapping[str, int], deployed_id: str) -> dict[str, int]:
    """An endpoint's split once a model is undeployed.

    Raises FailedPrecondition when the model would still have traffic, unless it is the last one.
    """
    others = [deployed.id for deployed in endpoint.deployed_models if deployed.id != deployed_id]
    if not others:
        return {}
    split = dict(asked or endpoint.traffic_split)
    if split.get(deployed_id, 0) > 0:
        raise FailedPrecondition(
            f"The DeployedModel {deployed_id} has {split[deployed_id]}% of the traffic of Endpoint "
            f"`{endpoint.name}`; give it to others first, or in traffic_split."
        )
    split.pop(deployed_id, None)
    check_split(split, others)
    return split


def complete_deployed_model(
    deployed: DeployedModel, model: aiplatform_v1.Model, others: Iterable[DeployedModel]
) -> None:
    """Check what is asked for and fill in what is left out.

    Raises InvalidArgument for resources that the model or the service does not know, NotFound for a pool.
    """
    if deployed.id:
        if not _DEPLOYED_MODEL_ID.fullmatch(deployed.id):
            raise InvalidArgument(f"The DeployedModel id {deployed.id[:50]!r} is invalid: 1 to 10 digits.")
        if any(other.id == deployed.id for other in others):
            raise InvalidArgument(f"The DeployedModel id {deployed.id} is in use already.")
    if not model.container_spec.image_uri:
        raise InvalidArgument(f"Model `{model.name}` has no container_spec and cannot be deployed.")
    kind = deployed.WhichOneof("prediction_resources")
    if kind == "automatic_resources":
        raise InvalidArgument(f"'automatic_resources' is not supported for Model `{model.name}`.")
    if kind == "shared_resources":
        raise NotFound(f"The DeploymentResourcePool `{deployed.shared_resources}` does not exist.")
    if kind is None:
        raise InvalidArgument("One of dedicated_resources and shared_resources must be set.")
    resources = deployed.dedicated_resources
    resources.machine_spec.machine_type = resources.machine_spec.machine_type or DEFAULT_MACHINE_TYPE
    check_machine_type(resources.machine_spec.machine_type, training=False)
    resources.min_replica_count = resources.min_replica_count or 1
    resources.max_replica_count = resources.max_replica_count or resources.min_replica_count
    check_replica_counts(resources)
    deployed.display_name = deployed.display_name or model.display_name
    deployed.model = model.name
    deployed.model_version_id = model.version_id


def check_replica_counts(resources: aiplatform_v1.DedicatedResources) -> None:
    """Raises InvalidArgument."""
    if resources.min_replica_count < 1:
        raise InvalidArgument("min_replica_count must be at least 1.")
    if resources.max_replica_count < resources.min_replica_count:
        raise InvalidArgument(
            f"max_replica_count ({resources.max_replica_count}) must not be less than min_replica_count "
            f"({resources.min_replica_count})."
        )
    if resources.required_replica_count > resources.min_replica_count:
        raise InvalidArgument("required_replica_count must not be more than min_replica_count.")


def mutate(deployed: DeployedModel, given: DeployedModel, paths: Iterable[str]) -> None:
    """Bring what a mask names from `given` into a deployed model.

    Not by the general rule: the replica counts are called immutable, and yet this is the method that changes them.
    Raises InvalidArgument for an empty mask, and for a field that stays as it was deployed.
    """
    named = set(paths)
    if not named:
        raise InvalidArgument("List of found errors:\t1.Field: update_mask; Message: Required field is not set.\t")
    for path in sorted(named):
        if path not in _MUTABLE:
            raise InvalidArgument(f"The field {path} of a DeployedModel cannot be changed.")
        *parents, field = path.split(".")
        target: Any = deployed
        source: Any = given
        for parent in parents:
            target, source = getattr(target, parent), getattr(source, parent)
        if target.DESCRIPTOR.fields_by_name[field].is_repeated:
            target.ClearField(field)
            getattr(target, field).MergeFrom(getattr(source, field))
        else:
            setattr(target, field, getattr(source, field))
    check_replica_counts(deployed.dedicated_resources)


def find_deployed_model(endpoint: Endpoint, deployed_model_id: str) -> DeployedModel:
    """Raises NotFound."""
    for deployed in endpoint.deployed_models:
        if deployed.id == deployed_model_id:
            return deployed
    raise NotFound(f"The DeployedModel {deployed_model_id!r} does not exist in Endpoint `{endpoint.name}`.")
