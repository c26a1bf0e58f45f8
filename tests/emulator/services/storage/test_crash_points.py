"""A process killed at any point of any change: the state is as before, or as after.

Each kind of change is run again and again on the same state, in a process that kills itself before its
first step on the disk or in the database, then before the second, and so on until it gets through.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import ObjectFiles
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.uploads import QUANTUM
from tests.conftest import ROOT
from tests.emulator.services.storage.conftest import BUCKET

_DRIVER = """
import functools, json, os, signal, sqlite3, sys
from pathlib import Path
from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.service import Caller, Context, JsonRequest
from emulator.core.state import Database
from emulator.services.storage import ObjectFiles
from emulator.services.storage.bucket_operations import BucketOperations
from emulator.services.storage.checksums import Expected
from emulator.services.storage.managed_folders import FolderRows
from emulator.services.storage.objects import Objects
from emulator.services.storage.preconditions import NONE

B, Q = "a-bucket", 256 * 1024
left = -1

def step():
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

def stepping(function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        step()
        return function(*arguments, **options)
    return wrapper

for name in ("rename", "link", "unlink", "write", "ftruncate", "mkdir", "rmdir"):
    setattr(os, name, stepping(getattr(os, name)))

class Connection(sqlite3.Connection):
    def execute(self, sql, *parameters):
        if sql.startswith(("INSERT", "UPDATE", "DELETE", "COMMIT")):
            step()
        return super().execute(sql, *parameters)

sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)

def call(store, method, body=None, **parameters):
    objects = Objects(store, BucketOperations(store), FolderRows(store.database))
    context = Context(f"storage.objects.{method}", Caller("me@example.com"))
    return getattr(objects, method)(JsonRequest(parameters, body or {}, uri="https://storage.googleapis.com/"), context)

def begun(store, name):
    session = store.uploads.begin(
        B, name, {"contentType": "a/b"}, conditions=NONE, expected=Expected(), total=None
    )
    assert store.uploads.receive(session, {"content-range": f"bytes 0-{Q - 1}/*"}, [b"d" * Q], store.find) == Q
    return session

def prepare(store):
    store.create_bucket(B, "a-project", json.loads(sys.argv[2]))
    for name in ("a/x", "a//x", "b"):
        store.write(f"gs://{B}/{name}", [name.encode() * 500])
    store.write(f"gs://{B}/big", [b"b" * (1 << 20), b"c" * 1000])
    half = call(
        store, "rewrite", {"storageClass": "NEARLINE"}, sourceBucket=B, sourceObject="big", destinationBucket=B,
        destinationObject="a/x", maxBytesRewrittenPerCall=1 << 20,
    )
    return begun(store, "up/load"), begun(store, "a/x"), half["rewriteToken"]

def change(store, session, other, token):
__CHANGE__

folder = Path(sys.argv[1])
for number in range(1000):
    child = os.fork()
    if not child:
        place = folder / str(number)
        database = Database(place / "emulator.db")
        clock = MovableClock()
        store = ObjectFiles(database, clock, Projects(database, clock), place / "objects")
        ids = prepare(store)
        (place / "sessions").write_text(json.dumps(ids))
        left = number
        change(store, *ids)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        print(number)
        break
