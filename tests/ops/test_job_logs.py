"""A job's log, read as it grows: every line once, in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from google.cloud.logging_v2.types import LogEntry

from ops.clients import Clients
from ops.job_logs import JobLog

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLogging:
    """Entries in memory; notes the filters it was asked with."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self.filters: list[str] = []

    def list_log_entries(self, request: Mapping[str, Any], retry: object, timeout: float) -> list[LogEntry]:
        self.filters.append(request["filter"])
        return list(self.entries)

    def add(self, seconds: float, **payload: Any) -> None:
        entry = LogEntry(
            insert_id=str(len(self.entries)),
            timestamp=START + timedelta(seconds=seconds),
            resource={"type": "ml_job", "labels": {"task_name": "workerpool0-0"}},
            severity=200,
            **payload,
        )
        self.entries.append(entry)


def log(fake: FakeLogging) -> JobLog:
    return JobLog(cast(Clients, SimpleNamespace(logging=fake)), "my-project", "42")


def test_new_lines_gives_each_line_once() -> None:
    fake = FakeLogging()
    job_log = log(fake)
    fake.add(1, text_payload="one\ntwo")
    assert [line.text for line in job_log.new_lines()] == ["one", "two"]
    assert list(job_log.new_lines()) == []
    fake.add(1, json_payload={"message": "three", "levelname": "INFO"})  # of the same moment as what was seen
    fake.add(2, text_payload="four")
    assert [str(line) for line in job_log.new_lines()] == ["workerpool0-0: three", "workerpool0-0: four"]
    del fake.entries[:2]  # they are before the moment that is asked for
    assert list(job_log.new_lines()) == []


def test_new_lines_asks_for_the_job_and_then_only_for_what_is_new() -> None:
    fake = FakeLogging()
    job_log = log(fake)
    fake.add(5, text_payload="x")
    list(job_log.new_lines())
    list(job_log.new_lines())
    assert fake.filters[0] == 'resource.type="ml_job" AND resource.labels.job_id="42"'
    assert fake.filters[1].endswith('AND timestamp>="2026-01-01T00:00:05+00:00"')


def test_lines_carry_task_and_severity() -> None:
    fake = FakeLogging()
    fake.add(1, text_payload="x")
    line = next(log(fake).new_lines())
    assert (line.task_name, line.severity) == ("workerpool0-0", "INFO")


def test_an_entry_without_a_message_has_no_lines() -> None:
    fake = FakeLogging()
    fake.add(1, json_payload={"other": 1})
    assert list(log(fake).new_lines()) == []
