"""Hyperparameter tuning jobs through the official clients: each trial's program really runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, MethodNotImplemented, NotFound
from google.cloud import aiplatform
from google.cloud.aiplatform import hyperparameter_tuning as hpt
from google.cloud.aiplatform_v1 import HyperparameterTuningJob, JobServiceClient, JobState, Trial

from tests.conftest import LOCATION, Emulator, require_program, wait_until

PREBUILT = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
FINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)
#: Reports -(x - 3)² and where it found itself, by the reporter that users import.
PARABOLA = """
import argparse, hypertune, json, os
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--units", type=int, default=0)
parser.add_argument("--kind", default="")
given = parser.parse_args()
reporter = hypertune.HyperTune()
for step, share in ((1, 0.5), (2, 1.0)):
    reporter.report_hyperparameter_tuning_metric("score", share * (1 - (given.x - 3) ** 2), step)
names = ["CLOUD_ML_TRIAL_ID", "CLOUD_ML_HP_METRIC_TAG", "AIP_MODEL_DIR"]
print(json.dumps({name: os.environ.get(name) for name in names} | vars(given)))
print("trial", json.loads(os.environ["CLUSTER_SPEC"])["task"]["trial"])
"""


@pytest.fixture(params=["grpc", "rest"])
def jobs(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[JobServiceClient]:
    with emulator.client(JobServiceClient, transport=request.param) as client:
        yield client


def tuning_job(program: str, parameters: list[dict[str, Any]], **fields: Any) -> HyperparameterTuningJob:
    """A job whose trials run a Python program. study: more fields of its StudySpec, in `fields`."""
    study = {"metrics": [{"metric_id": "score", "goal": "MAXIMIZE"}], "parameters": parameters} | fields.pop(
        "study", {}
    )
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "container_spec": {"image_uri": PREBUILT, "command": ["python3", "-c", program]},
    }
    spec = {"worker_pool_specs": [pool], **fields.pop("spec", {})}
    counts = {"max_trial_count": 4, "parallel_trial_count": 2} | fields
    return HyperparameterTuningJob(display_name="tune", study_spec=study, trial_job_spec=spec, **counts)


def number(name: str, low: float = 0.0, high: float = 6.0, **more: Any) -> dict[str, Any]:
    return {"parameter_id": name, "double_value_spec": {"min_value": low, "max_value": high}, **more}


def finished(jobs: JobServiceClient, name: str) -> HyperparameterTuningJob:
    def look() -> HyperparameterTuningJob | None:
        job = jobs.get_hyperparameter_tuning_job(name=name)
        return job if job.state in FINAL else None

    job = wait_until(look, 60)
    assert isinstance(job, HyperparameterTuningJob)
    return job


def values(trial: Trial) -> dict[str, Any]:
    return {parameter.parameter_id: parameter.value for parameter in trial.parameters}


def test_create_hyperparameter_tuning_job_runs_each_trial(jobs: JobServiceClient, parent: str) -> None:
    given = tuning_job(PARABOLA, [number("x")])
    created = jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given)
    assert created.state == JobState.JOB_STATE_PENDING
    assert not created.trials

    job = finished(jobs, created.name)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.id for trial in job.trials] == ["1", "2", "3", "4"]
    for trial in job.trials:
        x = values(trial)["x"]
        assert trial.state == Trial.State.SUCCEEDED
        assert 0 <= x <= 6
        assert [m.step_count for m in trial.measurements] == [1, 2]
        assert trial.final_measurement.metrics[0].metric_id == "score"
        assert trial.final_measurement.metrics[0].value == pytest.approx(1 - (x - 3) ** 2)
        child = jobs.get_custom_job(name=trial.custom_job)
        assert child.display_name == f"tune_{trial.id}"
        assert child.job_spec.worker_pool_specs[0].container_spec.args == [f"--x={x!r}"]


def test_grid_search_tries_each_point_once(jobs: JobServiceClient, parent: str) -> None:
    parameters: list[dict[str, Any]] = [
        {"parameter_id": "x", "discrete_value_spec": {"values": [1, 2.5]}},
        {"parameter_id": "kind", "categorical_value_spec": {"values": ["a", "b"]}},
    ]
    given = tuning_job(PARABOLA, parameters, study={"algorithm": "GRID_SEARCH"}, max_trial_count=9)
    job = finished(jobs, jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    points = [tuple(values(trial).values()) for trial in job.trials]
    assert points == [(1, "a"), (1, "b"), (2.5, "a"), (2.5, "b")]


def test_trial_without_a_report_is_infeasible(jobs: JobServiceClient, parent: str) -> None:
    program = PARABOLA.replace("for step", "if given.x > 2: raise SystemExit(0)\nfor step")
    grid = [{"parameter_id": "x", "discrete_value_spec": {"values": [1, 3]}}]
    given = tuning_job(program, grid, study={"algorithm": "GRID_SEARCH"})
    job = finished(jobs, jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.state for trial in job.trials] == [Trial.State.SUCCEEDED, Trial.State.INFEASIBLE]
    assert job.trials[1].infeasible_reason == "The trial ended without a report of score."


def test_job_fails_after_too_many_failed_trials(jobs: JobServiceClient, parent: str) -> None:
    given = tuning_job("raise SystemExit(3)", [number("x")], parallel_trial_count=1, max_failed_trial_count=2)
    job = finished(jobs, jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name)
    assert job.state == JobState.JOB_STATE_FAILED
    assert job.error.message.startswith("Too many trials failed: 2 of 2.")
    assert "non-zero status of 3" in job.trials[0].infeasible_reason


def test_median_stopping_ends_a_trial_that_falls_behind(jobs: JobServiceClient, parent: str) -> None:
    program = """
