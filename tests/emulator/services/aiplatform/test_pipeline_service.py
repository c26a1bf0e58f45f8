"""Training pipelines through the official clients: a package is installed, runs, and leaves a model."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import (
    JobServiceClient,
    JobState,
    ModelServiceClient,
    PipelineServiceClient,
    PipelineState,
    TrainingPipeline,
)
from google.cloud.storage import Bucket, Client
from google.protobuf import json_format, struct_pb2

from tests.conftest import Emulator, wait_until

PREBUILT = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
SERVING = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
CUSTOM_TASK = "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"
FINAL = (
    PipelineState.PIPELINE_STATE_SUCCEEDED,
    PipelineState.PIPELINE_STATE_FAILED,
    PipelineState.PIPELINE_STATE_CANCELLED,
)
#: Writes what it was given where Vertex AI looks for a model.
TRAINER = """
import os, sys
folder = os.environ["AIP_MODEL_DIR"].replace("gs://", "/gcs/")
os.makedirs(folder, exist_ok=True)
if "--nothing" not in sys.argv:
    with open(os.path.join(folder, "model.joblib"), "w") as file:
        file.write(" ".join(sys.argv[1:]))
print("trained with", *sys.argv[1:])
"""


@pytest.fixture(params=["grpc", "rest"])
def pipelines(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[PipelineServiceClient]:
    client = emulator.client(PipelineServiceClient, transport=request.param)
    with client:
        yield client


@pytest.fixture
def bucket(emulator: Emulator, project: str) -> Bucket:
    return make_bucket(emulator, project)


def make_bucket(emulator: Emulator, project: str, trainer: str = TRAINER) -> Bucket:
    """A bucket with the trainer's package in it."""
    with emulator.exported():
        bucket = Client(project=project).create_bucket(f"{project}-bucket")
        bucket.blob("trainer-0.1.tar.gz").upload_from_string(source_distribution({"trainer/task.py": trainer}))
    return bucket


