"""Train a model: its code and data go to the bucket, a training pipeline runs, a version is registered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ops import data, evaluations, experiments, labels, packages, tracking, worlds
from ops.clients import TIMEOUT_SECONDS, Clients, patient
from ops.config import ROOT, Config, Model, Training
from ops.errors import INTERRUPTED, OpsError
from ops.job_logs import JobLog
from ops.progress import Report

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import TrainingPipeline

CUSTOM_TASK = "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"
POLL_SECONDS = (0.2, 5.0)
"""first and longest wait between two looks; Cloud Logging allows 60 reads a minute"""
POLL_GROWTH = 1.2


@dataclass(frozen=True)
class TrainedModel:
    """The version that a training registered."""

    name: str
    """projects/P/locations/L/models/M, with the project's id"""
    version_id: str
    training_pipeline: str
    custom_job: str

    @property
    def versioned_name(self) -> str:
        return f"{self.name}@{self.version_id}"


class TrainingInterrupted(OpsError):
    """The person stopped waiting; the job goes on."""

    exit_code = INTERRUPTED


def fingerprint(config: Config, training: Training, parameters: Mapping[str, object] | None = None) -> str:
    """Twelve hexadecimal digits over everything in a training that decides which model comes out.

    parameters: what a pipeline was told that a training job is not.
    Not the code, which has a digest of its own; nor the machine and the time limit, which change no model.
    """
    decisive: dict[str, Any] = {
        "python_module": training.python_module,
        "dataset": config.dataset_uri(training.dataset),
        "image_uri": training.image_uri,
        "replica_count": training.replica_count,
        "args": training.args,
        "env": training.env,
    }
    if parameters:
        decisive["parameters"] = dict(parameters)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def train(
    config: Config, clients: Clients, key: str, report: Report, *, timeout_seconds: float | None = None
) -> TrainedModel:
    """Train the model and import its evaluation; gives back the version that was registered."""
    pipeline = submit(config, clients, key, report)
    trained = wait(config, clients, key, pipeline, report, timeout_seconds=timeout_seconds)
    with report.step("evaluation") as step:
        evaluation = evaluations.import_from_artifacts(clients, trained.versioned_name)
        step.outcome = evaluations.summary(evaluation)
    with report.step("experiment") as step:
        tracked = tracking.find(config, clients, key, pipeline)
        tracked.log(
            parameters={"model": trained.versioned_name, "custom_job": trained.custom_job},
            metrics=evaluations.numbers(evaluation),
            state="COMPLETE",
        )
        model = clients.models.get_model(name=trained.versioned_name, timeout=TIMEOUT_SECONDS)
        tracked.add_artifact(model.metadata_artifact)
        step.outcome = f"run {tracked.name}" if tracked.name else "none is declared"
    return trained


def train_here(config: Config, key: str | None, data_file: str | None, report: Report) -> Path:
    """Train on this machine, as a job would: the same module and arguments; gives back the folder of the model.

    Raises OpsError when the training fails; its own output goes to standard error.
    """
    key, model = config.model(key)
    folder = ROOT / ".selfloop" / "training" / key
    dataset = config.datasets[model.training.dataset]
    if data_file and not Path(data_file).is_file():
        raise OpsError(f"{data_file} is no file; give the path of one, or leave --data out")
    with contextlib.ExitStack() as stack:
        file = Path(data_file) if data_file else stack.enter_context(data.generated(dataset))
        step = stack.enter_context(report.step(f"training of {key} on this machine"))
        step.outcome = str(folder)
        command = [
            sys.executable, "-m", model.training.python_module,
            "--data", str(file.absolute()), *model.training.args, "--model-dir", str(folder),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **model.training.env}, stdout=sys.stderr, check=False,
                timeout=model.training.timeout_seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise OpsError(f"the training took longer than timeout_seconds, {model.training.timeout_seconds}") from None
        if done.returncode:
            raise OpsError(f"{model.training.python_module} ended with exit code {done.returncode}")
    return folder


def described(config: Config, key: str) -> str:
    """What a training would do, in words."""
    training = config.models[key].training
    package = packages.package_of(training.python_module)
    return (
        f"train {key}: {training.python_module} ({package.file_name} {package.digest}) in {training.image_uri} on "
        f"{training.replica_count} x {training.machine}, data {config.dataset_uri(training.dataset)}, "
        f"at most {training.timeout_seconds} s"
    )


