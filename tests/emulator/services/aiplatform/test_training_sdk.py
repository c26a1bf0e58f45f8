"""What the documentation teaches of custom training, as a script of a user's, unchanged over gRPC and REST."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import Emulator

TRAINER = """
import argparse, json, os, pandas
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
arguments = parser.parse_args()
cluster = json.loads(os.environ["CLUSTER_SPEC"])
if cluster["task"]["type"] == "workerpool0":
    folder = os.environ["AIP_MODEL_DIR"].replace("gs://", "/gcs/")
    os.makedirs(folder, exist_ok=True)
    seen = {
        "epochs": arguments.epochs, "colour": os.environ.get("COLOUR"), "pools": sorted(cluster["cluster"]),
        "logs": os.environ["AIP_TENSORBOARD_LOG_DIR"],
    }
    with open(folder + "seen.json", "w") as file:
        json.dump(seen, file)
"""
SCRIPT = """
import json, sys
from google.api_core.exceptions import BadRequest
from google.cloud import aiplatform, storage

project, transport, trainer, image = sys.argv[1:]
bucket = storage.Client(project=project).create_bucket(f"{project}-staging")
aiplatform.init(project=project, location="us-central1", staging_bucket=bucket.name, api_transport=transport)

def show(name, folder):
    print(">", repr((name, json.loads(bucket.blob(f"{folder}/model/seen.json").download_as_text()))))

script = aiplatform.CustomTrainingJob(
    display_name="script", script_path=trainer, container_uri=image, requirements=["pandas>=2", "numpy"],
    labels={"team": "ml"},
)
script.run(
    args=["--epochs=1"], environment_variables={"COLOUR": "red"}, base_output_dir=f"gs://{bucket.name}/script",
    machine_type="n1-standard-8", accelerator_type="NVIDIA_TESLA_T4", accelerator_count=1, boot_disk_size_gb=200,
    replica_count=2, service_account="trainer@example.iam.gserviceaccount.com", timeout=600,
    restart_job_on_worker_restart=True, disable_retries=True, enable_web_access=False, sync=False,
)

container = aiplatform.CustomContainerTrainingJob(
    display_name="container", container_uri=image, command=["python3", "-c", open(trainer).read()],
)
container.run(args=["--epochs", "2"], base_output_dir=f"gs://{bucket.name}/container", sync=False)

job = aiplatform.CustomJob.from_local_script(
    display_name="job", script_path=trainer, container_uri=image, args=["--epochs=3"], requirements=["pandas"],
    environment_variables={"COLOUR": "blue"}, base_output_dir=f"gs://{bucket.name}/job",
)
job.run(timeout=600, scheduling_strategy=aiplatform.gapic.Scheduling.Strategy.SPOT, sync=False)

for pending in (script, container, job):
    pending.wait()
for name in ("script", "container", "job"):
    show(name, name)
spec = job._gca_resource.job_spec
print(">", repr(("strategy", spec.scheduling.strategy.name)))
print(">", repr(("state", script.state.name, dict(script._gca_resource.labels))))
found = aiplatform.CustomTrainingJob.list(filter='display_name="script" AND labels.team="ml"')
print(">", repr(("listed", [one.display_name for one in found])))

foreign = aiplatform.CustomContainerTrainingJob(display_name="foreign", container_uri="gcr.io/some/image:v1")
try:
    foreign.run()
except RuntimeError as error:
    print(">", repr(("foreign", str(error).splitlines()[:2], "Only Docker could run it" in str(error))))

try:
    aiplatform.CustomJob(display_name="kept", worker_pool_specs=spec.worker_pool_specs).run(
        persistent_resource_id="mine"
    )
except BadRequest as error:
    print(">", repr(("persistent", error.code.value, 'PersistentResource "mine"' in str(error))))
"""


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_every_kind_of_custom_training_runs(emulator: Emulator, project: str, tmp_path: Path, transport: str) -> None:
    trainer, program = tmp_path / "task.py", tmp_path / "program.py"
    trainer.write_text(TRAINER)
    program.write_text(SCRIPT)
    image = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
    ran = emulator.run(sys.executable, str(program), project, transport, str(trainer), image, timeout=120)
    assert ran.returncode == 0, ran.stderr
    told = {line[0]: line[1:] for line in map(ast.literal_eval, _marked(ran.stdout))}
    folder = f"gs://{project}-staging"
    (script,), (container,), (job,) = told["script"], told["container"], told["job"]
    assert (script["epochs"], script["colour"], script["logs"]) == (1, "red", f"{folder}/script/logs/")
    assert script["pools"] == ["workerpool0", "workerpool1"]
    assert (container["epochs"], container["colour"], container["pools"]) == (2, None, ["workerpool0"])
    assert (job["epochs"], job["colour"]) == (3, "blue")
    assert told["strategy"] == ("SPOT",)
    assert told["state"] == ("PIPELINE_STATE_SUCCEEDED", {"team": "ml"})
    assert told["listed"] == (["script"],)
    assert told["foreign"] == (["Training failed with:", "code: 9"], True)
    assert told["persistent"] == (400, True)


def _marked(output: str) -> list[str]:
    return [line[2:] for line in output.splitlines() if line.startswith("> ")]
