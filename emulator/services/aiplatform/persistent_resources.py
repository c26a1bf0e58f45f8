"""What a persistent resource may say, and when a job may run on it: machines that stay there between jobs.

Source: https://cloud.google.com/vertex-ai/docs/training/persistent-resource-overview and the comments of
persistent_resource.proto
"""

from __future__ import annotations

import re
from collections import Counter

from google.api_core.exceptions import FailedPrecondition, InvalidArgument, MethodNotImplemented
from selfloop_apis.aiplatform_v1 import (
    AcceleratorType,
    CustomJobSpec,
    MachineSpec,
    PersistentResource,
    ResourcePool,
)

from emulator.core.state import Collection
from emulator.services.aiplatform.machine_types import check_accelerator, check_machine_type
from emulator.services.aiplatform.validation import FoundErrors

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def check_id(resource_id: str) -> None:
    """Raises InvalidArgument for what is no id of a persistent resource."""
    errors = FoundErrors()
    if not _ID.fullmatch(resource_id):
        errors.add("persistent_resource_id", f"{resource_id!r} does not match {_ID.pattern}.")
    errors.raise_any()


def check_resource(resource: PersistentResource) -> None:
    """Raises InvalidArgument with all that is wrong, MethodNotImplemented for a Ray cluster."""
    if resource.resource_runtime_spec.HasField("ray_spec"):
        raise MethodNotImplemented(
            "resource_runtime_spec.ray_spec is not emulated yet: no Ray cluster is started; "
            "add it to emulator/services/aiplatform/persistent_resource_service.py"
        )
    errors = FoundErrors()
    errors.check_display_name(resource.display_name)
    errors.check_labels(resource.labels)
    if not resource.resource_pools:
        errors.add("resource_pools", "Required field is not set.")
    for number, pool in enumerate(resource.resource_pools):
        _check_pool(pool, f"resource_pools[{number}]", errors)
    for pool_id, count in Counter(pool.id for pool in resource.resource_pools if pool.id).items():
        if count > 1:
            errors.add("resource_pools", f"{count} resource pools have the id {pool_id!r}.")
    errors.raise_any()
    for pool in resource.resource_pools:
        check_machine_type(pool.machine_spec.machine_type, training=True)
        check_accelerator(
            pool.machine_spec.machine_type,
            AcceleratorType.Name(pool.machine_spec.accelerator_type),
            pool.machine_spec.accelerator_count,
        )


def complete(resource: PersistentResource) -> None:
    """Give an id to each pool that has none."""
    taken = {pool.id for pool in resource.resource_pools}
    free = (
        name for number in range(len(taken) + len(resource.resource_pools)) if (name := f"pool-{number}") not in taken
    )
    for pool in resource.resource_pools:
        pool.id = pool.id or next(free)


def check_available(resources: Collection[PersistentResource], parent: str, spec: CustomJobSpec) -> None:
    """Nothing for a job that names no persistent resource.

    Raises FailedPrecondition unless the one that it names is RUNNING, InvalidArgument for a worker pool on machines
    that it does not have.
    """
    if not spec.persistent_resource_id:
        return
    name = f"{parent}/persistentResources/{spec.persistent_resource_id}"
    resource = resources.find(name)
    if resource is None or resource.state != PersistentResource.State.RUNNING:
        raise FailedPrecondition(f'The PersistentResource "{spec.persistent_resource_id}" is not running.')
    for number, pool in enumerate(spec.worker_pool_specs):
        asked = pool.machine_spec
        if asked != MachineSpec() and not any(_is_of(asked, has.machine_spec) for has in resource.resource_pools):
            raise InvalidArgument(
                f"worker_pool_specs[{number}].machine_spec matches no resource pool of the PersistentResource "
                f'"{spec.persistent_resource_id}".'
            )


def _is_of(asked: MachineSpec, has: MachineSpec) -> bool:
    return (asked.machine_type, asked.accelerator_type, asked.accelerator_count) == (
        has.machine_type,
        has.accelerator_type,
        has.accelerator_count,
    )


def _check_pool(pool: ResourcePool, where: str, errors: FoundErrors) -> None:
    if not pool.machine_spec.machine_type:
        errors.add(f"{where}.machine_spec.machine_type", "Required field is not set.")
    if pool.HasField("autoscaling_spec"):
        least, most = pool.autoscaling_spec.min_replica_count, pool.autoscaling_spec.max_replica_count
        if not 0 < least < most:
            errors.add(f"{where}.autoscaling_spec", "min_replica_count must be positive and below max_replica_count.")
        elif pool.HasField("replica_count") and not least <= pool.replica_count <= most:
            errors.add(f"{where}.replica_count", "The number of replicas must be within those of autoscaling_spec.")
    elif pool.replica_count < 1:
        errors.add(f"{where}.replica_count", "The number of replicas must be positive.")