import argparse, hypertune, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
x = parser.parse_args().x
reporter = hypertune.HyperTune()
for step in range(1, 4 if x == 2 else 600):
    reporter.report_hyperparameter_tuning_metric("score", x, step)
    time.sleep(0.1 if x == 1 else 0)
"""
    study = {"algorithm": "GRID_SEARCH", "median_automated_stopping_spec": {}}
    grid = [{"parameter_id": "x", "discrete_value_spec": {"values": [1, 2]}}]
    given = tuning_job(program, grid, study=study, parallel_trial_count=2)
    job = finished(jobs, jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    slow = job.trials[0]
    assert slow.state == Trial.State.SUCCEEDED
    assert slow.final_measurement.step_count < 599
    assert jobs.get_custom_job(name=slow.custom_job).state == JobState.JOB_STATE_CANCELLED


def test_cancel_ends_trials_and_job(jobs: JobServiceClient, parent: str) -> None:
    given = tuning_job("import time; time.sleep(600)", [number("x")])
    name = jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name
    wait_until(lambda: len(jobs.get_hyperparameter_tuning_job(name=name).trials) == 2)
    with pytest.raises(BadRequest, match="cancel it before deleting it"):
        jobs.delete_hyperparameter_tuning_job(name=name)
    jobs.cancel_hyperparameter_tuning_job(name=name)
    job = finished(jobs, name)
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert [trial.state for trial in job.trials] == [Trial.State.INFEASIBLE] * 2
    assert {jobs.get_custom_job(name=trial.custom_job).state for trial in job.trials} == {JobState.JOB_STATE_CANCELLED}
    jobs.cancel_hyperparameter_tuning_job(name=name)
    jobs.delete_hyperparameter_tuning_job(name=name).result(timeout=20)
    with pytest.raises(NotFound, match="HyperparameterTuningJob"):
        jobs.get_hyperparameter_tuning_job(name=name)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"max_trial_count": 0}, "max_trial_count"),
        ({"parallel_trial_count": 9}, "more parallel trials"),
        ({"study": {"metrics": []}}, "study_spec.metrics"),
        ({"study": {"parameters": []}}, "study_spec.parameters"),
        ({"study": {"parameters": [{"parameter_id": "x"}]}}, "parameter_value_spec"),
        ({"study": {"parameters": [number("x", 2, 1)]}}, "min_value must not be greater"),
        ({"study": {"parameters": [number("x", 0, 1, scale_type="UNIT_LOG_SCALE")]}}, "values above 0"),
        ({"study": {"parameters": [number("x"), number("x")]}}, "is there twice"),
        ({"study": {"algorithm": "GRID_SEARCH"}}, "A grid search takes"),
        ({"spec": {"worker_pool_specs": [{}]}}, "trial_job_spec.worker_pool_specs"),
    ],
)
def test_create_with_a_wrong_field_is_refused(
    jobs: JobServiceClient, parent: str, change: dict[str, Any], found: str
) -> None:
    given = tuning_job("pass", [number("x")], **change)
    with pytest.raises(BadRequest, match=found):
        jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given)


def test_stopping_rules_that_are_not_emulated_are_named(jobs: JobServiceClient, parent: str) -> None:
    given = tuning_job("pass", [number("x")], study={"decay_curve_stopping_spec": {}})
    with pytest.raises(MethodNotImplemented, match="decay_curve_stopping_spec"):
        jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_sdk_tunes_and_finds_the_best_trial(emulator: Emulator, project: str, transport: str) -> None:
    aiplatform.init(project=project, location=LOCATION, staging_bucket="gs://tuning-staging", api_transport=transport)
    pool = {
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
        "container_spec": {"image_uri": PREBUILT, "command": ["python3", "-c", PARABOLA]},
    }
    job = aiplatform.CustomJob("parabola", [pool], base_output_dir="gs://tuning-staging/out")
    tuning = aiplatform.HyperparameterTuningJob(
        display_name="parabola",
        custom_job=job,
        metric_spec={"score": "maximize"},
        parameter_spec={
            "x": hpt.DoubleParameterSpec(min=2, max=4, scale="linear"),
            "units": hpt.IntegerParameterSpec(min=1, max=64, scale="log"),
        },
        max_trial_count=3,
        parallel_trial_count=3,
    )
    tuning.run()
    best = max(tuning.trials, key=lambda trial: trial.final_measurement.metrics[0].value)
    assert 0 <= best.final_measurement.metrics[0].value <= 1
    child = aiplatform.CustomJob.get(best.custom_job.rpartition("/")[2])
    prefix = child.gca_resource.job_spec.base_output_directory.output_uri_prefix
    assert prefix == f"gs://tuning-staging/out/{best.id}"
    log = emulator.run(
        *("gcloud", "logging", "read", f'resource.labels.job_id="{child.name}" AND logName:workerpool0-0'),
        *("--project", project, "--format", "json", "--order", "asc"),
    )
    lines = [entry["jsonPayload"]["message"] for entry in json.loads(log.stdout)]
    told = next(json.loads(line) for line in lines if line.startswith("{"))
    assert told["CLOUD_ML_TRIAL_ID"] == best.id
    assert told["CLOUD_ML_HP_METRIC_TAG"] == "score"
    assert told["AIP_MODEL_DIR"] == f"gs://tuning-staging/out/{best.id}/model/"
    assert isinstance(told["units"], int)
    assert f"trial {best.id}" in lines


def test_gcloud_hp_tuning_jobs(emulator: Emulator, project: str, tmp_path: Any) -> None:
    require_program("gcloud")
    config = {
        "studySpec": {
            "metrics": [{"metricId": "score", "goal": "MAXIMIZE"}],
            "parameters": [{"parameterId": "x", "doubleValueSpec": {"minValue": 0, "maxValue": 1}}],
        },
        "trialJobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {"machineType": "n1-standard-4"},
                    "replicaCount": "1",
                    "containerSpec": {"imageUri": PREBUILT, "command": ["python3", "-c", PARABOLA]},
                }
            ]
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))

    def gcloud(*words: str) -> str:
        done = emulator.run("gcloud", "ai", "hp-tuning-jobs", *words, "--region", LOCATION, "--project", project)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    created = gcloud("create", "--display-name=g", f"--config={tmp_path / 'config.yaml'}", "--max-trial-count=2")
    found = re.search(r"job \[(\d+)\] submitted", created)
    assert found is not None, created
    name = found[1]
    wait_until(lambda: "state: JOB_STATE_SUCCEEDED" in gcloud("describe", name), 60)
    assert "displayName: g" in gcloud("list")
    gcloud("cancel", name)
    log = emulator.run("gcloud", "logging", "read", f'resource.labels.job_id="{name}"', "--project", project)
    assert "Trial 2 succeeded: score" in log.stdout


def test_job_is_failed_after_a_crash(new_emulator: Any, project: str) -> None:
    first = new_emulator()
    parent = f"projects/{project}/locations/{LOCATION}"
    given = tuning_job("import time; time.sleep(600)", [number("x")])
    with first.exported(), first.client(JobServiceClient, transport="rest") as jobs:
        name = jobs.create_hyperparameter_tuning_job(parent=parent, hyperparameter_tuning_job=given).name
        wait_until(lambda: jobs.get_hyperparameter_tuning_job(name=name).trials)
    first.stop(9)
    second = new_emulator(state=first.state)
    with second.exported(), second.client(JobServiceClient, transport="rest") as jobs:
        job = jobs.get_hyperparameter_tuning_job(name=name)
    assert job.state == JobState.JOB_STATE_FAILED
    assert job.error.message == "The emulator stopped while this hyperparameter tuning job was running."
    assert {trial.state for trial in job.trials} == {Trial.State.INFEASIBLE}
