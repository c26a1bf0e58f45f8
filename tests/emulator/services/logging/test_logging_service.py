"""Cloud Logging through its official clients: the Python library over gRPC and REST, and gcloud."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import BadRequest, InvalidArgument, NotFound, PermissionDenied
from google.cloud import logging as cloud_logging
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.types import (
    LogEntry,
    TailLogEntriesRequest,
    WriteLogEntriesPartialErrors,
    WriteLogEntriesRequest,
)

from tests.conftest import Emulator, require_program, wait_until

RESOURCE = {"type": "global", "labels": {}}


@pytest.fixture(autouse=True)
def _no_diagnostic_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library adds an entry about itself to the first that a process writes."""
    monkeypatch.setattr("google.cloud.logging_v2._instrumentation_emitted", True)


@pytest.fixture(params=["grpc", "rest"])
def client(emulator: Emulator, request: pytest.FixtureRequest, project: str) -> cloud_logging.Client:
    return cloud_logging.Client(project=project, _use_grpc=request.param == "grpc")


@pytest.fixture
def service(emulator: Emulator) -> LoggingServiceV2Client:
    return emulator.client(LoggingServiceV2Client)


def write(service: LoggingServiceV2Client, project: str, *texts: str, log: str = "test", **fields: Any) -> None:
    service.write_log_entries(
        log_name=f"projects/{project}/logs/{log}",
        resource=RESOURCE,
        labels={},
        entries=[LogEntry(text_payload=text, **fields) for text in texts],
    )


def test_logged_entries_are_listed_as_they_were_given(client: cloud_logging.Client, project: str) -> None:
    logger = client.logger("my-log")
    logger.log_text("plain", severity="WARNING", labels={"who": "me"})
    logger.log_struct(
        {"message": "structured", "n": 3, "deep": {"list": [1, "two", None, 2.5]}},
        severity="ERROR",
        trace=f"projects/{project}/traces/abc",
        http_request={"requestMethod": "GET", "status": 500},
    )
    text, struct = list(client.list_entries())
    assert (text.payload, text.severity, text.labels) == ("plain", "WARNING", {"who": "me"})
    assert text.log_name == f"projects/{project}/logs/my-log"
    assert (text.resource.type, text.resource.labels) == ("global", {"project_id": project})
    assert text.insert_id
    assert abs(text.timestamp - datetime.now(UTC)) < timedelta(minutes=1)
    assert struct.payload == {"message": "structured", "n": 3, "deep": {"list": [1, "two", None, 2.5]}}
    assert struct.http_request["status"] == 500
    assert struct.trace == f"projects/{project}/traces/abc"


def test_list_entries_pages_through_everything_in_both_orders(client: cloud_logging.Client) -> None:
    logger = client.logger("paged")
    batch = logger.batch()
    for number in range(120):
        batch.log_text(f"line {number}")
    batch.commit()
    ascending = [entry.payload for entry in client.list_entries(page_size=50)]
    assert ascending == [f"line {number}" for number in range(120)]
    descending = [entry.payload for entry in client.list_entries(order_by=cloud_logging.DESCENDING, page_size=50)]
    assert descending == ascending[::-1]


def test_list_entries_filters(client: cloud_logging.Client) -> None:
    client.logger("one").log_text("first", severity="INFO")
    client.logger("two").log_struct({"step": {"name": "train"}}, severity="ERROR")
    assert [entry.payload for entry in client.list_entries(filter_="severity<ERROR")] == ["first"]
    found = client.list_entries(filter_='jsonPayload.step.name="train" AND log_id("two")')
    assert [entry.severity for entry in found] == ["ERROR"]
    assert [entry.payload for entry in client.logger("one").list_entries()] == ["first"]


def test_list_entries_of_a_bad_filter_is_an_invalid_argument(client: cloud_logging.Client) -> None:
    # The library's own JSON transport knows BadRequest alone.
    with pytest.raises(BadRequest, match="Unparseable filter: syntax error at line 1, column 11, token ':'"):
        list(client.list_entries(filter_="textPayl :: x"))


