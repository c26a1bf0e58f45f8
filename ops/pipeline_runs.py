"""Runs of pipelines, read: their tasks as a tree, their logs, and in what two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from ops import labels
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import Config
from ops.errors import OpsError, ResourceNotFound
from ops.job_logs import JobLog, Line
from ops.progress import Report

if TYPE_CHECKING:
    from google.cloud.aiplatform_v1 import PipelineJob, PipelineTaskDetail

#: PipelineState: SUCCEEDED, FAILED, CANCELLED.
FINAL = frozenset({4, 5, 7})
_LATEST = "latest"
#: PipelineTaskDetail.State, how it is said.
_SIGNS = {
    "PENDING": ("·", "waits"),
    "RUNNING": ("…", "runs"),
    "SUCCEEDED": ("[green]✓[/]", ""),
    "CANCEL_PENDING": ("[yellow]■[/]", "is being cancelled"),
    "CANCELLING": ("[yellow]■[/]", "is being cancelled"),
    "CANCELLED": ("[yellow]■[/]", "cancelled"),
    "FAILED": ("[red]✗[/]", "failed"),
    "SKIPPED": ("[green]↺[/]", "taken from the cache"),
    "NOT_TRIGGERED": ("[dim]∅[/]", "not needed"),
}


@dataclass(frozen=True)
class Task:
    """One task of a run, with those inside it."""

    name: str
    """its key in the pipeline"""
    display_name: str
    state: str
    """name of the PipelineTaskDetail.State"""
    seconds: float | None
    """from start to end; None until both are known"""
    error: str
    custom_job: str
    """what ran it; empty for tasks that run nothing themselves"""
    inner: tuple[Task, ...]

    def walk(self, path: str = "") -> Iterator[tuple[str, Task]]:
        """Every task with its path, `for-loop-1.train`, this one first."""
        yield path or self.name, self
        for task in self.inner:
            yield from task.walk(f"{path}.{task.name}" if path else task.name)


class TaskTree:
    """A run on the terminal: a tree that changes in place; elsewhere a line for each change."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._live = Live(console=report.console, refresh_per_second=8) if report.console.is_terminal else None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, job: PipelineJob) -> None:
        """The run as it is now."""
        if self._live is not None:
            self._live.update(drawn(job))
            return
        root = task_of(job)
        for path, task in root.walk() if root else ():
            if task.state != self._told.get(path):
                self._told[path] = task.state
                if task.state not in ("PENDING", "STATE_UNSPECIFIED"):
                    took = f" ({task.seconds:.1f} s)" if task.seconds is not None else ""
                    self._report.line(f"{path}: {task.state}{took}{f': {task.error}' if task.error else ''}")


def find(config: Config, clients: Clients, run: str, pipeline: str | None = None) -> PipelineJob:
    """A run by its id, or the latest of this environment (and of one pipeline, by its key).

    Raises ResourceNotFound.
    """
    from google.api_core.exceptions import NotFound

    if run and run != _LATEST:
        try:
            return clients.pipelines.get_pipeline_job(
                name=f"{config.parent}/pipelineJobs/{run.rsplit('/', 1)[-1]}", timeout=TIMEOUT_SECONDS
            )
        except NotFound:
            raise ResourceNotFound(f"there is no run {run} in {config.parent}; list them: inv pipeline.list") from None
    chosen = f" AND labels.{labels.PIPELINE}={pipeline}" if pipeline else ""
    request = {"parent": config.parent, "filter": labels.owner_filter(config) + chosen, "order_by": "create_time desc"}
    for listed in clients.pipelines.list_pipeline_jobs(request, timeout=TIMEOUT_SECONDS):
        # A list leaves details out.
        return clients.pipelines.get_pipeline_job(name=listed.name, timeout=TIMEOUT_SECONDS)
    raise ResourceNotFound(f"no pipeline ran yet; run one with: inv pipeline.run --env {config.environment}")


def runs(config: Config, clients: Clients, limit: int) -> list[dict[str, object]]:
    """The environment's runs, newest first: id, pipeline, state, when it was made, seconds."""
    request = {"parent": config.parent, "filter": labels.owner_filter(config), "order_by": "create_time desc"}
    found: list[dict[str, object]] = []
    for job in clients.pipelines.list_pipeline_jobs(request, timeout=TIMEOUT_SECONDS):
        if len(found) == limit:
            break
        created: Any = job.create_time  # a datetime once it is read
        found.append(
            {
                "run": job.name.rsplit("/", 1)[-1],
                "pipeline": job.labels.get(labels.PIPELINE, job.display_name),
                "state": state_of(job),
                "create_time": created.isoformat(timespec="seconds"),
                "seconds": _seconds(job),
            }
        )
    return found


def state_of(job: PipelineJob) -> str:
    """Such as RUNNING."""
    return str(job.state.name).removeprefix("PIPELINE_STATE_")


