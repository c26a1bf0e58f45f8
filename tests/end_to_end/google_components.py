"""Pipelines of Google's components, as their documentation writes them; run by their own environment's Python.

python google_components.py loop|endless|waiting PROJECT BUCKET OUT
"""

# No `from __future__ import annotations`: kfp reads the annotations themselves.

import sys

from google_cloud_pipeline_components.preview.model_evaluation import ModelImportEvaluationOp
from google_cloud_pipeline_components.types import artifact_types
from google_cloud_pipeline_components.v1.custom_job import (
    CustomTrainingJobOp,
    create_custom_training_job_from_component,
)
from google_cloud_pipeline_components.v1.endpoint import EndpointCreateOp, ModelDeployOp, ModelUndeployOp
from google_cloud_pipeline_components.v1.model import ModelUploadOp
from google_cloud_pipeline_components.v1.wait_gcp_resources import WaitGcpResourcesOp
from kfp import compiler, dsl

TRAINING = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
SERVING = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
LOCATION = "us-central1"
WHICH, PROJECT, BUCKET, OUT = sys.argv[1:]
MODEL = f"gs://{BUCKET}/trained"
PROGRAM = f"""
import pathlib, joblib
from sklearn.dummy import DummyClassifier
folder = pathlib.Path("/gcs/{BUCKET}/trained")
folder.mkdir(parents=True, exist_ok=True)
joblib.dump(DummyClassifier(strategy="constant", constant=7).fit([[0]], [7]), folder / "model.joblib")
"""


@dsl.component(base_image="python:3.11")
def double(number: int) -> int:
    return 2 * number


def training_job(name: str, program: str) -> dsl.PipelineTask:
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": "1",
        "container_spec": {"image_uri": TRAINING, "command": ["python3", "-c", program]},
    }
    return CustomTrainingJobOp(project=PROJECT, location=LOCATION, display_name=name, worker_pool_specs=[pool])


@dsl.pipeline(name="endless")
def endless() -> None:
    training_job("endless", "import time; time.sleep(3600)")


@dsl.pipeline(name="waiting")
def waiting() -> None:
    trained = training_job("quick", "pass")
    WaitGcpResourcesOp(gcp_resources=trained.outputs["gcp_resources"])


@dsl.pipeline(name="loop")
def loop(number: int = 21) -> None:
    trained = training_job("train", PROGRAM)
    doubled = create_custom_training_job_from_component(double, display_name="double", machine_type="n1-standard-4")(
        project=PROJECT, location=LOCATION, number=number
    )
    doubled.after(trained)
    artifact = dsl.importer(
        artifact_uri=MODEL,
        artifact_class=artifact_types.UnmanagedContainerModel,
        metadata={"containerSpec": {"imageUri": SERVING}},
    ).after(trained)
    uploaded = ModelUploadOp(
        project=PROJECT, location=LOCATION, display_name="sevens", unmanaged_container_model=artifact.output
    )
    measured = dsl.importer(artifact_uri=f"gs://{BUCKET}/metrics.json", artifact_class=dsl.Metrics)
    ModelImportEvaluationOp(
        model=uploaded.outputs["model"],
        metrics=measured.output,
        problem_type="classification",
        display_name="measured elsewhere",
    )
    endpoint = EndpointCreateOp(project=PROJECT, location=LOCATION, display_name="sevens")
    deployed = ModelDeployOp(
        model=uploaded.outputs["model"],
        endpoint=endpoint.outputs["endpoint"],
        dedicated_resources_machine_type="n1-standard-2",
        dedicated_resources_min_replica_count=1,
        dedicated_resources_max_replica_count=1,
        traffic_split={"0": 100},
    )
    ModelUndeployOp(model=uploaded.outputs["model"], endpoint=endpoint.outputs["endpoint"]).after(deployed)


compiler.Compiler().compile({"loop": loop, "endless": endless, "waiting": waiting}[WHICH], OUT)
