"""Pipelines: compiled from `ml`, brought to the bucket with their code, run and waited for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops import data, labels, packages, tracking, training, worlds
from ops.clients import TIMEOUT_SECONDS, Clients, patient
from ops.config import ROOT, Config, Pipeline
from ops.errors import INTERRUPTED, OpsError, ResourceNotFound
from ops.pipeline_runs import FINAL, TaskTree
from ops.progress import Report
from ops.yaml_file import read_yaml

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineJob

COMPILE_SECONDS = 120
POLL_SECONDS = (0.2, 5.0)
"""first and longest wait between two looks"""
POLL_GROWTH = 1.2


class RunInterrupted(OpsError):
    """The person stopped waiting; the run goes on."""

    exit_code = INTERRUPTED


def compile_to(config: Config, key: str, target: Path) -> None:
    """Write a pipeline's YAML. Raises OpsError with the compiler's last line."""
    declared = config.pipelines[key]
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", declared.module, "--code", _code_path(config, declared), "--out", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise OpsError(f"{declared.module} could not be compiled: {lines[-1] if lines else 'no message'}")


def described(config: Config, key: str) -> str:
    """What a run would do, in words."""
    declared = config.pipelines[key]
    deployed = f", deployed on {declared.endpoint}" if declared.endpoint else ""
    return (
        f"run {key} ({declared.module}): train {declared.model} on "
        f"{config.dataset_uri(config.models[declared.model].training.dataset)}; a version that is better by "
        f"{declared.gate.margin:g} in {declared.gate.metric} is registered{deployed}"
    )


def submit(config: Config, clients: Clients, key: str, report: Report) -> PipelineJob:
    """Bring data and code to the bucket, compile the pipeline and start a run, which is given back."""
    declared = config.pipelines[key]
    model = config.models[declared.model]
    with report.step("data") as step:
        found = data.find(config, clients, model.training.dataset)
        generation = found or data.make(config, clients, model.training.dataset, report)
        step.outcome = f"{config.dataset_uri(model.training.dataset)}{', as it lies there' if found else ''}"
    with report.step("code") as step:
        step.outcome = _upload_code(config, clients, declared)
    with report.step("compilation"), _compiled(config, key) as spec:
        job = _pipeline_job(config, key, spec, generation)
    with report.step("pipeline run") as step:
        run_id = f"{spec['pipelineInfo']['name']}-{datetime.now(UTC):%Y%m%d%H%M%S%f}"
        request = {"parent": config.parent, "pipeline_job": job, "pipeline_job_id": run_id}
        made = clients.pipelines.create_pipeline_job(request, timeout=TIMEOUT_SECONDS)
        step.outcome = made.name
    with report.step("experiment") as step:
        step.outcome = tracking.attach(config, clients, declared.model, made) or "none"
    return made


def wait(
    config: Config, clients: Clients, job: PipelineJob, report: Report, *, timeout_seconds: float | None = None
) -> PipelineJob:
    """The run once it is over, its tree of tasks shown meanwhile.

    Raises RunInterrupted at Ctrl-C, OpsError when the time is over or the run did not succeed. In the first two
    cases the run goes on, and the message says how to look at it.
    """
    started, pause = time.monotonic(), POLL_SECONDS[0]
    run_id = job.name.rsplit("/", 1)[-1]
    look = worlds.shell_command(f"inv pipeline.status --run {run_id} --env {config.environment}")
    try:
        with TaskTree(report) as tree:
            while True:
                job = clients.pipelines.get_pipeline_job(
                    name=job.name, retry=patient(report.line), timeout=TIMEOUT_SECONDS
                )
                tree.show(job)
                if job.state in FINAL:
                    break
                if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
                    raise OpsError(f"not done after {timeout_seconds:.0f} s; it goes on: {look}")
                time.sleep(pause)
                pause = min(pause * POLL_GROWTH, POLL_SECONDS[1])
    except KeyboardInterrupt:
        raise RunInterrupted(f"stopped waiting; the run goes on: {look}") from None
    if job.state.name != "PIPELINE_STATE_SUCCEEDED":
        message = " ".join(job.error.message.split()) or job.state.name
        raise OpsError(f"the run did not succeed: {message}; look with: {look}")
    return job


def schedule(config: Config, clients: Clients, key: str, report: Report) -> str:
    """Make the schedule that the configuration declares, or bring the one there is in line; gives back its name.

    Raises OpsError where none is declared.
    """
    declared = config.pipelines[key].schedule
    if declared is None:
        raise OpsError(f"pipelines.{key} declares no schedule; write one with a cron expression")
    fields: dict[str, Any] = {
        "display_name": _schedule_display_name(config, key),
        "cron": declared.cron,
        "max_concurrent_run_count": declared.max_concurrent_run_count,
        "allow_queueing": declared.allow_queueing,
    }
    found = find_schedule(config, clients, key)
    with report.step("schedule") as step:
        if found is not None:
            request: dict[str, Any] = {"schedule": {"name": found, **fields}, "update_mask": ",".join(fields)}
            step.outcome = found
            clients.schedules.update_schedule(request, timeout=TIMEOUT_SECONDS)
            return found
        generation = data.find(config, clients, config.models[config.pipelines[key].model].training.dataset) or ""
        _upload_code(config, clients, config.pipelines[key])
        with _compiled(config, key) as spec:
            job = _pipeline_job(config, key, spec, generation)
        created: Any = {**fields, "create_pipeline_job_request": {"parent": config.parent, "pipeline_job": job}}
        made = clients.schedules.create_schedule(parent=config.parent, schedule=created, timeout=TIMEOUT_SECONDS)
        step.outcome = made.name
        return str(made.name)


def change_schedule(config: Config, clients: Clients, key: str, verb: str) -> str:
    """Pause, resume or remove (the verbs) a pipeline's schedule; gives back its name.

    Raises ResourceNotFound where there is none.
    """
    found = find_schedule(config, clients, key)
    if found is None:
        raise ResourceNotFound(f"{key} has no schedule; make it with: inv pipeline.schedule --env {config.environment}")
    if verb == "pause":
        clients.schedules.pause_schedule(name=found, timeout=TIMEOUT_SECONDS)
    elif verb == "resume":
        clients.schedules.resume_schedule(name=found, timeout=TIMEOUT_SECONDS)
    else:
        clients.schedules.delete_schedule(name=found, timeout=TIMEOUT_SECONDS).result(timeout=TIMEOUT_SECONDS)
    return found


def find_schedule(config: Config, clients: Clients, key: str) -> str | None:
    """The name of a pipeline's schedule that is not over; None where there is none."""
    request = {"parent": config.parent, "filter": f'display_name="{_schedule_display_name(config, key)}"'}
    for found in clients.schedules.list_schedules(request, timeout=TIMEOUT_SECONDS):
        if found.state.name != "COMPLETED":
            return str(found.name)
    return None


