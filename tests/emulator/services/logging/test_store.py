"""The store of log entries: order, batches, limits, and answers that the database and Python share."""

from __future__ import annotations

import itertools
import resource
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from selfloop_apis import logging_v2

from emulator.core.clock import MovableClock
from emulator.core.interfaces import LogRecord
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.logging import store as store_module
from emulator.services.logging.query_language import parse
from emulator.services.logging.query_match import predicate
from emulator.services.logging.store import LogStore, Scope

PROJECT = "store-project"
SCOPE = Scope(frozenset({PROJECT}))


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "emulator.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database, clock: MovableClock) -> LogStore:
    return LogStore(database, clock, Projects(database, clock))


def record(text: str, *, job: str = "1", task: str = "workerpool0-0", severity: str = "INFO") -> LogRecord:
    return LogRecord(task, "ml_job", {"job_id": job, "task_name": task}, text, severity)


def texts(store: LogStore, text: str = "", limit: int = 1000, *, descending: bool = False) -> list[str]:
    page = store.read(SCOPE, parse(text), descending=descending, limit=limit, after=None)
    assert page.end is None or limit < 1000
    return [entry.text_payload for entry in page.entries]


def test_write_keeps_the_order_of_lines_and_gives_each_its_own_insert_id(store: LogStore) -> None:
    lines = [f"line {number}" for number in range(2500)]
    store.write(PROJECT, (record(line) for line in lines))
    found: list[logging_v2.LogEntry] = []
    end = None
    while not found or end:
        page = store.read(SCOPE, parse(""), descending=False, limit=700, after=end)
        found += page.entries
        end = page.end
    assert [entry.text_payload for entry in found] == lines
    assert len({entry.insert_id for entry in found}) == len(lines)
    assert [entry.insert_id for entry in found] == sorted(entry.insert_id for entry in found)


def test_write_stamps_with_the_emulators_clock_and_keeps_a_given_time(store: LogStore, clock: MovableClock) -> None:
    clock.advance(timedelta(hours=48))
    given = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    store.write(PROJECT, [record("now"), LogRecord("x", "global", {}, {"n": 1}, time=given)])
    old, new = store.read(SCOPE, parse(""), descending=False, limit=10, after=None).entries
    assert old.timestamp.ToJsonString() == "2026-01-02T03:04:05.678901Z"
    assert new.timestamp.ToDatetime(tzinfo=UTC) > datetime.now(UTC) + timedelta(hours=47)
    assert old.receive_timestamp.ToDatetime(tzinfo=UTC) > datetime.now(UTC) + timedelta(hours=47)


def test_insert_ids_stay_in_order_over_a_restart(store: LogStore, database: Database, clock: MovableClock) -> None:
    clock.advance(timedelta(hours=1))
    store.write(PROJECT, [record("before")])
    # A clock that was set back.
    behind = MovableClock()
    LogStore(database, behind, Projects(database, behind)).write(PROJECT, [record("after")])
    assert texts(store) == ["before", "after"]


def test_write_mends_text_that_no_message_can_hold(store: LogStore) -> None:
    store.write(
        PROJECT,
        [
            record("bad \udcff end"),
            record("nul \0 byte"),
            LogRecord("x", "global", {}, {"m": "\ud800", "v": float("nan")}),
        ],
    )
    page = store.read(SCOPE, parse(""), descending=False, limit=10, after=None)
    assert [entry.text_payload for entry in page.entries[:2]] == ["bad ? end", "nul \0 byte"]
    assert dict(page.entries[2].json_payload) == {"m": "?", "v": "NaN"}


def test_text_larger_than_an_entry_becomes_several(store: LogStore) -> None:
    store.write(PROJECT, [record("ü" * 200_000)])
    found = texts(store)
    assert len(found) > 1
    assert "".join(found) == "ü" * 200_000


def test_same_time_and_insert_id_is_one_entry(store: LogStore) -> None:
    entry = logging_v2.LogEntry(log_name=f"projects/{PROJECT}/logs/a", text_payload="once", insert_id="same")
    entry.resource.type = "global"
    entry.timestamp.FromJsonString("2026-11-20T00:00:00.000000001Z")
    store.write_entries(PROJECT, [entry, entry])
    store.write_entries(PROJECT, [entry])
    assert texts(store) == ["once"]


