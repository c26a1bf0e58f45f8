"""Pipelines sent by the official client, and what comes of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1 import (
    PipelineFailurePolicy,
    PipelineJob,
    PipelineServiceClient,
    PipelineState,
    PipelineTaskDetail,
)
from google.cloud.storage import Bucket, Client
from google.protobuf import json_format, struct_pb2
from ruamel.yaml import YAML

from tests.conftest import Emulator, wait_until

FINAL = (
    PipelineState.PIPELINE_STATE_SUCCEEDED,
    PipelineState.PIPELINE_STATE_FAILED,
    PipelineState.PIPELINE_STATE_CANCELLED,
)
FAST = PipelineFailurePolicy.PIPELINE_FAILURE_POLICY_FAIL_FAST


def compiled(pipeline: Any, folder: Path) -> dict[str, Any]:
    """What kfp makes of a pipeline function."""
    from kfp import compiler

    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    document: dict[str, Any] = YAML(typ="safe").load(path)
    return document


def as_struct(document: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    json_format.ParseDict(document, struct)
    return struct


@dataclass
class Pipelines:
    """The service as one project sees it."""

    client: PipelineServiceClient
    parent: str
    bucket: Bucket

    @property
    def root(self) -> str:
        return f"gs://{self.bucket.name}/root"

    def job(self, document: dict[str, Any], policy: Any = 0, **parameters: Any) -> PipelineJob:
        return PipelineJob(
            display_name="run",
            **({"pipeline_spec": as_struct(document)} if document else {}),
            labels={"team": "ml"},
            runtime_config=PipelineJob.RuntimeConfig(
                gcs_output_directory=self.root,
                parameter_values={
                    name: json_format.ParseDict(value, struct_pb2.Value()) for name, value in parameters.items()
                },
                failure_policy=policy,
            ),
        )

    def submit(self, document: dict[str, Any], job_id: str = "", policy: Any = 0, **parameters: Any) -> PipelineJob:
        job_id = job_id or f"run-{time.monotonic_ns()}"
        job = self.job(document, policy, **parameters)
        return self.client.create_pipeline_job(parent=self.parent, pipeline_job=job, pipeline_job_id=job_id)

    def run(self, document: dict[str, Any], policy: Any = 0, **parameters: Any) -> PipelineJob:
        """Submit and wait for the end."""
        return self.finished(self.submit(document, policy=policy, **parameters).name)

    def finished(self, name: str, seconds: float = 120) -> PipelineJob:
        def look() -> PipelineJob | None:
            job = self.client.get_pipeline_job(name=name)
            return job if job.state in FINAL else None

        job = wait_until(look, seconds)
        assert isinstance(job, PipelineJob)
        return job

    def reaches(self, name: str, task: str, state: Any) -> PipelineJob:
        """The job, once a task of it is in a state."""

        def look() -> PipelineJob | None:
            job = self.client.get_pipeline_job(name=name)
            found = tasks(job).get(task)
            assert job.state not in FINAL or (found and found.state == state), tree(job)
            return job if found is not None and found.state == state else None

        job = wait_until(look, 60)
        assert isinstance(job, PipelineJob)
        return job

    def text(self, uri: str) -> str:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        assert bucket == self.bucket.name
        return str(self.bucket.blob(name).download_as_text())


def tasks(job: PipelineJob) -> dict[str, PipelineTaskDetail]:
    """By their paths; the run itself by its id."""
    return {detail.task_unique_name: detail for detail in job.job_detail.task_details}


def tree(job: PipelineJob) -> dict[str, str]:
    """Paths and states of a job's tasks, the run itself left out."""
    return {
        detail.task_unique_name: detail.state.name for detail in job.job_detail.task_details if detail.parent_task_id
    }


def plain(message: Any) -> dict[str, Any]:
    """A message of the client as JSON."""
    found: dict[str, Any] = json_format.MessageToDict(type(message).pb(message))
    return found


def outputs(job: PipelineJob) -> dict[str, Any]:
    """Path -> the output parameters of each task that has any."""
    prefix = "output:"
    return {
        path: found
        for path, detail in tasks(job).items()
        if (
            found := {
                key.removeprefix(prefix): value
                for key, value in plain(detail).get("execution", {}).get("metadata", {}).items()
                if key.startswith(prefix)
            }
        )
    }


def failures(job: PipelineJob) -> dict[str, str]:
    """Path -> error of each task that failed."""
    return {path: detail.error.message for path, detail in tasks(job).items() if detail.error.message}


@pytest.fixture
def make_pipelines(project: str, parent: str) -> Iterator[Callable[[Emulator, str], Pipelines]]:
    made: list[PipelineServiceClient] = []

    def make(emulator: Emulator, transport: str = "grpc") -> Pipelines:
        with emulator.exported():
            storage = Client(project=project)
            bucket = storage.lookup_bucket(f"{project}-pipes") or storage.create_bucket(f"{project}-pipes")
        made.append(emulator.client(PipelineServiceClient, transport=transport))
        return Pipelines(made[-1], parent, bucket)

    yield make
    for client in made:
        client.transport.close()


@pytest.fixture(params=["grpc", "rest"])
def both(
    emulator: Emulator, make_pipelines: Callable[[Emulator, str], Pipelines], request: pytest.FixtureRequest
) -> Pipelines:
    """Over each transport in turn."""
    return make_pipelines(emulator, request.param)


@pytest.fixture
def pipelines(emulator: Emulator, make_pipelines: Callable[[Emulator, str], Pipelines]) -> Pipelines:
    return make_pipelines(emulator, "grpc")
