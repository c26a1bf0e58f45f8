"""Worker pools of a CustomJobSpec: what is allowed, and the replicas that they come to.

Source: https://cloud.google.com/vertex-ai/docs/training/distributed-training, the comments of custom_job.proto
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from selfloop_apis.aiplatform_v1 import AcceleratorType, CustomJobSpec, ReservationAffinity, WorkerPoolSpec

from emulator.services.aiplatform.machine_types import check_accelerator, check_machine_type
from emulator.services.aiplatform.validation import FoundErrors

#: Primary, workers, parameter servers or reduction server, evaluators.
MOST_POOLS = 4
EVALUATORS = 3
#: Replicas of one job on this machine; the real limit is a quota of CPUs.
MOST_REPLICAS = 32
#: Source: the comments of DiskSpec in machine_resources.proto.
_BOOT_DISKS = frozenset({"", "pd-ssd", "pd-standard", "hyperdisk-balanced"})
_MOST_ARGUMENT_CHARACTERS = 100_000
_MOST_ENTRIES = 100
_PREBUILT = re.compile(r"(?:[a-z]+-)?docker\.pkg\.dev/vertex-ai/|gcr\.io/cloud-aiplatform/")
_MODULE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Replica:
    """One container of a job."""

    pool: int
    index: int
    spec: WorkerPoolSpec = field(compare=False)

    @property
    def name(self) -> str:
        """As logs and errors call it."""
        return f"workerpool{self.pool}-{self.index}"

    @property
    def image(self) -> str:
        return self.spec.container_spec.image_uri or self.spec.python_package_spec.executor_image_uri

    @property
    def is_prebuilt(self) -> bool:
        """Whether it runs one of Vertex AI's own images, whose output is logged with structure."""
        return bool(_PREBUILT.search(self.image))


def replicas(spec: CustomJobSpec) -> list[Replica]:
    """Every replica, the primary one first."""
    return [
        Replica(number, index, pool)
        for number, pool in enumerate(spec.worker_pool_specs)
        for index in range(pool.replica_count if pool.WhichOneof("task") else 0)
    ]


def check_job_spec(spec: CustomJobSpec, errors: FoundErrors, field: str) -> None:
    """Note what is wrong with a spec; `field` is where it stands in the request's resource.

    Raises InvalidArgument for what is wrong, and for an unknown machine type.
    """
    if len(spec.worker_pool_specs) > MOST_POOLS:
        errors.add(f"{field}.worker_pool_specs", f"There must be at most {MOST_POOLS} worker pools.")
    for number, pool in enumerate(spec.worker_pool_specs):
        where = f"{field}.worker_pool_specs[{number}]"
        if pool.WhichOneof("task") is None:
            # The SDK leaves an empty pool where a job has no workers but parameter servers.
            if number == 0 or pool != WorkerPoolSpec():
                errors.add(f"{where}.task", "One of container_spec and python_package_spec must be set.")
            continue
        _check_pool(pool, errors, where, is_primary=number == 0, on_persistent=bool(spec.persistent_resource_id))
    if sum(pool.replica_count for pool in spec.worker_pool_specs) > MOST_REPLICAS:
        errors.add(f"{field}.worker_pool_specs", f"There must be at most {MOST_REPLICAS} replicas on this emulator.")
    if spec.HasField("base_output_directory"):
        errors.check_gcs_uri(
            spec.base_output_directory.output_uri_prefix, f"{field}.base_output_directory.output_uri_prefix"
        )
    if spec.scheduling.timeout.seconds < 0:
        errors.add(f"{field}.scheduling.timeout", "The timeout must not be negative.")
    if spec.tensorboard and not spec.service_account:
        errors.add(f"{field}.service_account", "A service account is required when tensorboard is set.")
    errors.raise_any()
    for pool in spec.worker_pool_specs:
        machine = pool.machine_spec
        if machine.machine_type:
            check_machine_type(machine.machine_type, training=True)
        accelerator = AcceleratorType.DESCRIPTOR.values_by_number.get(machine.accelerator_type)
        name = accelerator.name if accelerator else str(machine.accelerator_type)
        check_accelerator(machine.machine_type, name, machine.accelerator_count)


def _check_pool(
    pool: WorkerPoolSpec, errors: FoundErrors, where: str, *, is_primary: bool, on_persistent: bool
) -> None:
    if is_primary and pool.replica_count != 1:
        errors.add(f"{where}.replica_count", "The first worker pool must have exactly one replica.")
    elif pool.replica_count < 1:
        errors.add(f"{where}.replica_count", "The number of replicas must be positive.")
    if not pool.machine_spec.machine_type and not on_persistent:
        errors.add(f"{where}.machine_spec.machine_type", "Required field is not set.")
    _check_machine(pool, errors, where)
    task = pool.container_spec if pool.HasField("container_spec") else pool.python_package_spec
    inside = f"{where}.{pool.WhichOneof('task')}"
    if sum(map(len, task.args)) > _MOST_ARGUMENT_CHARACTERS:
        errors.add(f"{inside}.args", f"The arguments have more than {_MOST_ARGUMENT_CHARACTERS} characters.")
    if len(task.env) > _MOST_ENTRIES:
        errors.add(f"{inside}.env", f"There must be at most {_MOST_ENTRIES} environment variables.")
    for variable in task.env:
        if not _VARIABLE.fullmatch(variable.name):
            errors.add(f"{inside}.env", f"{variable.name!r} is not the name of an environment variable.")
    if pool.HasField("python_package_spec"):
        package = pool.python_package_spec
        if len(package.package_uris) > _MOST_ENTRIES:
            errors.add(f"{inside}.package_uris", f"There must be at most {_MOST_ENTRIES} packages.")
        for uri in package.package_uris:
            errors.check_gcs_uri(uri, f"{inside}.package_uris")
        if not _MODULE.fullmatch(package.python_module):
            errors.add(f"{inside}.python_module", f"{package.python_module!r} is not the name of a Python module.")


def _check_machine(pool: WorkerPoolSpec, errors: FoundErrors, where: str) -> None:
    """Note what is wrong with the disk and the reservation; the machine type is looked at by itself."""
    disk = pool.disk_spec
    if disk.boot_disk_type not in _BOOT_DISKS:
        errors.add(f"{where}.disk_spec.boot_disk_type", f"{disk.boot_disk_type!r} is not a type of boot disks.")
    if disk.boot_disk_size_gb < 0:
        errors.add(f"{where}.disk_spec.boot_disk_size_gb", "The size must be positive.")
    reservation = pool.machine_spec.reservation_affinity
    is_named = bool(reservation.key and reservation.values)
    is_specific = reservation.reservation_affinity_type == ReservationAffinity.Type.SPECIFIC_RESERVATION
    if is_specific and not is_named:
        errors.add(f"{where}.machine_spec.reservation_affinity", "SPECIFIC_RESERVATION needs key and values.")
    elif not is_specific and (reservation.key or reservation.values):
        errors.add(f"{where}.machine_spec.reservation_affinity", "key and values are for SPECIFIC_RESERVATION alone.")
