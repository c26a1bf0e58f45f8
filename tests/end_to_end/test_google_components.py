"""Google Cloud Pipeline Components, unmodified: their launchers run and reach the emulator as they reach Google."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import EndpointServiceClient, JobServiceClient, ModelServiceClient
from google.cloud.storage import Client

from emulator.runners.environments import Environments
from tests.conftest import LOCATION, Emulator

PIPELINE = Path(__file__).with_name("google_components.py")


@pytest.fixture(scope="module")
def components_python() -> Path:
    return Environments().named("google-cloud-pipeline-components.2-22").root / "bin" / "python"


def test_components_train_upload_deploy_and_undeploy(
    emulator: Emulator, project: str, components_python: Path, tmp_path: Path
) -> None:
    bucket = f"{project}-components"
    Client(project=project).create_bucket(bucket)
    compiled = tmp_path / "pipeline.json"
    done = subprocess.run(
        [components_python, PIPELINE, project, bucket, compiled],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    aiplatform.init(project=project, location=LOCATION)
    job = aiplatform.PipelineJob(
        display_name="components",
        template_path=str(compiled),
        pipeline_root=f"gs://{bucket}/root",
        labels={"team": "rides"},
    )
    job.submit()
    with contextlib.suppress(RuntimeError):
        job.wait()

    tasks = {task.task_name: task for task in job.gca_resource.job_detail.task_details}
    states = {name: task.state.name for name, task in tasks.items()}
    errors = {name: task.error.message for name, task in tasks.items() if task.error.code}
    assert set(states.values()) == {"SUCCEEDED"}, errors

    def resource(task: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(tasks[task].execution.metadata["output:gcp_resources"])["resources"][0]
        return found

    prefix = f"https://{LOCATION}-aiplatform.googleapis.com/v1/"
    trained = resource("custom-training-job")
    assert trained["resourceType"] == "CustomJob"
    jobs = emulator.client(JobServiceClient)
    custom_job = jobs.get_custom_job(name=trained["resourceUri"].removeprefix(prefix))
    assert custom_job.display_name == "train"
    assert custom_job.labels["team"] == "rides"
    assert resource("model-upload")["resourceType"] == "VertexLro"

    (model,) = emulator.client(ModelServiceClient).list_models(parent=f"projects/{project}/locations/{LOCATION}")
    artifact = tasks["model-upload"].outputs["model"].artifacts[0]
    assert artifact.schema_title == "google.VertexModel"
    assert artifact.metadata["resourceName"] in (model.name, f"{model.name}@1")
    assert artifact.uri.startswith(prefix)
    assert model.labels["team"] == "rides"
    assert model.artifact_uri == f"gs://{bucket}/trained"
    endpoints = emulator.client(EndpointServiceClient)
    (endpoint,) = endpoints.list_endpoints(parent=f"projects/{project}/locations/{LOCATION}")
    assert endpoint.display_name == "sevens"
    assert not endpoint.deployed_models
