"""The folder that one emulator keeps: held by one process at a time, copied as a whole, replaced as a whole.

emulator.db objects/ models/     what a snapshot holds
ca/ credentials/                 identity: survives reset and restore, so that clients need no new exports
jobs/ run/ emulator.log          of the running process
address.json token               how to reach it
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound

from emulator.core.files import write_private
from emulator.core.state import FORMAT, Database, StateError

_CONTENT = ("emulator.db", "objects", "models")
_DATABASE_FILES = ("emulator.db", "emulator.db-wal", "emulator.db-shm")
#: A UNIX socket's path must fit into sun_path.
_LONGEST_SOCKET_FOLDER = 80


class StateDirectory:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("a+")
            # Held for as long as this object is, however its owner ends.
            weakref.finalize(self, self._lock.close)
        except OSError as error:
            raise StateError(
                f"{folder} cannot hold the emulator's state: {error.strerror}; name another directory in SELFLOOP_STATE"
            ) from error

    def acquire(self) -> None:
        """Hold the folder. Raises StateError when another one has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StateError(self._who_runs()) from None

    def _who_runs(self) -> str:
        address = self.address() or {}
        where = f" at {address['host']}:{address['port']}, process {address['pid']}" if address else ""
        return f"an emulator is running on {self.folder}{where}; `inv emulator.down` stops it"

    def address(self) -> dict[str, Any] | None:
        """Where the emulator on this folder answers, as it said when it became ready."""
        try:
            address: dict[str, Any] = json.loads((self.folder / "address.json").read_bytes())
        except (OSError, ValueError):
            return None
        return address

    def announce(self, address: dict[str, Any], token: str) -> None:
        """Tell `inv emulator.*` how to reach this process."""
        write_private(self.folder / "token", token.encode())
        write_private(self.folder / "address.json", json.dumps(address).encode())

    def withdraw(self) -> None:
        (self.folder / "address.json").unlink(missing_ok=True)

    @contextmanager
    def sockets(self) -> Iterator[Path]:
        """A private folder for UNIX sockets, empty at first and gone afterwards."""
        folder = self.folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        if len(os.fsencode(folder)) > _LONGEST_SOCKET_FOLDER:
            folder = Path(tempfile.mkdtemp(prefix="selfloop-"))
        else:
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def snapshots(self) -> list[dict[str, Any]]:
        """Name, time and size of each, oldest first."""
        found = []
        for folder in (self.folder / "snapshots").glob("*/snapshot.json"):
            found.append(json.loads(folder.read_bytes()))
        return sorted(found, key=lambda snapshot: str(snapshot["time"]))

    def take_snapshot(self, name: str, database: Database) -> dict[str, Any]:
        """Copy everything while nobody can commit. Raises InvalidArgument and AlreadyExists for the name."""
        target = self._snapshot_folder(name)
        if target.exists():
            raise AlreadyExists(f"There is a snapshot {name} already.")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
        try:
            with database.transaction() as connection:
                # No hard links: a sandbox may write into the tree, and must not write into a snapshot.
                for content in ("objects", "models"):
                    if (self.folder / content).exists():
                        shutil.copytree(self.folder / content, draft / content, symlinks=True)
                # A connection that is inside a transaction cannot be the source of a backup; a second one can.
                del connection
                with (
                    sqlite3.connect(self.folder / "emulator.db") as source,
                    sqlite3.connect(draft / "emulator.db") as copy,
                ):
                    source.backup(copy)
            size = sum(path.lstat().st_size for path in draft.rglob("*"))
            about = {"name": name, "time": datetime.now(UTC).isoformat(), "bytes": size, "format": FORMAT}
            (draft / "snapshot.json").write_text(json.dumps(about))
            draft.rename(target)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return about

    def check_snapshot(self, name: str) -> None:
        """Raises NotFound, and StateError for one of a newer format."""
        try:
            about = json.loads((self._snapshot_folder(name) / "snapshot.json").read_bytes())
        except OSError:
            raise NotFound(f"There is no snapshot {name}.") from None
        if about["format"] > FORMAT:
            raise InvalidArgument(
                f"Snapshot {name} is of format {about['format']}, newer than this emulator's {FORMAT}."
            )

    def replace_content(self, snapshot: str | None) -> None:
        """Put a snapshot's content, or none at all, in place of what is there; nothing may be open.

        The new content is complete before the old one goes, and a crash between the moves of one and the
        other is made good by the next start, which finds the list of what to move.
        """
        incoming = self.folder / ".incoming"
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        if snapshot is not None:
            source = self._snapshot_folder(snapshot)
            for content in _CONTENT:
                if (source / content).is_dir():
                    shutil.copytree(source / content, incoming / content, symlinks=True)
                elif (source / content).exists():
                    shutil.copy2(source / content, incoming / content)
        (incoming / "complete").touch()
        self.finish_replacement()

    def finish_replacement(self) -> None:
        """Carry a replacement to its end that was complete when a process died over it."""
        incoming = self.folder / ".incoming"
        if not (incoming / "complete").exists():
            shutil.rmtree(incoming, ignore_errors=True)
            return
        outgoing = self.folder / ".outgoing"
        outgoing.mkdir(exist_ok=True)
        for content in (*_DATABASE_FILES, "objects", "models", "jobs"):
            # What was moved in already has left `incoming`; what is still old has not left the folder.
            moved_in = not (incoming / content).exists() and (outgoing / content).exists()
            if (self.folder / content).exists() and not moved_in:
                (self.folder / content).rename(outgoing / content)
            if (incoming / content).exists():
                (incoming / content).rename(self.folder / content)
        shutil.rmtree(incoming)
        shutil.rmtree(outgoing, ignore_errors=True)

    def _snapshot_folder(self, name: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
            raise InvalidArgument(f"{name!r} is no name for a snapshot: letters, digits, _ . and -, a letter first.")
        return self.folder / "snapshots" / name
