"""Persistent resources through the official clients, and the jobs that run on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, BadRequest, Conflict, MethodNotImplemented, NotFound
from google.cloud.aiplatform_v1 import (
    CustomJob,
    JobServiceClient,
    JobState,
    PersistentResource,
    PersistentResourceServiceClient,
)
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Emulator, require_program, wait_until

IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
SECONDS = 30


@pytest.fixture(params=["grpc", "rest"])
def resources(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[PersistentResourceServiceClient]:
    client = emulator.client(PersistentResourceServiceClient, transport=request.param)
    with client:
        yield client


@pytest.fixture
def jobs(emulator: Emulator) -> Iterator[JobServiceClient]:
    with emulator.client(JobServiceClient) as client:
        yield client


def machines(machine_type: str = "n1-standard-4", **fields: Any) -> PersistentResource:
    pool = {"machine_spec": {"machine_type": machine_type}, "replica_count": 2}
    return PersistentResource(**{"display_name": "kept", "labels": {"team": "ml"}, "resource_pools": [pool], **fields})


def made(
    resources: PersistentResourceServiceClient, parent: str, resource: PersistentResource | None = None
) -> PersistentResource:
    operation = resources.create_persistent_resource(
        parent=parent, persistent_resource=resource or machines(), persistent_resource_id="kept"
    )
    created: PersistentResource = operation.result(timeout=SECONDS)
    return created


def job_on(resource_id: str, program: str, machine_type: str = "n1-standard-4") -> CustomJob:
    pool = {
        "machine_spec": {"machine_type": machine_type},
        "replica_count": 1,
        "container_spec": {"image_uri": IMAGE, "command": ["python3", "-c"], "args": [program]},
    }
    spec = {"worker_pool_specs": [pool], "persistent_resource_id": resource_id}
    return CustomJob(display_name="taxi", job_spec=spec)


def test_create_get_list_and_delete(resources: PersistentResourceServiceClient, parent: str) -> None:
    created = made(resources, parent)
    assert created.state == PersistentResource.State.RUNNING
    assert created.name.endswith("/locations/us-central1/persistentResources/kept")
    assert created.resource_pools[0].id
    assert created.start_time
    assert resources.get_persistent_resource(name=f"{parent}/persistentResources/kept") == created
    assert list(resources.list_persistent_resources(parent=parent)) == [created]
    with pytest.raises((AlreadyExists, Conflict)):
        made(resources, parent)
    resources.delete_persistent_resource(name=created.name).result(timeout=SECONDS)
    assert list(resources.list_persistent_resources(parent=parent)) == []
    with pytest.raises(NotFound):
        resources.delete_persistent_resource(name=created.name)


def test_update_and_reboot_end_in_running(resources: PersistentResourceServiceClient, parent: str) -> None:
    created = made(resources, parent)
    created.resource_pools[0].replica_count = 5
    updated = resources.update_persistent_resource(
        persistent_resource=created, update_mask=FieldMask(paths=["resource_pools"])
    ).result(timeout=SECONDS)
    assert (updated.resource_pools[0].replica_count, updated.state) == (5, PersistentResource.State.RUNNING)
    rebooted = resources.reboot_persistent_resource(name=created.name).result(timeout=SECONDS)
    assert (rebooted.state, rebooted.start_time) == (PersistentResource.State.RUNNING, created.start_time)


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (machines(resource_pools=[]), "resource_pools"),
        (machines("n1-giant-4"), 'Machine type "n1-giant-4" is not supported'),
        (machines(resource_pools=[{"machine_spec": {"machine_type": "n1-standard-4"}}]), "must be positive"),
        (machines(labels={"Team": "ml"}), "label key"),
        (
            machines(
                resource_pools=[
                    {
                        "machine_spec": {"machine_type": "n1-standard-4"},
                        "autoscaling_spec": {"min_replica_count": 3, "max_replica_count": 2},
                    }
                ]
            ),
            "autoscaling_spec",
        ),
    ],
)
def test_create_of_a_bad_resource_is_invalid_argument(
    resources: PersistentResourceServiceClient, parent: str, resource: PersistentResource, message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        made(resources, parent, resource)
    assert list(resources.list_persistent_resources(parent=parent)) == []


def test_ray_cluster_is_unimplemented_by_name(resources: PersistentResourceServiceClient, parent: str) -> None:
    with pytest.raises(MethodNotImplemented, match="ray_spec"):
        made(resources, parent, machines(resource_runtime_spec={"ray_spec": {}}))


def test_job_runs_on_a_resource_that_cannot_be_deleted_meanwhile(
    resources: PersistentResourceServiceClient, jobs: JobServiceClient, parent: str
) -> None:
    with pytest.raises(BadRequest, match='PersistentResource "kept" is not running'):
        jobs.create_custom_job(parent=parent, custom_job=job_on("kept", "pass"))
    kept = made(resources, parent)
    with pytest.raises(BadRequest, match="matches no resource pool"):
        jobs.create_custom_job(parent=parent, custom_job=job_on("kept", "pass", "n1-standard-8"))
    job = jobs.create_custom_job(parent=parent, custom_job=job_on("kept", "import time; time.sleep(600)"))
    for change in (resources.delete_persistent_resource, resources.reboot_persistent_resource):
        with pytest.raises(BadRequest, match=f"in use by `{job.name}`"):
            change(name=kept.name)
    jobs.cancel_custom_job(name=job.name)
    wait_until(lambda: jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_CANCELLED)
    wait_until(lambda: _deleted(resources, kept.name))


def _deleted(resources: PersistentResourceServiceClient, name: str) -> bool:
    """A job is over a moment before it lets go of its machines."""
    try:
        resources.delete_persistent_resource(name=name).result(timeout=SECONDS)
    except BadRequest:
        return False
    return True


def test_resource_survives_the_emulators_end(new_emulator: Callable[..., Emulator], tmp_path: Path) -> None:
    parent = "projects/test-project/locations/us-central1"
    emulator = new_emulator(state=tmp_path / "state")
    with emulator.client(PersistentResourceServiceClient) as resources:
        created = made(resources, parent)
    emulator.stop(9)
    with new_emulator(state=tmp_path / "state").client(PersistentResourceServiceClient) as resources:
        assert resources.get_persistent_resource(name=created.name) == created


SDK = """
import sys
from google.cloud import aiplatform
from google.cloud.aiplatform.preview import persistent_resource
aiplatform.init(project=sys.argv[1], location="us-central1", api_transport=sys.argv[2])
from google.cloud.aiplatform_v1beta1 import ResourcePool
pool = ResourcePool(machine_spec={"machine_type": "n1-standard-4"}, replica_count=1)
made = persistent_resource.PersistentResource.create(persistent_resource_id="by-sdk", resource_pools=[pool])
print(">", made.state.name, [one.name for one in persistent_resource.PersistentResource.list()])
made.delete()
"""


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_sdk_creates_lists_and_deletes(emulator: Emulator, project: str, transport: str) -> None:
    ran = emulator.run(sys.executable, "-c", SDK, project, transport, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "> RUNNING ['by-sdk']" in ran.stdout


def test_gcloud_creates_describes_lists_reboots_and_deletes(emulator: Emulator, project: str) -> None:
    require_program("gcloud")

    def gcloud(*words: str) -> subprocess.CompletedProcess[str]:
        place = ("--region=us-central1", f"--project={project}", "--format=json", "--quiet")
        ran = emulator.run("gcloud", "ai", "persistent-resources", *words, *place, timeout=90)
        assert ran.returncode == 0, ran.stderr
        return ran

    pool = "machine-type=n1-standard-4,replica-count=1"
    gcloud("create", "--persistent-resource-id=kept", f"--resource-pool-spec={pool}")
    assert json.loads(gcloud("describe", "kept").stdout)["state"] == "RUNNING"
    gcloud("reboot", "kept")
    assert [one["name"].rpartition("/")[2] for one in json.loads(gcloud("list").stdout)] == ["kept"]
    gcloud("delete", "kept")
    assert json.loads(gcloud("list").stdout) == []
