"""What Cloud Logging gets from a custom job: the service's own lines and those of its replicas.

Source: published logs of real jobs, and
https://cloud.google.com/logging/docs/structured-logging for lines that are JSON
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from emulator.core.interfaces import LogRecord, LogSink, OutputLine
from emulator.services.aiplatform.job_environment import host_name
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.worker_pools import Replica

_SERVICE = "service"
_SEVERITIES = frozenset({"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"})


class JobLog:
    """The log of one job."""

    def __init__(self, sink: LogSink, location: Location, job_id: str, trial_id: str = "") -> None:
        self._sink = sink
        self._location = location
        self._job_id = job_id
        self._trial_id = trial_id

    def tell(self, *texts: str, severity: str = "INFO") -> None:
        """Write lines of the service itself."""
        labels = {"ml.googleapis.com/job_id": self._job_id, "ml.googleapis.com/endpoint": ""}
        self._write(
            LogRecord(
                f"ml.googleapis.com/{self._job_id}",
                "ml_job",
                self._resource(_SERVICE),
                text,
                severity,
                labels,
            )
            for text in texts
        )

    def output(self, replica: Replica) -> Callable[[Sequence[OutputLine]], None]:
        """A receiver of what one replica prints."""
        resource = self._resource(replica.name)
        labels = self._replica_labels(replica)
        parse = _structured if replica.is_prebuilt else _as_printed

        def write(lines: Sequence[OutputLine]) -> None:
            def records() -> Iterator[LogRecord]:
                for line in lines:
                    payload, severity = parse(line)
                    yield LogRecord(replica.name, "ml_job", resource, payload, severity, labels)

            self._write(records())

        return write

    def _write(self, records: Iterator[LogRecord]) -> None:
        self._sink.write(self._location.project_id, records)

    def _resource(self, task_name: str) -> Mapping[str, str]:
        return {"project_id": self._location.project_id, "job_id": self._job_id, "task_name": task_name}

    def _replica_labels(self, replica: Replica) -> Mapping[str, str]:
        host = host_name(self._job_id, replica)
        return {
            "compute.googleapis.com/resource_id": str(int(hashlib.sha256(host.encode()).hexdigest()[:15], 16)),
            "compute.googleapis.com/resource_name": host,
            "compute.googleapis.com/zone": f"{self._location.region}-a",
            "ml.googleapis.com/job_id": self._job_id,
            "ml.googleapis.com/job_id/log_area": "root",
            "ml.googleapis.com/tpu_worker_id": "",
            "ml.googleapis.com/trial_id": self._trial_id,
            "ml.googleapis.com/trial_type": "",
        }


def _structured(line: OutputLine) -> tuple[Mapping[str, Any], str]:
    """As prebuilt images log: standard error is an ERROR, whatever it says."""
    severity = "ERROR" if line.is_error else "INFO"
    return {"message": line.text, "levelname": severity}, severity


def _as_printed(line: OutputLine) -> tuple[str | Mapping[str, Any], str]:
    """As the logging agent reads other containers: a line that is a JSON object has fields and a severity."""
    severity = "ERROR" if line.is_error else "INFO"
    fields = _json_object(line.text)
    if fields is None:
        return line.text, severity
    given = fields.pop("severity", None)
    if isinstance(given, str) and given.upper() in _SEVERITIES:
        severity = given.upper()
    if list(fields) == ["message"]:
        return str(fields["message"]), severity
    return fields, severity


def _json_object(text: str) -> dict[str, Any] | None:
    if not (text.startswith("{") and text.rstrip().endswith("}")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
