"""The log of a running training job, read from Cloud Logging as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from ops.clients import TIMEOUT_SECONDS, Clients, patient

if TYPE_CHECKING:
    from google.cloud.logging_v2.types import LogEntry

PAGE_SIZE = 500


@dataclass(frozen=True)
class Line:
    """One line that a replica or the service wrote."""

    task_name: str
    severity: str
    text: str

    def __str__(self) -> str:
        return f"{self.task_name}: {self.text}"


class JobLog:
    """Entries of one CustomJob, each given out once."""

    def __init__(self, clients: Clients, project: str, custom_job_id: str) -> None:
        self._clients = clients
        self._resource = f"projects/{project}"
        self._filter = f'resource.type="ml_job" AND resource.labels.job_id="{custom_job_id}"'
        self._latest: datetime | None = None
        """time of the newest entry that was given out"""
        self._seen: set[str] = set()
        """ids of the entries of that moment; a job may write millions before it"""

    def new_lines(self) -> Iterator[Line]:
        """What was written since the last call, oldest first."""
        filter_ = self._filter
        if self._latest is not None:
            # Not later than: several entries may share a time, and those seen are left out by their id.
            filter_ += f' AND timestamp>="{self._latest.isoformat()}"'
        entries = self._clients.logging.list_log_entries(
            {
                "resource_names": [self._resource], "filter": filter_, "order_by": "timestamp asc",
                "page_size": PAGE_SIZE,
            },
            retry=patient(),
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        for entry in entries:
            if entry.insert_id in self._seen:
                continue
            written = cast(datetime, entry.timestamp)  # proto-plus gives a datetime; its stubs say otherwise
            if self._latest is None or written > self._latest:
                self._latest = written
                self._seen.clear()
            self._seen.add(entry.insert_id)
            yield from _lines(entry)


def _lines(entry: LogEntry) -> Iterator[Line]:
    from google.logging.type.log_severity_pb2 import LogSeverity  # type: ignore[import-untyped]

    text = entry.text_payload
    if not text and "message" in (entry.json_payload or {}):
        text = str(entry.json_payload["message"])
    for line in text.splitlines():
        yield Line(entry.resource.labels.get("task_name", "job"), LogSeverity.Name(entry.severity), line)
