"""A job's log, read as it grows: every line once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from google.api_core.exceptions import TooManyRequests

from ops.clients import Clients
from ops.job_logs import JobLog

START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeLogging:
    """Entries in memory; notes the filters it was asked with."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.filters: list[str] = []
        self.breaks_after: int | None = None

    def list_entries(self, *, resource_names: list[str], filter_: str, order_by: str, page_size: int) -> Iterator[Any]:
        assert resource_names == ["projects/my-project"]
        self.filters.append(filter_)
        for number, entry in enumerate(list(self.entries)):
            if number == self.breaks_after:
                raise TooManyRequests("slower, please")
            yield entry

    def add(self, seconds: float, payload: Any) -> None:
        entry = SimpleNamespace(
            insert_id=str(len(self.entries)),
            timestamp=START + timedelta(seconds=seconds),
            resource=SimpleNamespace(labels={"task_name": "workerpool0-0"}),
            severity="INFO",
            payload=payload,
        )
        self.entries.append(entry)


def log(fake: FakeLogging) -> JobLog:
    return JobLog(cast(Clients, SimpleNamespace(logging=fake)), "my-project", "42")


def test_new_lines_gives_each_line_once() -> None:
    fake = FakeLogging()
    job_log = log(fake)
    fake.add(1, "one\ntwo")
    assert [line.text for line in job_log.new_lines()] == ["one", "two"]
    assert list(job_log.new_lines()) == []
    fake.add(1, {"message": "three", "levelname": "INFO"})  # of the same moment as what was seen
    fake.add(2, "four")
    assert [str(line) for line in job_log.new_lines()] == ["workerpool0-0: three", "workerpool0-0: four"]
    del fake.entries[:2]  # they are before the moment that is asked for
    assert list(job_log.new_lines()) == []


def test_new_lines_asks_for_the_job_and_then_only_for_what_is_new() -> None:
    fake = FakeLogging()
    job_log = log(fake)
    fake.add(5, "x")
    list(job_log.new_lines())
    list(job_log.new_lines())
    assert fake.filters[0] == 'resource.type="ml_job" AND resource.labels.job_id="42"'
    assert fake.filters[1].endswith('AND timestamp>="2026-01-01T00:00:05+00:00"')


def test_lines_carry_task_and_severity() -> None:
    fake = FakeLogging()
    fake.add(1, "x")
    line = next(log(fake).new_lines())
    assert (line.task_name, line.severity) == ("workerpool0-0", "INFO")


def test_an_entry_without_a_message_has_no_lines() -> None:
    fake = FakeLogging()
    fake.add(1, {"other": 1})
    assert list(log(fake).new_lines()) == []


def test_new_lines_goes_on_after_a_bad_moment() -> None:
    fake = FakeLogging()
    job_log = log(fake)
    for number in range(4):
        fake.add(number, f"line {number}")
    fake.breaks_after = 2
    assert [line.text for line in job_log.new_lines()] == ["line 0", "line 1"]
    fake.breaks_after = None
    del fake.entries[:1]  # before the moment that is asked for now
    assert [line.text for line in job_log.new_lines()] == ["line 2", "line 3"]
