"""Every training is a run of an experiment: when, who, where, of which commit, from which data, and what came of it."""

from __future__ import annotations

import getpass
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops import experiments, labels
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.experiments import Value

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineJob, TrainingPipeline

CONTEXT_SECONDS = 60.0
POLL_SECONDS = 0.2
_VERSION = "0.0.1"


class Tracked:
    """One run of an experiment, from its start to its end. Without an experiment it records nothing."""

    def __init__(self, clients: Clients, experiment: str = "", resource_name: str = "") -> None:
        self._clients = clients
        self._experiment = experiment
        self.resource_name = resource_name

    @property
    def name(self) -> str:
        """Empty where nothing is recorded."""
        return self.resource_name.rpartition("/")[2].removeprefix(f"{self._experiment}-")

    @property
    def labels(self) -> dict[str, str]:
        """By which a training says whose run it is."""
        return {labels.RUN: self.name} if self.resource_name else {}

    def log(
        self,
        *,
        parameters: Mapping[str, Value] | None = None,
        metrics: Mapping[str, Value] | None = None,
        state: str = "",
    ) -> None:
        """Add to what is recorded. state: of google.cloud.aiplatform.v1.Execution."""
        if not self.resource_name:
            return
        # The etag of what was read is sent back: of two that write at a time, one is told so.
        context = self._clients.metadata.get_context(name=self.resource_name, timeout=TIMEOUT_SECONDS)
        metadata: Any = context.metadata
        if parameters:
            metadata["_params"] = {**metadata["_params"], **parameters}
        if metrics:
            metadata["_metrics"] = {**metadata["_metrics"], **metrics}
        if state:
            metadata["_state"] = state
        context.metadata = metadata
        self._clients.metadata.update_context(context=context, timeout=TIMEOUT_SECONDS)

    def add_artifact(self, artifact: str) -> None:
        """Put what the run made into its context, so that lineage leads from the one to the other."""
        if self.resource_name and artifact:
            request = {"context": self.resource_name, "artifacts": [artifact]}
            self._clients.metadata.add_context_artifacts_and_executions(request, timeout=TIMEOUT_SECONDS)


@contextmanager
def started(config: Config, clients: Clients, key: str, parameters: Mapping[str, Value]) -> Iterator[Tracked]:
    """A new run, RUNNING, of the experiment that the model's training names; FAILED when the block fails."""
    experiment = config.models[key].training.experiment
    tracked = Tracked(clients) if experiment is None else _new(config, clients, key, experiment, parameters)
    try:
        yield tracked
    except BaseException:
        tracked.log(state="FAILED")
        raise


def _new(config: Config, clients: Clients, key: str, experiment: str, parameters: Mapping[str, Value]) -> Tracked:
    parent = _experiment(config, clients, experiment)
    # A label holds it, which has 63 characters.
    name = f"{key[:40]}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    context = {
        "display_name": name,
        "schema_title": experiments.RUN,
        "schema_version": _VERSION,
        "metadata": {"_params": {**_circumstances(config), **parameters}, "_metrics": {}, "_state": "RUNNING"},
    }
    request = {"parent": experiments.store(config), "context_id": f"{experiment}-{name}", "context": context}
    made = clients.metadata.create_context(request, timeout=TIMEOUT_SECONDS)
    clients.metadata.add_context_children(context=parent, child_contexts=[made.name], timeout=TIMEOUT_SECONDS)
    return Tracked(clients, experiment, made.name)


def find(config: Config, clients: Clients, key: str, pipeline: TrainingPipeline) -> Tracked:
    """The run of a training that has begun, by the name in the pipeline's labels."""
    name = pipeline.labels.get(labels.RUN, "")
    experiment = config.models[key].training.experiment
    if experiment is None or not name:
        return Tracked(clients)
    return Tracked(clients, experiment, f"{experiments.store(config)}/contexts/{experiment}-{name}")


def attach(config: Config, clients: Clients, key: str, job: PipelineJob) -> str:
    """Make a pipeline's run one of the experiment that the model's training names; the experiment, or empty.

    As the SDK does, this waits for the run to have its context: moments, but for a job that cannot start.
    """
    experiment = config.models[key].training.experiment
    deadline = time.monotonic() + CONTEXT_SECONDS
    while experiment is not None and time.monotonic() < deadline:
        context = job.job_detail.pipeline_run_context.name
        if context:
            parent = _experiment(config, clients, experiment)
            clients.metadata.add_context_children(context=parent, child_contexts=[context], timeout=TIMEOUT_SECONDS)
            return experiment
        if job.end_time:
            break
        time.sleep(POLL_SECONDS)
        job = clients.pipelines.get_pipeline_job(name=job.name, timeout=TIMEOUT_SECONDS)
    return ""


def arguments_of(args: Sequence[str]) -> dict[str, Value]:
    """`--depth=3` and `--depth 3` as parameters `arg.depth`; a flag that stands alone is `true`."""
    found: dict[str, Value] = {}
    waiting = ""
    for one in args:
        if one.startswith("--"):
            waiting, _, value = one[2:].partition("=")
            found[f"arg.{waiting}"] = _value(value) if "=" in one else "true"
            waiting = "" if "=" in one else waiting
        elif waiting:
            found[f"arg.{waiting}"] = _value(one)
            waiting = ""
    return found


def _value(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text


def _circumstances(config: Config) -> dict[str, Value]:
    """Who, where, and the state of the working tree; when is the run's own create time."""
    found = labels.provenance()
    return {
        "user": getpass.getuser(),
        "host": platform.node(),
        "environment": config.environment,
        "git_commit": found.get(labels.COMMIT, ""),
        "git_dirty": found.get(labels.DIRTY, ""),
    }


def _experiment(config: Config, clients: Clients, experiment: str) -> str:
    """The experiment's context, made where there is none, and its store too; its resource name."""
    from google.api_core.exceptions import Conflict, NotFound

    metadata = clients.metadata
    store = experiments.store(config)
    name = f"{store}/contexts/{experiment}"
    try:
        return metadata.get_context(name=name, timeout=TIMEOUT_SECONDS).name
    except NotFound:
        pass
    try:
        metadata.get_metadata_store(name=store, timeout=TIMEOUT_SECONDS)
    except NotFound:
        request = {"parent": config.parent, "metadata_store_id": "default"}
        metadata.create_metadata_store(request, timeout=TIMEOUT_SECONDS).result(timeout=TIMEOUT_SECONDS)
    context = {
        "display_name": experiment,
        "schema_title": experiments.EXPERIMENT,
        "schema_version": _VERSION,
        "metadata": {"experiment_deleted": False},
    }
    try:
        asked = {"parent": store, "context_id": experiment, "context": context}
        return metadata.create_context(asked, timeout=TIMEOUT_SECONDS).name
    except Conflict:
        # Another training began at the same moment.
        return metadata.get_context(name=name, timeout=TIMEOUT_SECONDS).name
