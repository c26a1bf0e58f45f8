"""The details of a job's tasks, as clients read them: one row a task, so that a change writes no more than that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selfloop_apis.aiplatform_v1 import Execution, PipelineTaskDetail

from emulator.core.clock import Clock
from emulator.core.messages import stamp
from emulator.core.state import Database
from emulator.services.aiplatform import job_failure
from emulator.services.aiplatform.pipelines import lineage as names
from emulator.services.aiplatform.pipelines.lineage import Lineage
from emulator.services.aiplatform.pipelines.nodes import Leaf, Node, TaskState
from emulator.services.aiplatform.pipelines.values import Artifact, RunFacts

_EXECUTION_STATES = {
    TaskState.SUCCEEDED: Execution.COMPLETE,
    TaskState.SKIPPED: Execution.CACHED,
    TaskState.FAILED: Execution.FAILED,
    TaskState.CANCELLED: Execution.CANCELLED,
}
#: States in which, or through which, a task has run.
_STARTED = (TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.SKIPPED)


class TaskDetails:
    """Those of every job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS pipeline_tasks (job TEXT NOT NULL, task INTEGER NOT NULL, "
            "is_final INTEGER NOT NULL, message BLOB NOT NULL, PRIMARY KEY (job, task))"
        )

    def of(self, job: str) -> list[PipelineTaskDetail]:
        """In the order in which they came up."""
        rows = self._database.query("SELECT message FROM pipeline_tasks WHERE job = ? ORDER BY rowid", (job,))
        return [PipelineTaskDetail.FromString(row["message"]) for row in rows]

    def save(self, job: str, detail: PipelineTaskDetail, *, is_final: bool) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO pipeline_tasks VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET is_final = excluded.is_final, message = excluded.message",
                (job, detail.task_id, is_final, detail.SerializeToString()),
            )

    def delete(self, job: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM pipeline_tasks WHERE job = ?", (job,))

    def unfinished(self, job: str) -> list[PipelineTaskDetail]:
        rows = self._database.query("SELECT message FROM pipeline_tasks WHERE job = ? AND NOT is_final", (job,))
        return [PipelineTaskDetail.FromString(row["message"]) for row in rows]


class RunRecord:
    """Writes down one run as it goes: the details of its tasks, and its lineage."""

    def __init__(self, details: TaskDetails, lineage: Lineage, clock: Clock, run: RunFacts, context: str) -> None:
        """context: the name of the run's own."""
        self.lineage = lineage
        self.context = context
        self._details = details
        self._clock = clock
        self._run = run
        self._written: dict[int, PipelineTaskDetail] = {}

    def changed(self, node: Node) -> None:
        """Write a task's state and what comes with it."""
        detail = self._written.get(node.id)
        with self.lineage.transaction():
            if detail is None:
                detail = self._written[node.id] = self._new(node)
            self._bring_up_to_date(detail, node)
            self._details.save(self._run.name, detail, is_final=node.state.is_final)
        if node.state.is_final:
            del self._written[node.id]

    def job(self, leaf: Leaf, name: str, failed: Sequence[str]) -> None:
        """Name the custom job that a container is, and those of its attempts that failed."""
        detail = self._written[leaf.id]
        container = detail.executor_detail.container_detail
        container.main_job = name
        del container.failed_main_jobs[:]
        container.failed_main_jobs.extend(failed)
        self._details.save(self._run.name, detail, is_final=False)

    def _new(self, node: Node) -> PipelineTaskDetail:
        detail = PipelineTaskDetail(task_id=node.id, task_name=node.name, task_unique_name=node.unique_name)
        if node.parent is not None:
            detail.parent_task_id = node.parent.id
        stamp(detail.create_time, self._clock.now())
        return detail

    def _bring_up_to_date(self, detail: PipelineTaskDetail, node: Node) -> None:
        now = self._clock.now()
        detail.state = PipelineTaskDetail.State.Value(node.state.name)
        if node.state.is_final:
            stamp(detail.end_time, now)
        if node.state in _STARTED and not detail.HasField("start_time"):
            stamp(detail.start_time, now)
        if node.failure is not None:
            detail.error.CopyFrom(job_failure.status(node.failure.code, node.failure.message))
        status = detail.pipeline_task_status.add(state=detail.state)
        stamp(status.update_time, now)
        if node.failure is not None:
            status.error.CopyFrom(detail.error)
        self._bring_execution_up_to_date(detail, node)

    def _bring_execution_up_to_date(self, detail: PipelineTaskDetail, node: Node) -> None:
        """An execution begins with its task; tasks that never ran have none."""
        has_one = detail.HasField("execution")
        if not has_one and node.state not in _STARTED:
            return
        if not has_one:
            made = self.lineage.create_execution(names.new_execution(self._run.location, node), self.context)
            detail.execution.CopyFrom(made)
            self._list(detail.inputs, node.inputs.artifacts)
            inputs = _names(node.inputs.artifacts)
            self.lineage.add_artifacts(self.context, inputs)
            self.lineage.add_events(detail.execution.name, inputs, ())
        state = _EXECUTION_STATES.get(node.state)
        if state is None:
            return

        def end(execution: Execution) -> None:
            execution.state = state
            execution.metadata.update(names.output_metadata(node))

        detail.execution.CopyFrom(self.lineage.update_execution(detail.execution.name, end))
        self._list(detail.outputs, node.outputs.artifacts)
        outputs = _names(node.outputs.artifacts)
        self.lineage.add_artifacts(self.context, outputs)
        self.lineage.add_events(detail.execution.name, (), outputs)

    def _list(self, field: Any, artifacts: Mapping[str, Sequence[Artifact]]) -> None:
        for key, listed in artifacts.items():
            field[key].SetInParent()
            for one in listed:
                found = self.lineage.artifact(one.name)
                if found is not None:
                    field[key].artifacts.add().CopyFrom(found)


def _names(artifacts: Mapping[str, Iterable[Artifact]]) -> list[str]:
    return [one.name for listed in artifacts.values() for one in listed]