def test_handler_of_pythons_logging_writes_in_the_background(client: cloud_logging.Client, project: str) -> None:
    handler = client.get_default_handler()
    logger = logging.getLogger(f"test.{project}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        logger.error("a real %s", "problem")
        handler.flush()
        entries = wait_until(lambda: list(client.list_entries(filter_='"a real problem"')))
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert entries[0].severity == "ERROR"


def test_delete_log_removes_its_entries_alone(client: cloud_logging.Client) -> None:
    client.logger("goes").log_text("a")
    client.logger("stays").log_text("b")
    client.logger("goes").delete()
    assert [entry.payload for entry in client.list_entries()] == ["b"]
    with pytest.raises(NotFound):
        client.logger("goes").delete()


def test_log_id_is_encoded_in_names_and_a_number_becomes_the_id(
    service: LoggingServiceV2Client, emulator: Emulator, project: str
) -> None:
    from google.cloud.resourcemanager_v3 import ProjectsClient

    number = emulator.client(ProjectsClient).get_project(name=f"projects/{project}").name
    service.write_log_entries(
        log_name=f"{number}/logs/aiplatform.googleapis.com%2Fmodel_monitoring",
        resource=RESOURCE,
        entries=[LogEntry(text_payload="x")],
    )
    name = f"projects/{project}/logs/aiplatform.googleapis.com%2Fmodel_monitoring"
    assert list(service.list_logs(parent=f"projects/{project}")) == [name]
    assert [entry.log_name for entry in service.list_log_entries(resource_names=[number])] == [name]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"log_name": "nonsense"}, "Invalid log name 'nonsense'"),
        ({"log_name": "projects/some-project/logs/with space"}, "Invalid log name"),
        ({"resource": {}}, "no monitored resource type"),
        ({"entries": [{"text_payload": "x" * 300_000}]}, "Log entry with size 293.1K exceeds maximum size of 256.0K"),
    ],
)
def test_write_of_a_bad_entry_is_an_invalid_argument_and_writes_nothing(
    service: LoggingServiceV2Client, project: str, fields: dict[str, Any], message: str
) -> None:
    request = {
        "log_name": f"projects/{project}/logs/x",
        "resource": RESOURCE,
        "entries": [{"text_payload": "good"}],
        **fields,
    }
    with pytest.raises(InvalidArgument, match=message):
        service.write_log_entries(request)
    assert list(service.list_log_entries(resource_names=[f"projects/{project}"])) == []


def test_partial_success_writes_the_good_and_names_the_bad(service: LoggingServiceV2Client, project: str) -> None:
    request = WriteLogEntriesRequest(
        log_name=f"projects/{project}/logs/x",
        resource=RESOURCE,
        entries=[LogEntry(text_payload="good"), LogEntry(log_name="bad", text_payload="lost")],
        partial_success=True,
    )
    with pytest.raises(InvalidArgument) as caught:
        service.write_log_entries(request)
    (detail,) = caught.value.details
    assert list(WriteLogEntriesPartialErrors.deserialize(detail.value).log_entry_errors) == [1]
    found = service.list_log_entries(resource_names=[f"projects/{project}"])
    assert [entry.text_payload for entry in found] == ["good"]


def test_dry_run_writes_nothing(service: LoggingServiceV2Client, project: str) -> None:
    request = WriteLogEntriesRequest(
        log_name=f"projects/{project}/logs/x", resource=RESOURCE, entries=[LogEntry(text_payload="x")], dry_run=True
    )
    service.write_log_entries(request)
    assert list(service.list_log_entries(resource_names=[f"projects/{project}"])) == []


def test_page_token_of_another_query_is_refused(service: LoggingServiceV2Client, project: str) -> None:
    write(service, project, "a", "b", "c")
    names = [f"projects/{project}"]
    token = service.list_log_entries({"resource_names": names, "page_size": 1}).next_page_token
    assert token
    for other in ({"filter": "severity>=ERROR", "page_token": token}, {"page_token": "bm9uc2Vuc2U"}):
        with pytest.raises(InvalidArgument, match="page_token"):
            service.list_log_entries({"resource_names": names, **other})