def submit(config: Config, clients: Clients, key: str, report: Report) -> TrainingPipeline:
    """Bring data and code to the bucket and start a training pipeline, which is given back."""
    model = config.models[key]
    with report.step("data") as step:
        found = data.find(config, clients, model.training.dataset)
        generation = found or data.make(config, clients, model.training.dataset, report)
        step.outcome = f"{config.dataset_uri(model.training.dataset)}{', as it lies there' if found else ''}"
    package = packages.package_of(model.training.python_module)
    with report.step("training package") as step:
        step.outcome = package_uri = upload_package(config, clients, model, package)
    with report.step("training pipeline") as step:
        created = labels.owned(config, model.labels) | labels.provenance() | {
            labels.CODE: package.digest,
            labels.TRAINING: fingerprint(config, model.training),
            labels.DATA: generation,
        }  # fmt: skip
        pipeline = _training_pipeline(config, key, package_uri, created)
        if model_exists(config, clients, key):
            pipeline["parent_model"] = config.model_name(key)
        else:
            pipeline["model_id"] = key
        with tracking.started(config, clients, key, _recorded(config, model.training, created)) as tracked:
            pipeline["labels"] |= tracked.labels
            request = {"parent": config.parent, "training_pipeline": pipeline}
            made = clients.pipelines.create_training_pipeline(request, timeout=TIMEOUT_SECONDS)
            tracked.log(parameters={"training_pipeline": made.name})
        step.outcome = made.name
    return made


def _recorded(config: Config, training: Training, created: Mapping[str, str]) -> dict[str, experiments.Value]:
    """What a run of an experiment tells of a training. created: the labels of the version that it makes."""
    return {
        "data": config.dataset_uri(training.dataset),
        "data_generation": created[labels.DATA],
        "code": created[labels.CODE],
        "python_module": training.python_module,
        "image_uri": training.image_uri,
        "machine": training.machine,
        "replica_count": float(training.replica_count),
        **tracking.arguments_of(training.args),
    }


def upload_package(config: Config, clients: Clients, model: Model, package: packages.Package) -> str:
    """The package's URI in the model's bucket; built and uploaded unless the same code lies there."""
    bucket = clients.storage.bucket(config.bucket_name(model.bucket))
    blob = bucket.blob(package.object_name)
    if not blob.exists(timeout=TIMEOUT_SECONDS):
        with data.bucket_of(config, model.bucket), packages.built(package) as file:
            blob.upload_from_filename(str(file), content_type="application/gzip", timeout=TIMEOUT_SECONDS)
    return f"gs://{bucket.name}/{package.object_name}"


def model_exists(config: Config, clients: Clients, key: str) -> bool:
    from google.api_core.exceptions import NotFound

    try:
        clients.models.get_model(name=config.model_name(key), timeout=TIMEOUT_SECONDS)
    except NotFound:
        return False
    return True


def wait(
    config: Config, clients: Clients, key: str, pipeline: TrainingPipeline, report: Report,
    *, timeout_seconds: float | None = None,
) -> TrainedModel:  # fmt: skip
    """The registered version, once the pipeline is done; its log is shown meanwhile.

    Raises TrainingInterrupted at Ctrl-C, OpsError when the time is over or the training failed. In the first
    two cases the training goes on, and the message says how to look at it.
    """
    from google.cloud.aiplatform_v1 import PipelineState

    started, pause = time.monotonic(), POLL_SECONDS[0]
    job = ""
    log: JobLog | None = None
    try:
        with report.step("training") as step:
            while True:
                pipeline = clients.pipelines.get_training_pipeline(
                    name=pipeline.name, retry=patient(report.line), timeout=TIMEOUT_SECONDS
                )
                if log is None and (job := _backing_job(pipeline)):
                    log = JobLog(clients, config.project, job.rsplit("/", 1)[-1])
                    report.line(f"look at it with: {look_command(config, job)}")
                for line in log.new_lines() if log else ():
                    report.line(str(line))
                if pipeline.state in (
                    PipelineState.PIPELINE_STATE_SUCCEEDED,
                    PipelineState.PIPELINE_STATE_FAILED,
                    PipelineState.PIPELINE_STATE_CANCELLED,
                ):
                    break
                if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
                    raise OpsError(f"not done after {timeout_seconds:.0f} s; it goes on: {look_command(config, job)}")
                time.sleep(pause)
                pause = min(pause * POLL_GROWTH, POLL_SECONDS[1])
            if pipeline.state != PipelineState.PIPELINE_STATE_SUCCEEDED:
                tracking.find(config, clients, key, pipeline).log(state="FAILED")
                raise OpsError(f"the training did not succeed: {_failure(pipeline)}")
            trained = TrainedModel(
                config.model_name(key),
                pipeline.model_to_upload.version_id,
                pipeline.name,
                job or _backing_job(pipeline),
            )
            step.outcome = f"{key} version {trained.version_id}"
    except KeyboardInterrupt:
        raise TrainingInterrupted(f"stopped waiting; the training goes on: {look_command(config, job)}") from None
    return trained


