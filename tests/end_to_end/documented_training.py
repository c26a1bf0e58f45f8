"""Every way to train that the documentation teaches, as a user would write it: nothing in it knows of an emulator.

python documented_training.py PROJECT FOLDER grpc|rest

FOLDER is where packages are built. Each part prints `told NAME JSON`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import google.auth
from google.auth.transport.requests import AuthorizedSession
from google.cloud import aiplatform, aiplatform_v1, storage
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value

project, folder, transport = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
location = "us-central1"
parent = f"projects/{project}/locations/{location}"
endpoint = f"{location}-aiplatform.googleapis.com"
image = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
serving_image = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
bucket = storage.Client(project=project).create_bucket(f"{project}-{transport}-training")
aiplatform.init(project=project, location=location, staging_bucket=f"gs://{bucket.name}", api_transport=transport)
options = {"client_options": {"api_endpoint": endpoint}, "transport": transport}
jobs = aiplatform_v1.JobServiceClient(**options)  # type: ignore[arg-type]  # as the samples pass them
pipelines = aiplatform_v1.PipelineServiceClient(**options)  # type: ignore[arg-type]
resources = aiplatform_v1.PersistentResourceServiceClient(**options)  # type: ignore[arg-type]

TASK = """
import argparse, csv, glob, json, os, joblib
from sklearn.linear_model import LinearRegression
parser = argparse.ArgumentParser()
parser.add_argument("--slope", type=float, default=1)
slope = parser.parse_args().slope
files = sorted(glob.glob(os.environ.get("AIP_TRAINING_DATA_URI", "none").replace("gs://", "/gcs/")))
rows = [row for name in files for row in csv.DictReader(open(name))]
model = LinearRegression().fit([[0], [1]], [0, slope])
folder = os.environ["AIP_MODEL_DIR"].replace("gs://", "/gcs/")
os.makedirs(folder, exist_ok=True)
joblib.dump(model, folder + "model.joblib")
logs = os.environ["AIP_TENSORBOARD_LOG_DIR"].replace("gs://", "/gcs/")
os.makedirs(logs, exist_ok=True)
open(logs + "events.out.tfevents.1", "w").write("loss")
seen = {"rows": len(rows), "format": os.environ.get("AIP_DATA_FORMAT"), "slope": slope}
open(folder + "seen.json", "w").write(json.dumps(seen))
print("trained with", slope)
"""
CLUSTER = """
import json, os
cluster = json.loads(os.environ["CLUSTER_SPEC"])
task, config = cluster["task"], json.loads(os.environ["TF_CONFIG"])
name = "/gcs/BUCKET/cluster/%s-%d.json" % (task["type"], task["index"])
os.makedirs(os.path.dirname(name), exist_ok=True)
open(name, "w").write(json.dumps([sorted(cluster["cluster"]), config["task"]["type"]]))
if task["type"] == "workerpool0":
    import glob, time
    while len(glob.glob("/gcs/BUCKET/cluster/*.json")) < 4:
        time.sleep(0.05)
