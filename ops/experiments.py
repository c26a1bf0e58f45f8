"""Experiments: their runs, and what was recorded of each. Runs of pipelines count as runs.

A run is a context of ML Metadata in the form that the Vertex AI SDK gives it, so that `get_experiment_df` and the
console show the same.
Source: https://cloud.google.com/vertex-ai/docs/experiments/intro-vertex-ai-experiments
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.errors import ResourceNotFound

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import Context

EXPERIMENT = "system.Experiment"
RUN = "system.ExperimentRun"
PIPELINE_RUN = "system.PipelineRun"
METRICS = ("system.Metrics", "google.ClassificationMetrics", "google.RegressionMetrics", "google.ForecastingMetrics")
Value = str | float
LATEST = "latest"
#: Parameters that name what a run is, in which any two differ.
_IDENTITY = ("custom_job", "training_pipeline", "model")


@dataclass(frozen=True)
class Run:
    """One run of an experiment."""

    name: str
    """unique in its experiment; of a pipeline run, the job's id"""
    kind: str
    """`system.ExperimentRun` or `system.PipelineRun`"""
    state: str
    """RUNNING, COMPLETE, FAILED, …"""
    created: datetime
    parameters: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, Value] = field(default_factory=dict)
    resource_name: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "run_name": self.name,
            "run_type": self.kind,
            "state": self.state,
            "created": self.created.isoformat(timespec="seconds"),
            "parameters": dict(self.parameters),
            "metrics": dict(self.metrics),
        }


def store(config: Config) -> str:
    """The metadata store that experiments are in."""
    return f"{config.parent}/metadataStores/default"


def names(config: Config, clients: Clients) -> list[str]:
    """Every experiment of the project's location; none before the first."""
    return sorted(
        context.name.rpartition("/")[2] for context in _contexts(config, clients, f'schema_title="{EXPERIMENT}"')
    )


def runs(config: Config, clients: Clients, experiment: str) -> list[Run]:
    """An experiment's runs, oldest first. Raises ResourceNotFound."""
    from google.api_core.exceptions import NotFound

    try:
        context = clients.metadata.get_context(name=f"{store(config)}/contexts/{experiment}", timeout=TIMEOUT_SECONDS)
    except NotFound:
        known = ", ".join(names(config, clients)) or "none"
        raise ResourceNotFound(f"there is no experiment {experiment!r}; experiments: {known}") from None
    found = _contexts(
        config,
        clients,
        f'(schema_title="{RUN}" OR schema_title="{PIPELINE_RUN}") AND parent_contexts:"{context.name}"',
    )
    made = [_pipeline_run(clients, one) if one.schema_title == PIPELINE_RUN else _run(one) for one in found]
    return sorted(made, key=lambda run: run.created)


def run(config: Config, clients: Clients, experiment: str, name: str) -> Run:
    """One run; `latest` is the name of the latest. Raises ResourceNotFound."""
    found = runs(config, clients, experiment)
    wanted = [one for one in found if name in (LATEST, one.name)]
    if not wanted:
        known = ", ".join(one.name for one in found) or "none"
        raise ResourceNotFound(f"the experiment {experiment!r} has no run {name}; runs: {known}")
    return wanted[-1]


def table(found: Sequence[Run]) -> list[dict[str, Value]]:
    """A row a run: its state and time, all metrics, and the parameters in which runs of a kind differ."""
    kinds = [[one for one in found if one.kind == kind] for kind in (RUN, PIPELINE_RUN)]
    parameters = [
        key
        for key in _keys(one.parameters for one in found)
        if key not in _IDENTITY and any(len({one.parameters.get(key) for one in alike}) > 1 for alike in kinds)
    ]
    metrics = _keys(one.metrics for one in found)
    return [
        {
            "run": one.name,
            "state": one.state,
            "created": one.created.isoformat(timespec="seconds"),
            **{f"metric.{key}": one.metrics.get(key, "") for key in metrics},
            **{f"param.{key}": one.parameters.get(key, "") for key in parameters},
        }
        for one in found
    ]


def measured(found: Sequence[Run], metric: str | None) -> tuple[str, list[tuple[str, float]]]:
    """A metric's name, and (run, value) of each run that has it; the first metric that there is where none is named.

    Raises ResourceNotFound where no run has it.
    """
    numbers = _keys({key: value for key, value in one.metrics.items() if _is_number(value)} for one in found)
    chosen = metric or next(iter(numbers), "")
    if chosen not in numbers:
        known = ", ".join(numbers) or "none"
        raise ResourceNotFound(f"no run has a metric {metric or ''}; metrics: {known}")
    return chosen, [(one.name, float(one.metrics[chosen])) for one in found if _is_number(one.metrics.get(chosen))]


def _contexts(config: Config, clients: Clients, text: str) -> list[Context]:
    from google.api_core.exceptions import NotFound

    try:
        return list(clients.metadata.list_contexts({"parent": store(config), "filter": text}, timeout=TIMEOUT_SECONDS))
    except NotFound:
        # The store is made with the first experiment, pipeline run or model.
        return []


def _run(context: Context) -> Run:
    metadata = _plain(context.metadata)
    return Run(
        name=context.display_name,
        kind=RUN,
        state=str(metadata.get("_state", "")),
        created=_time(context),
        parameters=metadata.get("_params") or {},
        metrics=metadata.get("_metrics") or {},
        resource_name=context.name,
    )


def _pipeline_run(clients: Clients, context: Context) -> Run:
    """A pipeline run tells its parameters and state by its root execution, and its metrics by artifacts."""
    from google.cloud.aiplatform_v1 import Execution

    graph = clients.metadata.query_context_lineage_subgraph(context=context.name, timeout=TIMEOUT_SECONDS)
    root = next((one for one in graph.executions if one.schema_title == "system.Run"), None)
    metadata = _plain(root.metadata) if root else {}
    metrics: dict[str, Value] = {}
    for artifact in graph.artifacts:
        if artifact.schema_title in METRICS:
            metrics |= {key: value for key, value in _plain(artifact.metadata).items() if _is_number(value)}
    return Run(
        name=context.display_name,
        kind=PIPELINE_RUN,
        state=Execution.State(root.state).name if root else "",
        created=_time(context),
        parameters={
            key.removeprefix("input:"): value if isinstance(value, str | float) else str(value)
            for key, value in metadata.items()
            if key.startswith("input:")
        },
        metrics=metrics,
        resource_name=context.name,
    )


def _plain(struct: Any) -> dict[str, Any]:
    """A Struct as plain values, sorted as its own order is none; proto-plus gives nothing for an empty one."""
    found = sorted((struct or {}).items())
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in found}


def _time(context: Context) -> datetime:
    created: Any = context.create_time
    return datetime.fromisoformat(created.rfc3339().replace("Z", "+00:00"))


def _keys(mappings: Iterable[Mapping[str, Value]]) -> list[str]:
    """Keys of all of them, in the order in which they first come."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