def look_command(config: Config, custom_job: str) -> str:
    """The command that shows a job's log; before there is a job, the one that lists them."""
    region = f"--region={config.location} --project={config.project}"
    if not custom_job:
        return worlds.shell_command(f"gcloud ai custom-jobs list {region}")
    return worlds.shell_command(f"gcloud ai custom-jobs stream-logs {custom_job.rsplit('/', 1)[-1]} {region}")


def _training_pipeline(config: Config, key: str, package_uri: str, model_labels: dict[str, str]) -> dict[str, Any]:
    """google.cloud.aiplatform.v1.TrainingPipeline, as the SDK's `CustomPythonPackageTrainingJob` sends it."""
    from google.protobuf import json_format, struct_pb2

    model = config.models[key]
    training = model.training
    commit = model_labels.get(labels.COMMIT, "no commit")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    pool: dict[str, Any] = {
        "replica_count": 1,
        "machine_spec": training.machine_spec,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": training.boot_disk_size_gb},
        "python_package_spec": {
            "executor_image_uri": training.image_uri,
            "python_module": training.python_module,
            "package_uris": [package_uri],
            "args": ["--data", config.dataset_uri(training.dataset), *training.args],
            "env": [{"name": name, "value": value} for name, value in training.env.items()],
        },
    }
    pools = [pool]
    if training.replica_count > 1:
        pools.append({**pool, "replica_count": training.replica_count - 1})
    inputs: dict[str, Any] = {
        "worker_pool_specs": pools,
        "base_output_directory": {
            "output_uri_prefix": f"gs://{config.bucket_name(model.bucket)}/training/{key}/{stamp}"
        },
        "scheduling": _scheduling(training),
    }
    for name in ("service_account", "network", "persistent_resource_id"):
        if value := getattr(training, name):
            inputs[name] = value
    return {
        "display_name": f"train-{key}",
        "labels": labels.owned(config, training.labels),
        "training_task_definition": CUSTOM_TASK,
        "training_task_inputs": json_format.ParseDict(inputs, struct_pb2.Value()),
        "model_to_upload": {
            "display_name": model.display_name or key,
            "description": model.description,
            "container_spec": {
                "image_uri": model.serving.image_uri,
                "env": [{"name": name, "value": value} for name, value in model.serving.env.items()],
            },
            "labels": model_labels,
            "version_aliases": ["default"],
            "version_description": f"{training.python_module} at {commit[:12]}",
        },
    }


def _scheduling(training: Training) -> dict[str, Any]:
    declared = training.scheduling
    scheduling: dict[str, Any] = {
        "timeout": f"{training.timeout_seconds}s",
        "strategy": declared.strategy,
        "restart_job_on_worker_restart": declared.restart_job_on_worker_restart,
        "disable_retries": declared.disable_retries,
    }
    if declared.max_wait_duration_seconds is not None:
        scheduling["max_wait_duration"] = f"{declared.max_wait_duration_seconds}s"
    return scheduling


def _backing_job(pipeline: TrainingPipeline) -> str:
    """Name of the CustomJob behind a pipeline; empty until there is one."""
    metadata = cast(Mapping[str, object] | None, pipeline.training_task_metadata)  # proto-plus unpacks a Value
    return str(metadata.get("backingCustomJob", "")) if metadata else ""


def _failure(pipeline: TrainingPipeline) -> str:
    message = " ".join(pipeline.error.message.split())
    return message or pipeline.state.name