"""


def tell(name: str, value: object) -> None:
    print("told", name, json.dumps(value))


def seen(prefix: str) -> Any:
    return json.loads(bucket.blob(f"{prefix}/model/seen.json").download_as_text())


def package() -> str:
    """A source distribution of a trainer package, built and uploaded as the guide says."""
    source = folder / "package"
    (source / "trainer").mkdir(parents=True)
    (source / "trainer" / "__init__.py").touch()
    (source / "trainer" / "task.py").write_text(TASK)
    (source / "setup.py").write_text(
        "from setuptools import find_packages, setup\n"
        "setup(name='trainer', version='0.1', packages=find_packages(), install_requires=['scikit-learn', 'joblib'])\n"
    )
    subprocess.run(
        [sys.executable, "setup.py", "sdist", "--formats=gztar"], cwd=source, check=True, capture_output=True
    )
    bucket.blob("trainer-0.1.tar.gz").upload_from_filename(str(source / "dist" / "trainer-0.1.tar.gz"))
    return f"gs://{bucket.name}/trainer-0.1.tar.gz"


def wait_for(get: Any, name: str) -> Any:
    while (found := get(name=name)).state.name.rpartition("_")[2] in {"PENDING", "RUNNING", "CANCELLING"}:
        time.sleep(0.1)
    return found


def pool(replicas: int = 1, program: str = "print('hello')") -> dict[str, Any]:
    return {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": replicas,
        "container_spec": {"image_uri": image, "command": ["python3", "-c"], "args": [program]},
    }


# ---- distributed training: four pools, which read CLUSTER_SPEC and TF_CONFIG
program = CLUSTER.replace("BUCKET", bucket.name)
spread = aiplatform.CustomJob(
    display_name="spread", worker_pool_specs=[pool(1, program), pool(1, program), pool(1, program), pool(1, program)]
)
spread.run(sync=False)

# ---- a persistent resource and a job on it
resources.create_persistent_resource(
    parent=parent,
    persistent_resource_id="kept",
    persistent_resource={"resource_pools": [{"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1}]},  # type: ignore[arg-type]
).result(timeout=60)
on_kept = aiplatform.CustomJob(display_name="on-kept", worker_pool_specs=[pool()])
on_kept.run(persistent_resource_id="kept", sync=False)
# ---- a training pipeline of a Python package, with a managed dataset and a model
package_uri = package()
lines = "".join(f"{n},{n % 7},{role}\n" for n, role in enumerate(["TRAIN"] * 6 + ["VALIDATE"] * 2 + ["TEST"] * 2))
bucket.blob("trips.csv").upload_from_string(f"x,y,role\n{lines}")
dataset = aiplatform.TabularDataset.create(display_name="trips", gcs_source=f"gs://{bucket.name}/trips.csv")
training = aiplatform.CustomPythonPackageTrainingJob(
    display_name="package",
    python_package_gcs_uri=package_uri,
    python_module_name="trainer.task",
    container_uri=image,
    model_serving_container_image_uri=serving_image,
)
model = training.run(
    dataset=dataset,
    predefined_split_column_name="role",
    base_output_dir=f"gs://{bucket.name}/package",
    args=["--slope=3"],
    model_display_name="line",
    sync=False,
)

# ---- the same by the generated client: inputs in camelCase, through a protobuf Value
inputs = {
    "workerPoolSpecs": [
        {
            "replicaCount": 1,
            "machineSpec": {"machineType": "n1-standard-4"},
            "pythonPackageSpec": {
                "executorImageUri": image,
                "packageUris": [package_uri],
                "pythonModule": "trainer.task",
                "args": ["--slope=4"],
            },
        }
    ],
    "baseOutputDirectory": {"outputUriPrefix": f"gs://{bucket.name}/generated"},
}
pipeline = pipelines.create_training_pipeline(
    parent=parent,
    training_pipeline={
        "display_name": "generated",
        "training_task_definition": (
            "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"
        ),
        "training_task_inputs": json_format.ParseDict(inputs, Value()),
        "model_to_upload": {"display_name": "line", "container_spec": {"image_uri": serving_image}},
    },  # type: ignore[arg-type]  # as the samples write it
)
ended = wait_for(pipelines.get_training_pipeline, pipeline.name)
tell("generated", [ended.state.name, seen("generated")["slope"], ended.model_to_upload.version_id])
pipelines.delete_training_pipeline(name=pipeline.name).result(timeout=30)

# ---- custom jobs by the generated client: create, get, list, cancel, delete
created = jobs.create_custom_job(
    parent=parent,
    custom_job={"display_name": "slow", "job_spec": {"worker_pool_specs": [pool(1, "import time; time.sleep(600)")]}},  # type: ignore[arg-type]
)
jobs.cancel_custom_job(name=created.name)
cancelled = wait_for(jobs.get_custom_job, created.name)
listed = [
    job.display_name for job in jobs.list_custom_jobs(request={"parent": parent, "filter": 'display_name="slow"'})
]
jobs.delete_custom_job(name=created.name).result(timeout=30)
tell("generated_job", [cancelled.state.name, cancelled.error.message, listed])

# ---- REST, by hand
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = AuthorizedSession(credentials)
body = {
    "displayName": "by-hand",
    "jobSpec": {
        "workerPoolSpecs": [
            {
                "machineSpec": {"machineType": "n1-standard-4"},
                "replicaCount": "1",
                "containerSpec": {"imageUri": image, "command": ["false"]},
            }
        ]
    },
}
answer = session.post(f"https://{endpoint}/v1/{parent}/customJobs", json=body, timeout=60)
state, url = answer.json()["state"], f"https://{endpoint}/v1/{answer.json()['name']}"
while (job := session.get(url, timeout=60).json())["state"] in {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}:
    time.sleep(0.1)
deleted = session.delete(url, timeout=60).json()
tell("rest", [state, job["state"], job["error"]["code"], deleted["done"], session.get(url, timeout=60).status_code])

# ---- what was started above
for started in (spread, on_kept, training):
    started.wait()  # type: ignore[no-untyped-call]
found = {
    blob.name.rpartition("/")[2]: json.loads(blob.download_as_text()) for blob in bucket.list_blobs(prefix="cluster/")
}
ordered = [job.display_name for job in aiplatform.CustomJob.list(order_by="create_time")]
tell("spread", [spread.state.name, found, ordered])
tell("persistent", [on_kept.state.name, on_kept._gca_resource.job_spec.persistent_resource_id])
assert model is not None
logs = [blob.name for blob in bucket.list_blobs(prefix="package/logs/")]
tell("package", [seen("package"), model.version_id, model.display_name, logs])
