"""A store of its own for tests of what happens below the API, and the official client for what is seen above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.cloud.storage import Bucket, Client

from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import ObjectFiles
from tests.conftest import Emulator

BUCKET = "a-bucket"
NOTHING_KEPT = {"softDeletePolicy": {"retentionDurationSeconds": "0"}}


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], ObjectFiles]]:
    """Opens the store on one folder; each call is a restart."""
    opened: list[tuple[ObjectFiles, Database]] = []

    def open_() -> ObjectFiles:
        close()
        database = Database(tmp_path / "emulator.db")
        clock = MovableClock()
        store = ObjectFiles(database, clock, Projects(database, clock), tmp_path / "objects")
        opened.append((store, database))
        return store

    def close() -> None:
        while opened:
            store, database = opened.pop()
            store.close()
            database.close()

    yield open_
    close()


@pytest.fixture
def store(open_store: Callable[[], ObjectFiles]) -> ObjectFiles:
    """A store with one bucket, which keeps nothing of what is deleted."""
    store = open_store()
    store.create_bucket(BUCKET, "a-project", NOTHING_KEPT)
    return store


@pytest.fixture
def client(emulator: Emulator, project: str) -> Iterator[Client]:
    """google-cloud-storage as a user makes it."""
    with Client(project=project) as client:
        yield client


@pytest.fixture
def bucket(client: Client, project: str) -> Bucket:
    return client.create_bucket(f"{project}-bucket")
