"""What a process that was killed leaves: acknowledged data whole, anything else whole or not there."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.services.storage import ObjectFiles
from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.uploads import QUANTUM
from tests.conftest import ROOT
from tests.emulator.services.storage.conftest import BUCKET

_PRELUDE = """
import os, signal, sys
from pathlib import Path
from emulator.core.clock import MovableClock
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.storage import ObjectFiles
from emulator.services.storage.catalogue import Catalogue
from emulator.services.storage.checksums import Expected
from emulator.services.storage.files import Files
from emulator.services.storage.staged import Staged
from emulator.services.storage.preconditions import NONE

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
database = Database(folder / "emulator.db")
clock = MovableClock()
store = ObjectFiles(database, clock, Projects(database, clock), folder / "objects")
"""

KILLED_UPLOADS = {
    "while bytes come": "def data():\n    yield b'n' * 1000\n    die()\nstore.write(uri, data())",
    "before the rename": "Files.put = die\nstore.write(uri, [b'n' * 1000])",
    "between rename and row": "Catalogue.save = die\nstore.write(uri, [b'n' * 1000])",
    "after the row": "store.write(uri, [b'n' * 1000])\ndie()",
}


def run_until_killed(folder: Path, script: str, *arguments: str) -> str:
    """Run a script against the store in a process that kills itself; what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", _PRELUDE + textwrap.dedent(script), str(folder), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == -9, result.stderr
    return result.stdout


def read(store: ObjectFiles, name: str) -> bytes:
    return b"".join(store.read(f"gs://{BUCKET}/{name}"))


@pytest.mark.parametrize("moment", KILLED_UPLOADS)
@pytest.mark.parametrize("name", ["plain/name", "awkward//name"])
def test_kill_during_an_overwrite_leaves_a_whole_object(
    open_store: Callable[[], ObjectFiles], store: ObjectFiles, tmp_path: Path, moment: str, name: str
) -> None:
    store.write(f"gs://{BUCKET}/{name}", [b"o" * 2000])
    run_until_killed(tmp_path, f"uri = 'gs://{BUCKET}/{name}'\n" + KILLED_UPLOADS[moment])
    store = open_store()
    data = read(store, name)
    assert data == (b"n" * 1000 if moment == "after the row" else b"o" * 2000)
    assert [uri.rpartition(f"{BUCKET}/")[2] for uri in store.names(f"gs://{BUCKET}/")] == [name]
    assert list((tmp_path / "objects" / "incoming").iterdir()) == []
    assert len(list((tmp_path / "objects" / "apart").iterdir())) == (name == "awkward//name")


@pytest.mark.parametrize("moment", ["Catalogue.delete", "Files._remove_empty_folders", "Files.remove_apart"])
def test_kill_during_a_deletion_leaves_the_object_or_nothing(
    open_store: Callable[[], ObjectFiles], store: ObjectFiles, tmp_path: Path, moment: str
) -> None:
    store.write(f"gs://{BUCKET}/x", [b"old"])
    before = store.find(BUCKET, "x")
    run_until_killed(tmp_path, f"{moment} = die\nstore.delete('{BUCKET}', 'x')")
    store = open_store()
    if moment == "Files.remove_apart":
        assert list(store.names(f"gs://{BUCKET}/")) == []
    else:
        assert store.find(BUCKET, "x") == before
        assert read(store, "x") == b"old"
    assert list((tmp_path / "objects" / "apart").iterdir()) == []


def test_resumable_upload_goes_on_after_a_kill(
    open_store: Callable[[], ObjectFiles], store: ObjectFiles, tmp_path: Path
) -> None:
    data = bytes(range(256)) * (QUANTUM * 4 // 256)
    script = f"""
        data = bytes(range(256)) * {QUANTUM * 4 // 256}
        quantum = {QUANTUM}
        fields = {{"contentType": "text/plain", "storageClass": "STANDARD"}}
        session = store.uploads.begin("{BUCKET}", "x", fields, conditions=NONE, expected=Expected(), total=None)
        print(session, flush=True)
        headers = {{"content-range": f"bytes 0-{{quantum - 1}}/*"}}
        assert store.uploads.receive(session, headers, [data[:quantum]], store.find) == quantum
        def half():
            yield data[quantum:quantum + quantum // 2]
            die()
        headers = {{"content-range": f"bytes {{quantum}}-{{2 * quantum - 1}}/*"}}
        store.uploads.receive(session, headers, half(), store.find)
    """
    session = run_until_killed(tmp_path, script).strip()
    store = open_store()
    assert list(store.names(f"gs://{BUCKET}/")) == []
    assert store.uploads.receive(session, {"content-range": "bytes */*"}, [], store.find) == QUANTUM
    headers = {"content-range": f"bytes {QUANTUM}-{len(data) - 1}/{len(data)}"}
    stored = store.uploads.receive(session, headers, [data[QUANTUM:]], store.find)
    assert isinstance(stored, StoredObject)
    assert read(store, "x") == data
    # Who asks again, also after another restart, hears of the object.
    store = open_store()
    assert store.uploads.receive(session, {"content-range": "bytes */*"}, [], store.find) == stored


def test_upload_that_was_complete_when_the_process_died_is_finished_by_a_query(
    open_store: Callable[[], ObjectFiles], store: ObjectFiles, tmp_path: Path
) -> None:
    script = f"""
        fields = {{"contentType": "text/plain", "storageClass": "STANDARD"}}
        session = store.uploads.begin("{BUCKET}", "x", fields, conditions=NONE, expected=Expected(), total=5)
        print(session, flush=True)
        Files.put = die
        store.uploads.receive(session, {{"content-range": "bytes 0-4/5"}}, [b"hello"], store.find)
    """
    session = run_until_killed(tmp_path, script).strip()
    store = open_store()
    assert isinstance(store.uploads.receive(session, {"content-range": "bytes */5"}, [], store.find), StoredObject)
    assert read(store, "x") == b"hello"