def _schedule_display_name(config: Config, key: str) -> str:
    return f"{config.environment}-{key}"


@contextmanager
def _compiled(config: Config, key: str) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="selfloop-pipeline-") as folder:
        file = Path(folder) / "pipeline.yaml"
        compile_to(config, key, file)
        yield read_yaml(file, file.name).values


def _upload_code(config: Config, clients: Clients, declared: Pipeline) -> str:
    """The URI of the steps' code; uploaded unless the same lies there."""
    model = config.models[declared.model]
    package = packages.package_of(model.training.python_module)
    bucket = clients.storage.bucket(config.bucket_name(model.bucket))
    blob = bucket.blob(package.zip_object_name)
    if not blob.exists(timeout=TIMEOUT_SECONDS):
        with data.bucket_of(config, model.bucket):
            blob.upload_from_string(packages.zipped(package), content_type="application/zip", timeout=TIMEOUT_SECONDS)
    return f"gs://{bucket.name}/{package.zip_object_name}"


def _code_path(config: Config, declared: Pipeline) -> str:
    """Where steps find it."""
    model = config.models[declared.model]
    package = packages.package_of(model.training.python_module)
    return f"/gcs/{config.bucket_name(model.bucket)}/{package.zip_object_name}"


def _pipeline_job(config: Config, key: str, spec: Mapping[str, Any], generation: str) -> dict[str, Any]:
    """google.cloud.aiplatform.v1.PipelineJob, as the SDK's `PipelineJob.submit` sends it."""
    declared = config.pipelines[key]
    model = config.models[declared.model]
    wanted = _parameters(config, declared, generation)
    known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unknown = sorted(set(declared.parameters) - set(known))
    if unknown:
        raise OpsError(
            f"pipelines.{key}.parameters: {', '.join(unknown)}: {declared.module} has no such parameter; "
            f"it has {', '.join(known)}"
        )
    job: dict[str, Any] = {
        "display_name": key,
        "pipeline_spec": _with_caching(spec, declared.enable_caching),
        "labels": labels.owned(config, declared.labels) | labels.provenance() | {labels.PIPELINE: key},
        "runtime_config": {
            "gcs_output_directory": f"gs://{config.bucket_name(model.bucket)}/pipelines",
            "parameter_values": {name: value for name, value in wanted.items() if name in known},
            "failure_policy": f"PIPELINE_FAILURE_POLICY_FAIL_{declared.failure_policy.upper()}",
        },
    }
    if declared.service_account:
        job["service_account"] = declared.service_account
    return job


def _parameters(config: Config, declared: Pipeline, generation: str) -> dict[str, Any]:
    """What the configuration has to say to a pipeline; each takes what it declares of it."""
    model = config.models[declared.model]
    package = packages.package_of(model.training.python_module)
    fingerprint = training.fingerprint(config, model.training, declared.parameters)
    wanted: dict[str, Any] = {
        "project": config.project,
        "location": config.location,
        "data_uri": config.dataset_uri(model.training.dataset),
        "model_id": declared.model,
        "display_name": model.display_name or declared.model,
        "description": model.description,
        "serving_image_uri": model.serving.image_uri,
        "labels": labels.owned(config, model.labels) | labels.provenance() | {
            labels.CODE: package.digest, labels.TRAINING: fingerprint, labels.DATA: generation,
        },
        "metric": declared.gate.metric,
        "margin": declared.gate.margin,
    }  # fmt: skip
    if declared.endpoint is not None:
        deployed = next(
            (each for each in config.endpoints[declared.endpoint].deployed_models if each.model == declared.model),
            None,
        )
        if deployed is None:
            raise OpsError(f"endpoints.{declared.endpoint} has no deployed model {declared.model}; declare one")
        wanted |= {
            "endpoint_id": declared.endpoint,
            "endpoint_labels": labels.owned(config, config.endpoints[declared.endpoint].labels),
            "machine_type": deployed.machine_type,
            "min_replica_count": deployed.min_replica_count,
            "max_replica_count": deployed.max_replica_count,
        }
    return wanted | declared.parameters


def _with_caching(spec: Mapping[str, Any], enabled: bool) -> dict[str, Any]:
    """The spec, no task of which is taken from the cache unless that is enabled."""
    if enabled:
        return dict(spec)

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: {} if name == "cachingOptions" else without(inner) for name, inner in value.items()}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    plain: dict[str, Any] = without(spec)
    return plain