"""

CHANGES = {
    "new": "store.write(f'gs://{B}/new/x', [b'n' * 1000])",
    "new, awkward": "store.write(f'gs://{B}/new//x', [b'n' * 1000])",
    "overwrite": "store.write(f'gs://{B}/a/x', [b'n' * 1000, b'm' * 1000])",
    "overwrite, awkward": "store.write(f'gs://{B}/a//x', [b'n' * 1000])",
    "delete": "store.delete(B, 'a/x')",
    "delete, awkward": "store.delete(B, 'a//x')",
    "compose": "call(store, 'compose', {'sourceObjects': [{'name': 'a/x'}, {'name': 'b'}], 'deleteSourceObjects': 1},"
    " destinationBucket=B, destinationObject='c/d')",
    "move": "call(store, 'move', bucket=B, sourceObject='a/x', destinationObject='moved/x')",
    "rewrite": "call(store, 'rewrite', {'storageClass': 'NEARLINE'}, sourceBucket=B, sourceObject='a/x',"
    " destinationBucket=B, destinationObject='r')",
    "rewrite, last call": "call(store, 'rewrite', {'storageClass': 'NEARLINE'}, sourceBucket=B, sourceObject='big',"
    " destinationBucket=B, destinationObject='a/x', maxBytesRewrittenPerCall=1 << 20, rewriteToken=token)",
    "resumable, overwriting": "store.uploads.receive(other, {'content-range': f'bytes {Q}-{Q + 3}/{Q + 4}'},"
    " [b'tail'], store.find)",
    "resumable": "store.uploads.receive(session, {'content-range': f'bytes {Q}-{Q + 3}/{Q + 4}'}, [b'tail'],"
    " store.find)",
}
KEEPING: dict[str, dict[str, Any]] = {
    "nothing": {"softDeletePolicy": {"retentionDurationSeconds": "0"}},
    "soft": {},
    "versions": {"versioning": {"enabled": True}},
}
#: The ordinary suite looks at each change under one setting, `long` under all.
_SHORT = {
    ("new", "nothing"), ("new, awkward", "nothing"), ("overwrite", "nothing"), ("overwrite", "versions"),
    ("overwrite, awkward", "versions"), ("delete", "soft"), ("delete, awkward", "versions"), ("compose", "soft"),
    ("move", "nothing"), ("rewrite", "nothing"), ("resumable", "versions"), ("resumable, overwriting", "nothing"),
    ("rewrite, last call", "soft"),
}  # fmt: skip
CASES = [
    pytest.param(change, keeping, marks=() if (change, keeping) in _SHORT else pytest.mark.long)
    for change in CHANGES
    for keeping in KEEPING
]

Content = tuple[dict[str, bytes], list[tuple[str, bytes]]]


def opened(folder: Path) -> tuple[ObjectFiles, Callable[[], None]]:
    database = Database(folder / "emulator.db")
    clock = MovableClock()
    store = ObjectFiles(database, clock, Projects(database, clock), folder / "objects")

    def close() -> None:
        store.close()
        database.close()

    return store, close


def content(folder: Path) -> Content:
    """Live objects, and generations that are kept, after a start; nothing else may lie in the folders."""
    store, close = opened(folder)
    try:
        store.publish(BUCKET)
        live = {
            uri.removeprefix(f"gs://{BUCKET}/"): b"".join(store.read(uri)) for uri in store.names(f"gs://{BUCKET}/")
        }
        versions = store.versions.of_bucket(BUCKET)
        kept = [(row.name, (folder / "objects" / "apart" / row.apart).read_bytes()) for row in versions]
        used = {row.apart for row in versions} | store.catalogue.apart()
        assert {path.name for path in (folder / "objects" / "apart").iterdir()} == used
        sessions = store.uploads.unfinished() | store.rewrites.unfinished()
        assert {path.name for path in (folder / "objects" / "incoming").iterdir()} == sessions
        return live, sorted(kept)
    finally:
        close()


@pytest.mark.parametrize(("change", "keeping"), CASES)
def test_kill_at_any_point_leaves_the_state_before_or_after(tmp_path: Path, change: str, keeping: str) -> None:
    script = _DRIVER.replace("__CHANGE__", textwrap.indent(CHANGES[change], "    "))
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), json.dumps(KEEPING[keeping])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    points = int(result.stdout)
    assert points >= 3
    found = [content(tmp_path / str(number)) for number in range(points)]
    before, after = found[0], content(tmp_path / str(points))
    assert after != before
    assert [number for number, state in enumerate(found) if state not in (before, after)] == []
    # Once it was committed, it is there for good.
    committed = found.index(after) if after in found else points
    assert all(state == after for state in found[committed:])
    if change.startswith("resumable"):
        # What was acknowledged of an upload is not lost, and one that was complete is finished.
        for number, state in enumerate(found):
            store, close = opened(tmp_path / str(number))
            session = json.loads((tmp_path / str(number) / "sessions").read_text())[", " in change]
            held = store.uploads.receive(session, {"content-range": "bytes */*"}, [], store.find)
            assert held == QUANTUM or isinstance(held, StoredObject)
            assert isinstance(held, StoredObject) or state == before
            close()