@pytest.mark.parametrize("fields", [{"page_size": 1001}, {"page_size": -1}, {"order_by": "severity desc"}])
def test_list_refuses_what_it_cannot_do(service: LoggingServiceV2Client, project: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"page_size|order_by"):
        service.list_log_entries({"resource_names": [f"projects/{project}"], **fields})


def test_views_of_the_default_buckets_hold_their_logs(service: LoggingServiceV2Client, project: str) -> None:
    write(service, project, "plain")
    write(service, project, "audit", log="cloudaudit.googleapis.com%2Factivity")

    def read(bucket: str, view: str = "_AllLogs") -> list[str]:
        name = f"projects/{project}/locations/global/buckets/{bucket}/views/{view}"
        return [entry.text_payload for entry in service.list_log_entries(resource_names=[name])]

    assert read("_Default") == ["plain"]
    assert read("_Required") == ["audit"]
    with pytest.raises(NotFound, match="Bucket `mine` in location `global` does not exist"):
        read("mine")


def test_only_projects_can_be_written_to(service: LoggingServiceV2Client) -> None:
    with pytest.raises(PermissionDenied):
        service.write_log_entries(
            log_name="organizations/123/logs/x", resource=RESOURCE, entries=[LogEntry(text_payload="x")]
        )
    assert list(service.list_log_entries(resource_names=["organizations/123"])) == []


def test_number_that_json_lacks_does_not_spoil_a_list(
    service: LoggingServiceV2Client, emulator: Emulator, project: str
) -> None:
    service.write_log_entries(
        log_name=f"projects/{project}/logs/x",
        resource=RESOURCE,
        entries=[LogEntry(json_payload={"loss": float("nan"), "list": [float("inf")]})],
    )
    over_rest = cloud_logging.Client(project=project, _use_grpc=False)
    assert [entry.payload for entry in over_rest.list_entries()] == [{"loss": "NaN", "list": ["Infinity"]}]


def test_timestamp_outside_what_is_kept_is_dropped(service: LoggingServiceV2Client, project: str) -> None:
    now = datetime.now(UTC)
    for age in (timedelta(days=40), timedelta(days=-30_000), timedelta(days=3)):
        write(service, project, str(age.days), timestamp=now - age)
    found = service.list_log_entries(resource_names=[f"projects/{project}"])
    assert [entry.text_payload for entry in found] == ["3"]


class _Tail:
    """A tail that is followed on a thread; `texts` gets what comes.

    By the client's own stub: the method around it waits for a first entry before it gives back anything to cancel.
    """

    def __init__(self, service: LoggingServiceV2Client, project: str, **fields: Any) -> None:
        self._end = threading.Event()
        request = TailLogEntriesRequest(resource_names=[f"projects/{project}"], **fields)
        self.texts: queue.Queue[str] = queue.Queue()
        self.failure: grpc.StatusCode | None = None
        stub: Any = service.transport.tail_log_entries
        self._stream = stub(self._requests(request))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _requests(self, request: TailLogEntriesRequest) -> Iterator[TailLogEntriesRequest]:
        yield request
        self._end.wait()

    def _read(self) -> None:
        try:
            for response in self._stream:
                for entry in response.entries:
                    self.texts.put(entry.text_payload)
        except grpc.RpcError:
            self.failure = self._stream.code()

    def close(self) -> None:
        self._end.set()
        self._stream.cancel()
        self._thread.join(timeout=10)


@pytest.fixture
def tail(service: LoggingServiceV2Client, project: str) -> Iterator[Callable[..., _Tail]]:
    opened: list[_Tail] = []

    def start(**fields: Any) -> _Tail:
        opened.append(_Tail(service, project, **fields))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_tail_gives_new_entries_that_pass_its_filter(
    service: LoggingServiceV2Client, project: str, tail: Callable[..., _Tail]
) -> None:
    write(service, project, "before")
    following = tail(filter='textPayload="x"', buffer_window=timedelta(0))
    assert wait_until(lambda: _arrived(service, project, following)) == "x"