def source_distribution(modules: Mapping[str, str]) -> bytes:
    """A package `trainer` 0.1 as `setup.py sdist` makes it."""
    files = {
        "setup.py": "from setuptools import find_packages, setup\n"
        "setup(name='trainer', version='0.1', packages=find_packages())\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: trainer\nVersion: 0.1\n",
        "trainer/__init__.py": "",
        **modules,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"trainer-0.1/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def training_pipeline(bucket: Bucket, *args: str, **fields: Any) -> TrainingPipeline:
    """As CustomPythonPackageTrainingJob sends it: snake_case keys, every number a double."""
    inputs = {
        "worker_pool_specs": [
            {
                "machine_spec": {"machine_type": "n1-standard-4"},
                "replica_count": 1.0,
                "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100.0},
                "python_package_spec": {
                    "executor_image_uri": PREBUILT,
                    "package_uris": [f"gs://{bucket.name}/trainer-0.1.tar.gz"],
                    "python_module": "trainer.task",
                    "args": list(args),
                },
            }
        ],
        "base_output_directory": {"output_uri_prefix": f"gs://{bucket.name}/run-2026-01-01-10:00:00.123"},
    }
    return TrainingPipeline(
        display_name="taxi",
        training_task_definition=CUSTOM_TASK,
        training_task_inputs=json_format.ParseDict(inputs, struct_pb2.Value()),
        labels={"team": "ml"},
        **fields,
    )


def finished(pipelines: PipelineServiceClient, name: str) -> TrainingPipeline:
    def look() -> TrainingPipeline | None:
        pipeline = pipelines.get_training_pipeline(name=name)
        return pipeline if pipeline.state in FINAL else None

    pipeline = wait_until(look, 90)
    assert isinstance(pipeline, TrainingPipeline)
    return pipeline


def _backing_job(pipeline: TrainingPipeline) -> str:
    metadata: Any = pipeline.training_task_metadata
    return str(metadata["backingCustomJob"])


def test_create_training_pipeline_trains_and_registers_the_model(
    pipelines: PipelineServiceClient, emulator: Emulator, bucket: Bucket, parent: str
) -> None:
    model = {"display_name": "taxi", "container_spec": {"image_uri": SERVING}, "version_aliases": ["default"]}
    created = pipelines.create_training_pipeline(
        parent=parent, training_pipeline=training_pipeline(bucket, "--trees=10", "--deep", model_to_upload=model)
    )
    assert created.state == PipelineState.PIPELINE_STATE_PENDING
    ended = finished(pipelines, created.name)
    assert ended.state == PipelineState.PIPELINE_STATE_SUCCEEDED, ended.error
    assert ended.start_time
    assert ended.end_time == ended.update_time
    prefix = "run-2026-01-01-10:00:00.123/model"
    assert bucket.blob(f"{prefix}/model.joblib").download_as_bytes() == b"--trees=10 --deep"
    with emulator.client(JobServiceClient) as jobs:
        job = jobs.get_custom_job(name=_backing_job(ended))
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert job.display_name == "taxi-custom-job"
    assert ended.model_to_upload.version_id == "1"
    with emulator.client(ModelServiceClient) as models:
        registered = models.get_model(name=f"{ended.model_to_upload.name}@{ended.model_to_upload.version_id}")
    assert registered.artifact_uri == f"gs://{bucket.name}/{prefix}"
    assert registered.training_pipeline == ended.name
    assert registered.version_aliases == ["default"]


def test_training_pipeline_that_leaves_no_model_fails(
    pipelines: PipelineServiceClient, bucket: Bucket, parent: str
) -> None:
    pipeline = training_pipeline(bucket, "--nothing", model_to_upload={"display_name": "taxi"})
    ended = finished(pipelines, pipelines.create_training_pipeline(parent=parent, training_pipeline=pipeline).name)
    assert ended.state == PipelineState.PIPELINE_STATE_FAILED
    assert ended.error.code == 9
    assert ended.error.message.startswith(f'There are no files under "gs://{bucket.name}/run-')


def test_training_pipeline_whose_package_is_missing_fails(
    pipelines: PipelineServiceClient, bucket: Bucket, parent: str
) -> None:
    bucket.blob("trainer-0.1.tar.gz").delete()
    created = pipelines.create_training_pipeline(parent=parent, training_pipeline=training_pipeline(bucket))
    ended = finished(pipelines, created.name)
    assert ended.state == PipelineState.PIPELINE_STATE_FAILED
    assert ended.error.code == 3
    assert "trainer-0.1.tar.gz" in ended.error.message


def test_list_and_delete_training_pipelines(pipelines: PipelineServiceClient, bucket: Bucket, parent: str) -> None:
    name = pipelines.create_training_pipeline(parent=parent, training_pipeline=training_pipeline(bucket)).name
    finished(pipelines, name)
    found = pipelines.list_training_pipelines(
        request={"parent": parent, "filter": f'training_task_definition="{CUSTOM_TASK}" AND labels:team'}
    )
    assert [pipeline.name for pipeline in found] == [name]
    assert not list(pipelines.list_training_pipelines(request={"parent": parent, "filter": 'display_name!="taxi"'}))
    pipelines.delete_training_pipeline(name=name).result(timeout=30)
    with pytest.raises(NotFound, match="TrainingPipeline"):
        pipelines.get_training_pipeline(name=name)


def test_training_pipeline_with_an_unknown_dataset_is_not_found(
    pipelines: PipelineServiceClient, bucket: Bucket, parent: str
) -> None:
    pipeline = training_pipeline(bucket, input_data_config={"dataset_id": "123"})
    with pytest.raises(NotFound, match=r"The Dataset `projects/.*/datasets/123` does not exist"):
        pipelines.create_training_pipeline(parent=parent, training_pipeline=pipeline)


def test_training_pipeline_runs_without_a_sandbox(
    new_emulator: Callable[..., Emulator], project: str, parent: str
) -> None:
    emulator = new_emulator(SELFLOOP_SANDBOX="none")
    bucket = make_bucket(emulator, project)
    model = {"display_name": "taxi", "container_spec": {"image_uri": SERVING}}
    with emulator.client(PipelineServiceClient) as pipelines:
        pipeline = training_pipeline(bucket, "--trees=10", model_to_upload=model)
        ended = finished(pipelines, pipelines.create_training_pipeline(parent=parent, training_pipeline=pipeline).name)
    assert ended.state == PipelineState.PIPELINE_STATE_SUCCEEDED, ended.error
    with emulator.exported():
        (written,) = bucket.list_blobs(prefix="run-")
        assert written.download_as_bytes() == b"--trees=10"


def test_kill_of_the_emulator_fails_the_running_pipeline(
    new_emulator: Callable[..., Emulator], project: str, parent: str, tmp_path: Path
) -> None:
    emulator = new_emulator(state=tmp_path / "state")
    bucket = make_bucket(emulator, project, trainer="import time; time.sleep(600)")
    with emulator.client(PipelineServiceClient) as pipelines:
        name = pipelines.create_training_pipeline(parent=parent, training_pipeline=training_pipeline(bucket)).name
        wait_until(lambda: pipelines.get_training_pipeline(name=name).state == PipelineState.PIPELINE_STATE_RUNNING)
    emulator.stop(9)
    again = new_emulator(state=tmp_path / "state")
    with again.client(PipelineServiceClient) as pipelines:
        ended = pipelines.get_training_pipeline(name=name)
    assert ended.state == PipelineState.PIPELINE_STATE_FAILED
    assert ended.error.message == "The emulator stopped while this training pipeline was running."
    with again.client(JobServiceClient) as jobs:
        assert jobs.get_custom_job(name=_backing_job(ended)).state == JobState.JOB_STATE_FAILED


SCRIPT = """
import sys
from google.cloud import aiplatform, storage

project, transport, trainer, PREBUILT, SERVING = sys.argv[1:]
bucket = storage.Client(project=project).create_bucket(f"{project}-staging")
aiplatform.init(
    project=project, location="us-central1", staging_bucket=f"gs://{bucket.name}", api_transport=transport
)

script = aiplatform.CustomJob.from_local_script(
    display_name="script", script_path=trainer, container_uri=PREBUILT, args=["--script"]
)
script.run()
print("> script", script.state.name)

training = aiplatform.CustomTrainingJob(
    display_name="training", script_path=trainer, container_uri=PREBUILT,
    model_serving_container_image_uri=SERVING,
)
model = training.run(model_display_name="taxi", args=["--training"], replica_count=1)
print("> model", model.version_id, model.display_name, model.version_aliases)

failing = aiplatform.CustomJob(
    display_name="failing",
    worker_pool_specs=[{
        "machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1,
        "container_spec": {"image_uri": PREBUILT, "command": ["python3", "-c", "import nothing_of_the_kind"]},
    }],
)
try:
    failing.run()
except RuntimeError as error:
    print("> error", str(error).splitlines()[0], "No module named" in str(error))

print("> jobs", sorted(job.display_name for job in aiplatform.CustomJob.list()))
print("> failed", [job.display_name for job in aiplatform.CustomJob.list(filter='state="JOB_STATE_FAILED"')])
script.delete()
"""


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_sdk_trains_from_a_script_and_reads_failures(
    emulator: Emulator, project: str, tmp_path: Path, transport: str
) -> None:
    trainer = tmp_path / "task.py"
    trainer.write_text(TRAINER)
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    ran = emulator.run(sys.executable, str(program), project, transport, str(trainer), PREBUILT, SERVING, timeout=240)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert [line[2:] for line in lines if line.startswith("> ")] == [
        "script JOB_STATE_SUCCEEDED",
        "model 1 taxi ['default']",
        "error Job failed with: True",
        "jobs ['failing', 'script', 'training-custom-job']",
        "failed ['failing']",
    ]
    # Where to watch it, which the SDK can tell once the pipeline names its job.
    assert "View backing custom job:" in ran.stdout
