"""What Cloud Logging gets from a run: a line for each state of the job and of its tasks.

What a task prints is in the log of its custom job.
Source: https://cloud.google.com/vertex-ai/docs/pipelines/logging
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from emulator.core.interfaces import LogRecord, LogSink
from emulator.services.aiplatform.lifecycle import State
from emulator.services.aiplatform.pipelines.nodes import Node, TaskState
from emulator.services.aiplatform.pipelines.values import RunFacts

_RESOURCE = "aiplatform.googleapis.com/PipelineJob"
_JOB_LOG = "aiplatform.googleapis.com/pipeline_job_events"
_TASK_LOG = "aiplatform.googleapis.com/pipeline_job_task_events"


class RunLog:
    """The log of one run."""

    def __init__(self, sink: LogSink, run: RunFacts) -> None:
        self._sink = sink
        self._run = run

    def job(self, state: State, error: str = "") -> None:
        payload: dict[str, Any] = {
            "@type": "type.googleapis.com/google.cloud.aiplatform.logging.PipelineJobLogEntry",
            "pipelineName": self._run.pipeline_name,
            "state": f"PIPELINE_STATE_{state.name}",
        }
        if error:
            payload["error"] = {"message": error}
        self._write(_JOB_LOG, payload, "ERROR" if state is State.FAILED else "INFO")

    def task(self, node: Node) -> None:
        payload = self._of_task(node, node.state.name)
        if node.failure is not None:
            payload["error"] = {"code": int(node.failure.code), "message": node.failure.message}
        self._write(_TASK_LOG, payload, "ERROR" if node.state is TaskState.FAILED else "INFO")

    def retry(self, node: Node, why: str, pause: timedelta) -> None:
        """An attempt failed, and another follows."""
        payload = self._of_task(node, node.state.name)
        payload["message"] = f"The task is tried again in {pause.total_seconds():g} s."
        payload["error"] = {"message": why}
        self._write(_TASK_LOG, payload, "WARNING")

    def _of_task(self, node: Node, state: str) -> dict[str, Any]:
        return {
            "@type": "type.googleapis.com/google.cloud.aiplatform.logging.PipelineTaskLogEntry",
            "pipelineName": self._run.pipeline_name,
            "taskName": node.name,
            "taskUniqueName": node.unique_name,
            "state": state,
        }

    def _write(self, log_id: str, payload: dict[str, Any], severity: str) -> None:
        labels = {
            "resource_container": f"projects/{self._run.location.project_number}",
            "location": self._run.location.region,
            "pipeline_job_id": self._run.job_id,
        }
        record = LogRecord(log_id, _RESOURCE, labels, payload, severity, {"pipeline_job_id": self._run.job_id})
        self._sink.write(self._run.location.project_id, [record])
