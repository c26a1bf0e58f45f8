"""The log of a running training job, read from Cloud Logging as it grows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.clients import Clients, passing_errors

PAGE_SIZE = 500
OLDEST_FIRST = "timestamp asc"


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
        """What was written since the last call, oldest first.

        Ends early where Cloud Logging has a bad moment or asks for fewer calls; the next call goes on from there.
        """
        filter_ = self._filter
        if self._latest is not None:
            # Not later than: several entries may share a time, and those seen are left out by their id.
            filter_ += f' AND timestamp>="{self._latest.isoformat()}"'
        try:
            for entry in self._clients.logging.list_entries(
                resource_names=[self._resource], filter_=filter_, order_by=OLDEST_FIRST, page_size=PAGE_SIZE
            ):
                if entry.insert_id in self._seen:
                    continue
                if self._latest is None or entry.timestamp > self._latest:
                    self._latest = entry.timestamp
                    self._seen.clear()
                self._seen.add(entry.insert_id)
                yield from _lines(entry)
        except passing_errors():
            return


def _lines(entry: Any) -> Iterator[Line]:
    """Lines of a google.cloud.logging entry, whose classes are made at run time and unknown to a type checker."""
    payload = entry.payload
    text = payload.get("message", "") if isinstance(payload, Mapping) else payload
    task_name = entry.resource.labels.get("task_name", "job") if entry.resource else "job"
    for line in str(text or "").splitlines():
        yield Line(task_name, entry.severity or "DEFAULT", line)
