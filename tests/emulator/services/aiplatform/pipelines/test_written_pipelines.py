"""Pipelines written for Vertex AI, run unchanged: the tree of tasks, the artifacts and values, field by field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.cloud.aiplatform_v1 import PipelineState, PipelineTaskDetail

from tests.emulator.services.aiplatform.pipelines.conftest import (
    Pipelines,
    compiled,
    failures,
    outputs,
    plain,
    tasks,
    tree,
)
from tests.emulator.services.aiplatform.pipelines.written import promotion, sweep

SUCCEEDED, NOT_TRIGGERED = "SUCCEEDED", "NOT_TRIGGERED"


def test_promotion_shows_each_task_with_what_went_in_and_came_out(both: Pipelines, tmp_path: Path) -> None:
    started = datetime.now(UTC)
    job = both.run(compiled(promotion.promotion, tmp_path), rows=20)
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED, failures(job)
    handler = "exit-handler-1"
    branches = f"{handler}.condition-branches-2"
    assert tree(job) == {
        handler: SUCCEEDED,
        f"{handler}.make-data": SUCCEEDED,
        f"{handler}.train": SUCCEEDED,
        branches: SUCCEEDED,
        f"{branches}.condition-3": SUCCEEDED,
        f"{branches}.condition-3.register": SUCCEEDED,
        f"{branches}.condition-4": NOT_TRIGGERED,
        f"{branches}.condition-4.reject": NOT_TRIGGERED,
        f"{handler}.announce": SUCCEEDED,
        "tell": SUCCEEDED,
    }
    assert outputs(job) == {
        f"{handler}.train": {"accuracy": 0.7, "labels": ["no", "yes"]},
        branches: {"pipelinechannel--condition-branches-2-oneof-1": "champion:model:none"},
        f"{branches}.condition-3": {"pipelinechannel--register-Output": "champion:model:none"},
        f"{branches}.condition-3.register": {"Output": "champion:model:none"},
        f"{handler}.announce": {"Output": "CHAMPION:MODEL:NONE"},
        "tell": {"Output": "team: SUCCEEDED everything None"},
    }
    _check_run(both, job.name.rpartition("/")[2], tasks(job), started)


def _check_run(both: Pipelines, job_id: str, found: dict[str, PipelineTaskDetail], started: datetime) -> None:
    root, handler = found[job_id], found["exit-handler-1"]
    number = root.execution.name.split("/")[1]
    store = f"projects/{number}/locations/us-central1/metadataStores/default"
    assert (root.task_name, root.parent_task_id, root.execution.schema_title) == (job_id, 0, "system.Run")
    assert (handler.parent_task_id, handler.execution.schema_title) == (root.task_id, "system.DagExecution")
    made, trained = found["exit-handler-1.make-data"], found["exit-handler-1.train"]

    assert made.task_name == "make-data"
    assert made.parent_task_id == handler.task_id
    assert made.execution.name == f"{store}/executions/{abs(made.task_id)}"
    assert (made.execution.schema_title, made.execution.schema_version) == ("system.ContainerExecution", "0.0.1")
    assert (made.execution.display_name, made.execution.state.name) == ("Make the data", "COMPLETE")
    assert plain(made)["execution"]["metadata"] == {"input:rows": 20.0}
    assert [status.state.name for status in made.pipeline_task_status] == ["PENDING", "RUNNING", "SUCCEEDED"]
    times: list[Any] = [started, made.create_time, made.start_time, made.end_time, trained.create_time]
    assert times == sorted(times)
    assert made.executor_detail.container_detail.main_job.startswith(f"projects/{number}/locations/us-central1/cust")
    (data,) = made.outputs["data"].artifacts
    folder = f"{both.root}/{number}/{job_id}"
    assert data.uri == f"{folder}/make-data_{made.task_id}/data"
    assert (data.display_name, data.schema_title, data.schema_version) == ("data", "system.Dataset", "0.0.1")
    assert data.state.name == "LIVE"
    assert plain(data)["metadata"] == {"rows": 20.0, "columns": ["x", "y"]}
    assert both.text(data.uri).splitlines()[:2] == ["x,y", "0,0"]

    assert [artifact.name for artifact in trained.inputs["data"].artifacts] == [data.name]
    metadata: dict[str, Any] = {
        key: plain(listed.artifacts[0]).get("metadata") for key, listed in trained.outputs.items()
    }
    titles = {key: listed.artifacts[0].schema_title for key, listed in trained.outputs.items()}
    assert titles == {
        "model": "system.Model",
        "metrics": "system.Metrics",
        "matrix": "system.ClassificationMetrics",
        "slices": "system.SlicedClassificationMetrics",
        "page": "system.HTML",
        "notes": "system.Markdown",
    }
    assert metadata["model"] == {"framework": "none"}
    assert metadata["metrics"] == {"accuracy": 0.7}
    assert metadata["matrix"]["confusionMatrix"] == {
        "annotationSpecs": [{"displayName": "no"}, {"displayName": "yes"}],
        "rows": [{"row": [3.0, 1.0]}, {"row": [2.0, 4.0]}],
    }
    assert [one["confidenceThreshold"] for one in metadata["matrix"]["confidenceMetrics"]] == [1.0, 0.0]
    (young,) = metadata["slices"]["evaluationSlices"]
    assert young == {"slice": "young", "sliceClassificationMetrics": metadata["matrix"]}
    model = trained.outputs["model"].artifacts[0]
    assert json.loads(both.text(f"{model.uri}/model.json")) == {
        "rows": 20, "options": {"depth": 3, "names": ["a"]}, "uri": data.uri, "of": {"rows": 20, "columns": ["x", "y"]},
    }  # fmt: skip
    assert both.text(trained.outputs["page"].artifacts[0].uri) == "<h1>report</h1>"
    left = json.loads(both.text(f"{folder}/train_{trained.task_id}/executor_output.json"))
    assert left["parameterValues"] == {"accuracy": 0.7, "labels": ["no", "yes"]}


def test_rejection_takes_the_other_branch(pipelines: Pipelines, tmp_path: Path) -> None:
    job = pipelines.run(compiled(promotion.promotion, tmp_path), rows=5, who="the team", threshold=0.9)
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED, failures(job)
    handler = "exit-handler-1"
    branches = f"{handler}.condition-branches-2"
    seen = tree(job)
    assert (seen[f"{branches}.condition-3"], seen[f"{branches}.condition-4"]) == (NOT_TRIGGERED, SUCCEEDED)
    assert outputs(job)[f"{handler}.announce"] == {"Output": "ACCURACY 0.55 OF THE TEAM"}
    assert outputs(job)["tell"] == {"Output": "the team: SUCCEEDED everything None"}


def test_sweep_goes_through_loops_inside_loops_and_gathers(pipelines: Pipelines, tmp_path: Path) -> None:
    job = pipelines.run(compiled(sweep.sweep, tmp_path), most=2)
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED, failures(job)
    loop = "for-loop-1"
    expected = {"widths", "importer", "best", "joined", loop, "for-loop-5"}
    for width in range(2):
        inner = f"{loop}.{loop}-worker-{width}"
        expected |= {inner, f"{inner}.row", f"{inner}.row.score", f"{inner}.text", f"{inner}.total"}
        expected |= {f"{inner}.for-loop-3"}
        for depth in range(3):
            one = f"{inner}.for-loop-3.for-loop-3-worker-{depth}"
            expected |= {one, f"{one}.score"}
        one = f"for-loop-5.for-loop-5-worker-{width}"
        expected |= {one, f"{one}.score-2", f"{one}.text-2"}
    assert tree(job) == dict.fromkeys(expected, SUCCEEDED)

    left = outputs(job)
    assert left["widths"] == {"Output": [{"width": 1.0, "label": "w1"}, {"width": 2.0, "label": "w2"}]}
    for width in range(2):
        inner = f"{loop}.{loop}-worker-{width}"
        scores = [(width + 1.0) * depth for depth in (1, 2, 3)]
        assert left[f"{inner}.for-loop-3"] == {"pipelinechannel--score-Output": scores}
        assert left[f"{inner}.total"] == {"Output": sum(scores)}
        assert left[f"{inner}.text"] == {"Output": f"w{width + 1}:{width + 1}x10"}
    assert left["for-loop-5"] == {
        "pipelinechannel--score-2-Output": [8.0, 10.0],
        "pipelinechannel--text-2-Output": ["flat:2x4", "flat:2x5"],
    }
    assert left["best"] == {"Output": "flat:2x5 of 2"}
    assert left["joined"] == {"Output": "flat:2x4|flat:2x5 from gs://somewhere/else by hand"}

    found = tasks(job)
    gathered = found["for-loop-5"].outputs["pipelinechannel--score-2-result"].artifacts
    assert [artifact.uri for artifact in found["best"].inputs["results"].artifacts] == [one.uri for one in gathered]
    assert [plain(artifact)["metadata"] for artifact in gathered] == [{"area": 8.0}, {"area": 10.0}]
    imported = found["importer"]
    assert imported.execution.schema_title == "system.ImporterExecution"
    assert not imported.executor_detail.container_detail.main_job
    (artifact,) = imported.outputs["artifact"].artifacts
    assert (artifact.uri, artifact.schema_title) == ("gs://somewhere/else", "system.Artifact")
    assert plain(artifact)["metadata"] == {"by": "hand", "n": 3.0}


def test_importer_takes_the_artifact_that_there_is(pipelines: Pipelines, tmp_path: Path) -> None:
    document = compiled(sweep.sweep, tmp_path)

    def imported() -> str:
        job = pipelines.run(document, most=0)
        return tasks(job)["importer"].outputs["artifact"].artifacts[0].name

    first = imported()
    assert imported() == first
    document["deploymentSpec"]["executors"]["exec-importer"]["importer"]["reimport"] = True
    assert imported() != first


def test_loop_over_an_empty_list_succeeds(pipelines: Pipelines, tmp_path: Path) -> None:
    job = pipelines.run(compiled(sweep.sweep, tmp_path), most=0)
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED, failures(job)
    assert not [path for path in tree(job) if path.startswith("for-loop-1.")]
