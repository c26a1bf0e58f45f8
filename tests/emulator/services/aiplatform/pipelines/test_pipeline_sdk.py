"""What the documentation teaches of pipelines, as a script of a user's, unchanged over gRPC and REST."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import Emulator

SCRIPT = '''
import sys
from google.cloud import aiplatform, storage
from kfp import compiler, dsl

project, transport, folder = sys.argv[1:]
bucket = storage.Client(project=project).create_bucket(f"{project}-pipelines")
aiplatform.init(project=project, location="us-central1", staging_bucket=bucket.name, api_transport=transport)

@dsl.component(base_image="python:3.11", packages_to_install=["google-cloud-aiplatform", "google-cloud-storage"])
def look(
    project: str, bucket: str, location: str, note: dsl.Output[dsl.Artifact], metrics: dsl.Output[dsl.Metrics]
) -> str:
    """A step that builds clients of its own, one at the explicit regional endpoint."""
    from google.cloud import aiplatform_v1, storage
    storage.Client(project=project).bucket(bucket).blob("from-a-step").upload_from_string("hello")
    client = aiplatform_v1.PipelineServiceClient(
        client_options={"api_endpoint": f"{location}-aiplatform.googleapis.com"}
    )
    jobs = client.list_pipeline_jobs(parent=f"projects/{project}/locations/{location}")
    metrics.log_metric("jobs", len(list(jobs)))
    with open(note.path, "w") as file:
        file.write("seen")
    return storage.Client(project=project).bucket(bucket).blob("from-a-step").download_as_text()

@dsl.component(base_image="python:3.11")
def refuse(why: str):
    raise RuntimeError(why)

@dsl.pipeline(name="looking")
def looking(project: str, bucket: str, location: str = "us-central1"):
    look(project=project, bucket=bucket, location=location)

@dsl.pipeline(name="refusing")
def refusing(why: str = "no"):
    refuse(why=why)

for pipeline in (looking, refusing):
    compiler.Compiler().compile(pipeline, f"{folder}/{pipeline.name}.yaml")
bucket.blob("templates/looking.yaml").upload_from_filename(f"{folder}/looking.yaml")

def job(template, **more):
    return aiplatform.PipelineJob(
        display_name="mine", template_path=template, pipeline_root=f"gs://{bucket.name}/root",
        labels={"team": "ml"}, **more
    )

values = {"project": project, "bucket": bucket.name}
first = job(f"{folder}/looking.yaml", parameter_values=values)
first.submit(experiment="looking-around")
first.wait()
told = first.task_details[-1]
print(">", repr(("first", first.state.name, dict(told.execution.metadata), first.has_failed)))
print(">", repr(("experiment", first.get_associated_experiment().name)))
print(">", repr(("name", first.name.startswith("looking-20"))))
frame = aiplatform.get_experiment_df("looking-around")
print(">", repr(("frame", frame["run_type"].tolist(), frame["param.location"].tolist(), frame["metric.jobs"].tolist())))

second = job(f"gs://{bucket.name}/templates/looking.yaml", parameter_values=values, enable_caching=True)
second.run(service_account="me@example.iam.gserviceaccount.com")
print(">", repr(("second", [task.state.name for task in second.task_details], second.gca_resource.service_account)))

third = first.clone(job_id="again", display_name="clone")
third.run(sync=True)
print(">", repr(("clone", third.state.name, third.name)))

failing = job(f"{folder}/refusing.yaml", parameter_values={"why": "it must"}, failure_policy="fast")
try:
    failing.run()
except RuntimeError as error:
    print(">", repr(("failing", "The failed tasks are: [refuse]" in str(error), failing.has_failed)))

try:
    job(f"{folder}/looking.yaml", parameter_values={"project": project}).submit()
except Exception as error:
    print(">", repr(("missing", "The required input parameter 'bucket' is missing" in str(error))))
try:
    job(f"{folder}/looking.yaml", parameter_values={**values, "colour": "red"}).submit()
except ValueError as error:
    print(">", repr(("unknown", "colour" in str(error))))

fetched = aiplatform.PipelineJob.get("again")
print(">", repr(("fetched", fetched.display_name, fetched.state.name)))
simple = aiplatform.PipelineJob.list(filter='display_name="clone"', enable_simple_view=True)
print(">", repr(("listed", [one.name for one in simple])))
fetched.delete()
print(">", repr(("deleted", [one.name for one in aiplatform.PipelineJob.list(filter='display_name="clone"')])))
'''


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_pipelines_are_submitted_waited_for_and_done_again(
    emulator: Emulator, project: str, tmp_path: Path, transport: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    ran = emulator.run(sys.executable, str(program), project, transport, str(tmp_path), timeout=240)
    assert ran.returncode == 0, ran.stderr
    told = {line[0]: line[1:] for line in map(ast.literal_eval, _marked(ran.stdout))}
    assert told["first"] == (
        "PIPELINE_STATE_SUCCEEDED",
        {
            "input:project": project,
            "input:bucket": f"{project}-pipelines",
            "input:location": "us-central1",
            "output:Output": "hello",
        },
        False,
    )
    assert told["experiment"] == ("looking-around",)
    assert told["name"] == (True,)
    assert told["frame"] == (["system.PipelineRun"], ["us-central1"], [1.0])
    assert told["second"] == (["SUCCEEDED", "SKIPPED"], "me@example.iam.gserviceaccount.com")
    assert told["clone"] == ("PIPELINE_STATE_SUCCEEDED", "again")
    assert told["failing"] == (True, True)
    assert told["missing"] == (True,)
    assert told["unknown"] == (True,)
    assert told["fetched"] == ("clone", "PIPELINE_STATE_SUCCEEDED")
    assert told["listed"] == (["again"],)
    assert told["deleted"] == ([],)


def _marked(output: str) -> list[str]:
    return [line[2:] for line in output.splitlines() if line.startswith("> ")]
