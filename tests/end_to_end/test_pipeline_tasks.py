"""The repository's own training pipeline through its tasks: compiled, run, looked at, compared, scheduled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1 import MetadataServiceClient, PipelineServiceClient

from ops.config import ROOT
from tests.conftest import Emulator

TASK_SECONDS = 240
LINEAGE = """
import json
from google.cloud import aiplatform
aiplatform.init(project="pipeline-tasks", location="us-central1")
artifact = aiplatform.Artifact(aiplatform.Model("taxi-tips").gca_resource.metadata_artifact)
graph = artifact.api_client.query_artifact_lineage_subgraph(artifact=artifact.resource_name)
(run,) = [one for one in graph.executions if one.schema_title == "system.Run"]
print(json.dumps({"run": run.display_name, "parameters": dict(aiplatform.Execution(run.name).metadata)}, default=str))
"""
Task = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def running(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator of this module's own, since tasks name its project and its clock is moved."""
    from tests.conftest import start_emulator

    started = start_emulator(tmp_path_factory.mktemp("pipelines") / "state")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def inv(running: Emulator) -> Task:
    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = running.environment(SELFLOOP_STATE=str(running.state), SELFLOOP_PROJECT="pipeline-tasks")
        done = subprocess.run(
            [str(Path(sys.executable).with_name("inv")), *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TASK_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    run("init")
    return run


@pytest.fixture(scope="module")
def first(inv: Task) -> str:
    """The id of a run that registered and deployed the first version."""
    return inv("pipeline.run").stdout.strip()


def status(inv: Task, run: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(inv("pipeline.status", f"--run={run}", "--output=json").stdout)
    return told


def states(tasks: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for task in tasks:
        found[task["task"]] = task["state"]
        found |= states(task.get("tasks", []))
    return found


def test_pipeline_run_registers_and_deploys_the_first_version(inv: Task, first: str) -> None:
    told = status(inv, first)
    assert told["state"] == "SUCCEEDED"
    assert set(states(told["tasks"]).values()) == {"SUCCEEDED"}
    model = json.loads(inv("model.describe").stdout)
    assert [version["version_id"] for version in model["versions"]] == ["1"]
    assert model["versions"][0]["metrics"]["auRoc"] > 0.5
    assert len(inv("predict", "--rows=3").stdout.splitlines()) == 3
    # The version leads back to the run, and so to its parameters.
    lineage = json.loads(inv("emulator.exec", "--", sys.executable, "-c", LINEAGE).stdout)
    assert lineage["run"] == first
    assert lineage["parameters"]["input:model_id"] == "taxi-tips"
    # What the pipeline made is what the configuration declares.
    assert "no changes" in inv("plan").stdout


def test_run_shows_its_tasks_artifacts_and_lineage(running: Emulator, first: str) -> None:
    parent = "projects/pipeline-tasks/locations/us-central1"
    with running.exported():
        pipelines = running.client(PipelineServiceClient, transport="rest")
        metadata = running.client(MetadataServiceClient, transport="rest")
        job: Any = pipelines.get_pipeline_job(name=f"{parent}/pipelineJobs/{first}")
        context = job.job_detail.pipeline_run_context
        graph: Any = metadata.query_context_lineage_subgraph(context=context.name)
    tasks = {task.task_name: task for task in job.job_detail.task_details}
    kinds = {name: task.execution.schema_title for name, task in tasks.items()}
    dags = {"condition-1", "condition-2"}
    assert kinds.pop(first) == "system.Run"
    assert {kinds.pop(name) for name in dags} == {"system.DagExecution"}
    assert set(kinds.values()) == {"system.ContainerExecution"}
    made = {
        (name, key): artifact
        for name, task in tasks.items()
        for key, listed in task.outputs.items()
        for artifact in listed.artifacts
    }
    assert {key: artifact.schema_title for key, artifact in made.items()} == {
        ("extract", "trips"): "system.Dataset",
        ("validate", "report"): "system.HTML",
        ("prepare", "train_rows"): "system.Dataset",
        ("prepare", "validation_rows"): "system.Dataset",
        ("prepare", "test_rows"): "system.Dataset",
        ("train", "model"): "system.Model",
        ("evaluate", "metrics"): "system.Metrics",
        ("evaluate", "classification"): "system.ClassificationMetrics",
        ("compare", "comparison"): "system.Metrics",
    }
    number = context.name.split("/")[1]
    for (name, key), artifact in made.items():
        folder = f"gs://pipeline-tasks-loop/pipelines/{number}/{first}/{name}_{tasks[name].task_id}"
        assert artifact.uri == f"{folder}/{key}"
        assert artifact.state.name == "LIVE"
    assert context.schema_title == "system.PipelineRun"
    experiment = job.job_detail.pipeline_context.name.rpartition("/")[0] + "/taxi-tips"
    assert set(context.parent_contexts) == {job.job_detail.pipeline_context.name, experiment}
    assert {artifact.name for artifact in made.values()} <= {artifact.name for artifact in graph.artifacts}
    assert {task.execution.name for task in tasks.values()} <= {execution.name for execution in graph.executions}
    model = made["train", "model"]
    events = {(event.execution, event.type_.name) for event in graph.events if event.artifact == model.name}
    assert (tasks["train"].execution.name, "OUTPUT") in events
    assert (tasks["evaluate"].execution.name, "INPUT") in events
    assert (tasks["compare"].execution.name, "INPUT") in events
    assert tasks["compare"].execution.metadata["output:accepted"] is True


def test_pipeline_status_is_a_tree_and_logs_are_a_tasks_own(inv: Task, first: str) -> None:
    tree = inv("pipeline.status").stdout
    assert f"{first} SUCCEEDED" in tree
    assert "accepted" in tree
    assert "deploy" in tree
    assert "there is no champion with a measure" in inv("pipeline.logs", "compare").stdout
    wrong = inv("pipeline.logs", "nothing", code=1)
    assert "the run has no task nothing; those with a log: " in wrong.stderr
    missing = inv("pipeline.status", "--run=nothing", code=1)
    assert "there is no run nothing" in missing.stderr


def test_second_run_takes_its_steps_from_the_cache_and_keeps_the_champion(inv: Task, first: str) -> None:
    second = inv("pipeline.run").stdout.strip()
    found = states(status(inv, second)["tasks"])
    assert {found[name] for name in ("extract", "validate", "prepare", "train", "evaluate")} == {"SKIPPED"}
    assert found["compare"] == "SUCCEEDED"
    assert found["register"] == found["deploy"] == "NOT_TRIGGERED"
    rows = json.loads(inv("pipeline.diff", first, second, "--output=json").stdout)
    by_name = {row["what"]: row for row in rows}
    assert by_name["compare.comparison.reason"]["second"] == "a tie: the champion stays"
    assert by_name["train state"] == {"what": "train state", "first": "SUCCEEDED", "second": "SKIPPED"}
    assert not {name for name in by_name if name.startswith("parameter")} - {"parameter labels"}  # Git's may change
    listed = json.loads(inv("pipeline.list", "--output=json").stdout)
    assert [row["run"] for row in listed] == [second, first]


def test_pipeline_runs_and_trainings_are_compared_side_by_side(inv: Task, first: str, tmp_path: Path) -> None:
    trained = inv("train").stdout.strip()
    assert "taxi-tips@" in trained
    plot = tmp_path / "plot.svg"
    compared = json.loads(inv("experiments.compare", f"--plot={plot}", "--output=json").stdout)
    states = {row["run"]: row["state"] for row in compared}
    assert states[first] == "COMPLETE"
    assert [run for run in states if not run.startswith("taxi-tips-training-")] == [compared[-1]["run"]]
    assert plot.read_text().startswith("<svg ")
    refused = inv("experiments.compare", "--plot=plot.png", code=1)
    assert "name the file plot.svg" in refused.stderr
    (listed,) = json.loads(inv("experiments.list", "--output=json").stdout)
    assert (listed["experiment"], listed["runs"], listed["state"]) == ("taxi-tips", len(compared), "COMPLETE")
    shown = inv("experiments.show", first).stdout
    assert "param.data_uri" in shown
    assert "system.PipelineRun" in shown
    wrong = inv("experiments.show", "nothing", code=1)
    assert "has no run nothing; runs: " in wrong.stderr


def test_pipeline_compile_writes_what_the_sdk_takes(inv: Task, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    assert inv("pipeline.compile", f"--out={path}").stdout.strip() == str(path)
    assert "PYTHONPATH" in path.read_text()


def test_pipeline_schedule_needs_a_declaration(inv: Task) -> None:
    refused = inv("pipeline.schedule", code=1)
    assert "pipelines.taxi-tips-training declares no schedule" in refused.stderr
    missing = inv("pipeline.schedule", "--pause", code=1)
    assert "has no schedule" in missing.stderr


def test_run_plan_changes_nothing(inv: Task) -> None:
    assert "a version that is better by 0 in auc_roc is registered" in inv("pipeline.run", "--plan").stdout
