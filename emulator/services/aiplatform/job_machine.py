"""What a job asks of its machines and what this one gives: sentences for the job's log."""

from __future__ import annotations

import os
from collections.abc import Iterator

from selfloop_apis.aiplatform_v1 import CustomJob, Scheduling


def machines(job: CustomJob, region: str) -> str:
    """Which machines the replicas run on, asked for and given."""
    types = dict.fromkeys(
        pool.machine_spec.machine_type for pool in job.job_spec.worker_pool_specs if pool.replica_count
    )
    asked = f"Machine type {', '.join(filter(None, types))}"
    if job.job_spec.persistent_resource_id:
        asked = f"Persistent resource {job.job_spec.persistent_resource_id}"
    return f"{asked} in {region} is this machine: {os.cpu_count()} CPUs, {_memory()}."


def left_out(job: CustomJob) -> Iterator[str]:
    """What the job asks for and does not get, in a sentence each."""
    spec = job.job_spec
    if any(pool.machine_spec.accelerator_count for pool in spec.worker_pool_specs):
        yield "The emulator attaches no accelerators: the job runs on this machine's CPUs."
    if any(pool.machine_spec.HasField("reservation_affinity") for pool in spec.worker_pool_specs):
        yield "The emulator has no reservations: this machine is there without one."
    if any(pool.nfs_mounts or pool.lustre_mounts for pool in spec.worker_pool_specs):
        yield "The emulator mounts no NFS or Lustre file systems."
    if spec.network:
        yield f"The emulator peers with no network: {spec.network} cannot be reached."
    strategy = spec.scheduling.strategy
    if strategy not in (Scheduling.STRATEGY_UNSPECIFIED, Scheduling.STANDARD, Scheduling.ON_DEMAND):
        name = Scheduling.Strategy.Name(strategy)
        yield f"Strategy {name}: this machine is there at once, and nobody takes it away."
    if spec.tensorboard:
        yield "The emulator does not upload TensorBoard logs: they stay in AIP_TENSORBOARD_LOG_DIR."
    if spec.enable_web_access or spec.enable_dashboard_access:
        yield "The emulator opens no interactive shell and no dashboard in a job."


def _memory() -> str:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return "memory unknown"
    return f"{total / (1 << 30):.1f} GiB of memory"