def task_of(job: PipelineJob) -> Task | None:
    """The run's root task with all others inside; None before there is any."""
    details = list(job.job_detail.task_details)
    known = {detail.task_id for detail in details}
    by_parent: dict[int, list[PipelineTaskDetail]] = {}
    roots = []
    for detail in details:
        if detail.parent_task_id and detail.parent_task_id in known:
            by_parent.setdefault(detail.parent_task_id, []).append(detail)
        else:
            roots.append(detail)

    def build(detail: PipelineTaskDetail) -> Task:
        inner = sorted(by_parent.get(detail.task_id, ()), key=lambda each: (each.create_time, each.task_name))
        return Task(
            detail.task_name,
            detail.execution.display_name or detail.task_name,
            detail.state.name,
            _seconds(detail),
            " ".join(detail.error.message.split()),
            detail.executor_detail.container_detail.main_job,
            tuple(map(build, inner)),
        )

    return build(roots[0]) if roots else None


def drawn(job: PipelineJob) -> Tree:
    """The run as a tree to print."""
    seconds = _seconds(job)
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    tree = Tree(f"[bold]{escape(job.name.rsplit('/', 1)[-1])}[/] {state_of(job)}{took}")
    root = task_of(job)
    for task in root.inner if root else ():
        _draw(tree, task)
    return tree


def as_dict(job: PipelineJob) -> dict[str, Any]:
    """The run for programs."""
    root = task_of(job)

    def plain(task: Task) -> dict[str, Any]:
        told: dict[str, Any] = {"task": task.name, "state": task.state, "seconds": task.seconds}
        if task.error:
            told["error"] = task.error
        if task.custom_job:
            told["custom_job"] = task.custom_job
        if task.inner:
            told["tasks"] = [plain(each) for each in task.inner]
        return told

    return {
        "run": job.name,
        "state": state_of(job),
        "seconds": _seconds(job),
        "error": job.error.message,
        "tasks": [plain(task) for task in root.inner] if root else [],
    }


def log_lines(config: Config, clients: Clients, job: PipelineJob, task_path: str) -> Iterator[Line]:
    """What a task's container printed. Raises OpsError for an unknown task, and for one that ran nothing."""
    root = task_of(job)
    tasks = dict(root.walk()) if root else {}
    matching = [task for path, task in tasks.items() if path == task_path or path.endswith(f".{task_path}")]
    if not matching:
        known = ", ".join(path for path, task in tasks.items() if task.custom_job) or "none yet"
        raise OpsError(f"the run has no task {task_path}; those with a log: {known}")
    if not matching[0].custom_job:
        raise OpsError(f"{task_path} ran nothing itself: it is {matching[0].state}")
    return JobLog(clients, config.project, matching[0].custom_job.rsplit("/", 1)[-1]).new_lines()


def differences(one: PipelineJob, other: PipelineJob) -> list[dict[str, object]]:
    """In what two runs differ: parameters, states and times of tasks, measures of artifacts; a row each."""
    first, second = _facts(one), _facts(other)
    return [
        {"what": what, "first": first.get(what, ""), "second": second.get(what, "")}
        for what in dict.fromkeys([*first, *second])
        if first.get(what) != second.get(what)
    ]


def _facts(job: PipelineJob) -> dict[str, object]:
    from google.protobuf import json_format

    facts: dict[str, object] = {"state": state_of(job)}
    runtime = json_format.MessageToDict(type(job).pb(job).runtime_config)
    for name, value in runtime.get("parameterValues", {}).items():
        facts[f"parameter {name}"] = (
            value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)
        )
    facts |= {f"label {name}": value for name, value in job.labels.items() if name.startswith("git-")}
    root = task_of(job)
    for path, task in root.walk() if root else ():
        if task is root:
            continue
        facts[f"{path} state"] = task.state
        if task.seconds is not None:
            facts[f"{path} seconds"] = round(task.seconds, 1)
    for detail in job.job_detail.task_details:
        for name, artifacts in detail.outputs.items():
            for artifact in artifacts.artifacts:
                numbers = {k: v for k, v in (artifact.metadata or {}).items() if isinstance(v, int | float | str)}
                facts |= {f"{detail.task_name}.{name}.{key}": value for key, value in sorted(numbers.items())}
    return facts


def _draw(tree: Tree, task: Task) -> None:
    sign, said = _SIGNS.get(task.state, ("?", task.state))
    took = f" [dim]{task.seconds:.1f} s[/]" if task.seconds is not None and task.state != "NOT_TRIGGERED" else ""
    words = f" [dim]{said}[/]" if said else ""
    branch = tree.add(f"{sign} {escape(task.display_name)}{words}{took}")
    if task.error and not task.inner:
        branch.add(f"[red]{escape(task.error[:400])}[/]")
    for inner in task.inner:
        _draw(branch, inner)


def _seconds(timed: Any) -> float | None:
    if not timed.start_time or not timed.end_time:
        return None
    return float((timed.end_time - timed.start_time).total_seconds())
