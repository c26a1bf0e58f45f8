"""Google Cloud Pipeline Components, unmodified: their launchers run and reach the emulator as they reach Google."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import (
    EndpointServiceClient,
    JobServiceClient,
    JobState,
    ModelServiceClient,
    PipelineState,
)
from google.cloud.storage import Client

from emulator.runners.environments import Environments
from tests.conftest import LOCATION, Emulator, wait_until

PIPELINES = Path(__file__).with_name("google_components.py")


@pytest.fixture(scope="module")
def components_python() -> Path:
    return Environments().named("google-cloud-pipeline-components.2-22").root / "bin" / "python"


@pytest.fixture
def bucket(emulator: Emulator, project: str) -> str:
    name = f"{project}-components"
    Client(project=project).create_bucket(name)
    return name


@pytest.fixture
def submit(
    emulator: Emulator, project: str, bucket: str, components_python: Path, tmp_path: Path
) -> Callable[[str], aiplatform.PipelineJob]:
    """Compiles one of the pipelines and starts it."""

    def start(which: str) -> aiplatform.PipelineJob:
        compiled = tmp_path / "pipeline.json"
        done = subprocess.run(
            [components_python, PIPELINES, which, project, bucket, compiled],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        aiplatform.init(project=project, location=LOCATION)
        job = aiplatform.PipelineJob(
            display_name=which,
            template_path=str(compiled),
            pipeline_root=f"gs://{bucket}/root",
            labels={"team": "rides"},
        )
        job.submit()
        return job

    return start


def tasks_of(job: aiplatform.PipelineJob) -> dict[str, Any]:
    return {task.task_name: task for task in job.gca_resource.job_detail.task_details}


def test_components_train_upload_measure_deploy_and_undeploy(
    emulator: Emulator, project: str, bucket: str, submit: Callable[[str], aiplatform.PipelineJob]
) -> None:
    metrics = {"slicedMetrics": [{"metrics": {"classification": {"auRoc": 0.75, "logLoss": 0.5}}}]}
    Client(project=project).bucket(bucket).blob("metrics.json").upload_from_string(json.dumps(metrics))
    job = submit("loop")
    with contextlib.suppress(RuntimeError):
        job.wait()

    tasks = tasks_of(job)
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

    models = emulator.client(ModelServiceClient)
    (model,) = models.list_models(parent=f"projects/{project}/locations/{LOCATION}")
    (evaluation,) = models.list_model_evaluations(parent=model.name)
    assert evaluation.display_name == "measured elsewhere"
    measured: Any = evaluation.metrics
    assert dict(measured) == {"auRoc": 0.75, "logLoss": 0.5}
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


def test_cancel_reaches_the_job_that_a_component_started(
    emulator: Emulator, submit: Callable[[str], aiplatform.PipelineJob]
) -> None:
    job = submit("endless")
    jobs = emulator.client(JobServiceClient)
    parent = job.resource_name.partition("/pipelineJobs/")[0]

    def running() -> Any:
        found = jobs.list_custom_jobs(request={"parent": parent, "filter": 'display_name="endless"'})
        return next((job.name for job in found if job.state == JobState.JOB_STATE_RUNNING), None)

    name = wait_until(running, 60)
    job.cancel()
    wait_until(lambda: jobs.get_custom_job(name=name).state == JobState.JOB_STATE_CANCELLED, 60)
    wait_until(lambda: job.state == PipelineState.PIPELINE_STATE_CANCELLED, 60)


def test_wait_knows_dataflow_jobs_alone_as_it_says(submit: Callable[[str], aiplatform.PipelineJob]) -> None:
    job = submit("waiting")
    with pytest.raises(RuntimeError, match="wait-gcp-resources"):
        job.wait()
    told = tasks_of(job)["wait-gcp-resources"].error.message
    assert "Wait component only support waiting on" in " ".join(told.split()), told