def test_tails_are_bounded_and_leave_room_for_other_calls(
    service: LoggingServiceV2Client, project: str, tail: Callable[..., _Tail]
) -> None:
    tails = [tail() for _ in range(12)]
    # At least: tails of other tests may be on their way out.
    wait_until(lambda: sum(one.failure is not None for one in tails) >= 4)
    assert {one.failure for one in tails} == {None, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert list(service.list_log_entries(resource_names=[f"projects/{project}"])) == []
    for one in tails:
        one.close()

    def follows_again() -> bool:
        one = tail(buffer_window=timedelta(0))
        return wait_until(lambda: one.failure or _arrived(service, project, one)) in ("other", "x")

    wait_until(follows_again)


def _arrived(service: LoggingServiceV2Client, project: str, following: _Tail) -> str | None:
    """A text that came through. A tail begins some time after it is asked for, so entries are written until then."""
    write(service, project, "other", "x")
    try:
        return following.texts.get(timeout=0.2)
    except queue.Empty:
        return None


def test_tail_of_a_bad_filter_is_an_invalid_argument(tail: Callable[..., _Tail]) -> None:
    following = tail(filter="nosuchfield=1")
    wait_until(lambda: following.failure)
    assert following.failure is grpc.StatusCode.INVALID_ARGUMENT


def test_entries_survive_a_kill(new_emulator: Callable[..., Emulator], project: str) -> None:
    first = new_emulator()
    with first.exported():
        client = cloud_logging.Client(project=project, _use_grpc=False)
        client.logger("x").log_text("acknowledged")
    first.stop(9)
    second = new_emulator(state=first.state)
    with second.exported():
        client = cloud_logging.Client(project=project, _use_grpc=False)
        assert [entry.payload for entry in client.list_entries()] == ["acknowledged"]


def test_gcloud_writes_and_reads(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")

    def run(*arguments: str) -> str:
        result = emulator.run(gcloud, "logging", *arguments, f"--project={project}")
        assert result.returncode == 0, result.stderr
        return result.stdout

    run("write", "my-log", "hello world", "--severity=WARNING")
    run("write", "my-log", '{"message":"hi","n":3}', "--payload-type=json")
    entries = json.loads(run("read", "severity>=WARNING OR jsonPayload.n=3", "--limit=5", "--format=json"))
    assert [entry.get("textPayload") or entry["jsonPayload"] for entry in entries] == [
        {"message": "hi", "n": 3},
        "hello world",
    ]
    assert entries[1]["severity"] == "WARNING"
    assert f"projects/{project}/logs/my-log" in run("logs", "list")
    run("logs", "delete", "my-log", "--quiet")
    assert json.loads(run("read", "", "--format=json")) == []


def test_gcloud_shows_the_error_of_a_bad_filter(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")
    result = emulator.run(gcloud, "logging", "read", "insertId=abc:def", f"--project={project}")
    assert result.returncode == 1
    assert "INVALID_ARGUMENT: Unparseable filter: syntax error at line 1, column " in result.stderr


def test_reading_works_after_the_clock_was_advanced(new_emulator: Callable[..., Emulator], project: str) -> None:
    emulator = new_emulator()
    emulator.control("POST", "clock", {"advance_seconds": 48 * 3600})
    with emulator.exported():
        client = cloud_logging.Client(project=project, _use_grpc=False)
        client.logger("x").log_text("late")
        (entry,) = client.list_entries()
    assert entry.payload == "late"
    assert entry.timestamp > datetime.now(UTC) + timedelta(hours=47)
    now = datetime.now(UTC)
    streamed = f'timestamp>="1970-01-01T01:00:00.000000000Z" AND timestamp<"{now:%Y-%m-%dT%H:%M:%S.%f+00:00}"'
    with emulator.exported():
        client = cloud_logging.Client(project=project, _use_grpc=False)
        client.logger("x").log_text("later")
        assert [entry.payload for entry in client.list_entries(filter_=streamed)] == ["late"]
    gcloud = require_program("gcloud")
    result = emulator.run(gcloud, "logging", "read", 'textPayload="late"', f"--project={project}", "--format=json")
    assert [entry["textPayload"] for entry in json.loads(result.stdout)] == ["late"]