def test_limit_of_entries_drops_the_earliest(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_ENTRIES", 100)
    store.write("other-project", [record("of another project")])
    for start in range(0, 250, 50):
        store.write(PROJECT, [record(str(number)) for number in range(start, start + 50)])
    assert texts(store) == [str(number) for number in range(150, 250)]
    other = store.read(Scope(frozenset({"other-project"})), parse(""), descending=False, limit=10, after=None)
    assert len(other.entries) == 1


def test_limit_of_bytes_drops_the_earliest(store: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_BYTES", 100_000)
    for number in range(30):
        store.write(PROJECT, [record(f"{number} " + "x" * 9_000)])
    kept = texts(store)
    assert 9 <= len(kept) <= 11
    assert kept[-1].startswith("29 ")


def test_entries_go_thirty_days_after_their_receipt(store: LogStore, clock: MovableClock) -> None:
    store.write(PROJECT, [record("old", job="1")])
    clock.advance(timedelta(days=29))
    store.write(PROJECT, [record("younger", job="2")])
    clock.advance(timedelta(days=2))
    store.write("other-project", [record("of another project")])
    assert texts(store) == ["younger"]


def test_delete_log_leaves_the_others_and_forgets_its_name(store: LogStore) -> None:
    store.write(PROJECT, [record("a", task="one"), record("b", task="two"), record("c", task="one")])
    store.delete_log(PROJECT, f"projects/{PROJECT}/logs/one")
    assert texts(store) == ["b"]
    assert store.log_names(SCOPE) == [f"projects/{PROJECT}/logs/two"]
    store.write(PROJECT, [record("again", task="one")])
    assert texts(store) == ["b", "again"]


def test_page_goes_on_where_it_ended_while_entries_arrive(store: LogStore) -> None:
    store.write(PROJECT, [record(str(number)) for number in range(10)])
    first = store.read(SCOPE, parse(""), descending=True, limit=4, after=None)
    store.write(PROJECT, [record("late")])
    second = store.read(SCOPE, parse(""), descending=True, limit=100, after=first.end)
    assert [entry.text_payload for entry in second.entries] == ["5", "4", "3", "2", "1", "0"]


def test_more_streams_than_are_merged_still_come_in_order(store: LogStore) -> None:
    lines = [record(str(number), job=str(number % 120)) for number in range(600)]
    store.write(PROJECT, lines)
    assert texts(store) == [str(number) for number in range(600)]
    assert texts(store, "NOT resource.labels.job_id=3", descending=True)[:2] == ["599", "598"]


def test_database_and_predicate_agree_on_every_filter(store: LogStore) -> None:
    """What is compiled to SQL selects exactly what the language means."""
    severities = ("DEFAULT", "INFO", "WARNING", "ERROR")
    store.write(
        PROJECT,
        (
            LogRecord(
                f"log/{number % 3}",
                "ml_job" if number % 2 else "global",
                {"job_id": str(number % 5)},
                {"message": f"Line {number}", "n": number} if number % 4 == 0 else f"Line {number} ERROR",
                severities[number % 4],
                {"k": str(number % 2)},
                datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=number),
            )
            for number in range(80)
        ),
    )
    everything = store.read(SCOPE, parse(""), descending=False, limit=1000, after=None).entries
    terms = (
        "severity>=WARNING", "severity:INFO", 'resource.type="ml_job"', "resource.labels.job_id=3",
        'timestamp<"2026-11-20T00:00:30Z"', 'timestamp!="2026-11-20T00:00:07Z"', 'log_id("log/1")', "labels.k=1",
        "textPayload:error", "textPayload!=x", "jsonPayload.n>20", "jsonPayload.message:line", '"line 4"', "error",
        "ml_job", 'textPayload=~"1 ERR"', f'insertId>="{everything[40].insert_id}"', "timestamp:*", "global",
    )  # fmt: skip
    queries = [*terms, *(f"NOT {term}" for term in terms)]
    for one, other in itertools.combinations(terms, 2):
        queries += [f"{one} {other}", f"{one} OR {other}", f"NOT ({one} OR {other})", f"{one} OR NOT {other}"]
    for query in queries:
        test = predicate(parse(query))
        want = [entry.insert_id for entry in everything if test(entry)]
        page = store.read(SCOPE, parse(query), descending=False, limit=1000, after=None)
        assert [entry.insert_id for entry in page.entries] == want, query


def test_writers_and_readers_do_not_get_in_each_others_way(store: LogStore) -> None:
    failures: list[BaseException] = []

    def write(job: str) -> None:
        try:
            for start in range(0, 300, 10):
                store.write(PROJECT, [record(str(number), job=job) for number in range(start, start + 10)])
                texts(store, f"resource.labels.job_id={job} severity>=INFO", limit=20)
        except BaseException as error:  # noqa: BLE001  # looked at below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(str(job),)) for job in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for job in range(6):
        assert texts(store, f"resource.labels.job_id={job}", limit=999) == [str(number) for number in range(300)]


@pytest.mark.long
def test_hundred_megabytes_of_lines_take_little_memory_and_are_read_in_even_time(store: LogStore) -> None:
    lines = 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store.write(PROJECT, (record(f"line {number} ".ljust(100, "x")) for number in range(lines)))
    found, slowest, end = 0, 0.0, None
    while not found or end:
        started = time.monotonic()
        page = store.read(SCOPE, parse('resource.labels.job_id="1"'), descending=False, limit=1000, after=end)
        slowest = max(slowest, time.monotonic() - started)
        found, end = found + len(page.entries), page.end
    assert found == lines
    assert slowest < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_upper_bound_at_the_clients_now_follows_the_emulators_clock(store: LogStore, clock: MovableClock) -> None:
    """What `gcloud ai custom-jobs stream-logs` asks for, once the clock was advanced."""
    store.write(PROJECT, [record("before")])
    clock.advance(timedelta(hours=48))
    store.write(PROJECT, [record("after")])
    now = datetime.now(UTC)
    upper = f'timestamp<"{now + timedelta(seconds=1):%Y-%m-%dT%H:%M:%S.%fZ}"'
    assert texts(store, f'timestamp>="1970-01-01T01:00:00.000000000Z" AND {upper}') == ["before", "after"]
    # A bound that is not the client's now stays what it is.
    assert texts(store, f'timestamp<"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"') == ["before"]
