"""The API and jobs change the same bucket in any order, and the store always shows what was done last."""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
from pathlib import Path

from google.api_core.exceptions import NotFound
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import ObjectFiles
from emulator.services.storage.listing import Query, list_page
from tests.emulator.services.storage.conftest import BUCKET

NAMES = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "a//b", "a/", "b", "b/../c", "é", "e\u0301", "/a"])
PATHS = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "b", "e\u0301"])
DATA = st.binary(max_size=8)


class StoreAndJobs(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.expected: dict[str, bytes] = {}
        self.shown: set[str] = set()
        self.open()
        self.store.create_bucket(BUCKET, "a-project", {})

    def open(self) -> None:
        self.database = Database(self.folder / "emulator.db")
        clock = MovableClock()
        self.store = ObjectFiles(self.database, clock, Projects(self.database, clock), self.folder / "objects")

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def file(self, name: str) -> Path:
        return self.store.tree / BUCKET / name

    @rule(name=NAMES, data=DATA)
    def upload(self, name: str, data: bytes) -> None:
        self.store.write(f"gs://{BUCKET}/{name}", [data])
        self.expected[name] = data

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name.endswith("/"):
            self.look()
        if name in self.expected:
            self.store.delete(BUCKET, name)
            del self.expected[name]
        else:
            with contextlib.suppress(NotFound):
                self.store.delete(BUCKET, name)
                raise AssertionError(f"{name} could be deleted")

    @rule(name=PATHS, data=DATA)
    def job_writes(self, name: str, data: bytes) -> None:
        try:
            self.file(name).parent.mkdir(parents=True, exist_ok=True)
            self.file(name).write_bytes(data)
        except OSError:
            return  # a file in place of a folder, or the other way round
        self.expected[name] = data
        self.show(name)

    def show(self, name: str) -> None:
        """Have the store look at a file that a job put over an object kept apart.

        Before it did, the object is still there: a file that comes and goes unseen leaves no trace.
        """
        row = self.store.catalogue.find(BUCKET, name)
        if row is not None and row.apart:
            self.store.find(BUCKET, name)

    def look(self) -> None:
        """Have the store look at everything: an empty folder is an object `folder/`, and goes with the folder."""
        self.store.publish()
        for name in [name for name in self.shown if not self.file(name).is_dir()]:
            self.shown.remove(name)
            self.expected.pop(name, None)
        for path in (self.store.tree / BUCKET).rglob("*"):
            # What the emulator made for its own files is marked with the sticky bit.
            if path.is_dir() and not path.stat().st_mode & stat.S_ISVTX and not any(path.iterdir()):
                self.expected.setdefault(f"{path.relative_to(self.store.tree / BUCKET)}/", b"")
        self.shown |= {name for name in self.expected if name.endswith("/") and self.file(name).is_dir()}

    @rule(name=PATHS)
    def job_makes_a_folder(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.file(name).mkdir(parents=True)

    @rule(name=PATHS)
    def job_removes_an_empty_folder(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.file(name).rmdir()

    @rule(name=PATHS)
    def job_deletes(self, name: str) -> None:
        if self.file(name).is_file():
            self.file(name).unlink()
            del self.expected[name]

    @rule(name=PATHS)
    def job_deletes_a_folder(self, name: str) -> None:
        if not self.file(name).is_dir():
            return
        below = [path for path in self.file(name).rglob("*") if path.is_file()]
        for path in below:
            del self.expected[str(path.relative_to(self.store.tree / BUCKET))]
        shutil.rmtree(self.file(name))

    @rule(before=PATHS, after=PATHS)
    def job_renames(self, before: str, after: str) -> None:
        if before == after or not self.file(before).is_file() or self.file(after).is_dir():
            return
        try:
            self.file(before).rename(self.file(after))
        except OSError:
            return
        self.expected[after] = self.expected.pop(before)
        self.show(after)

    @rule()
    def publish(self) -> None:
        self.look()

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule()
    def every_object_is_listed_and_read(self) -> None:
        self.look()
        prefix = f"gs://{BUCKET}/"
        listed = [uri.removeprefix(prefix) for uri in self.store.names(prefix)]
        assert listed == sorted(self.expected, key=str.encode)
        assert {name: b"".join(self.store.read(prefix + name)) for name in listed} == self.expected
        folded = list_page(self.store, Query(BUCKET, delimiter="/"))
        assert [row.name for row in folded.items] == [name for name in listed if "/" not in name]

    def teardown(self) -> None:
        self.every_object_is_listed_and_read()
        self.close()
        shutil.rmtree(self.folder)


TestStoreAndJobs = StoreAndJobs.TestCase
TestStoreAndJobs.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
