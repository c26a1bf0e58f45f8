"""google.longrunning for every service: one registry, one set of rules.

`start` gives back an operation whose work runs on a thread. What `work` returns becomes `response`, what it
raises becomes `error`; `done` follows either. An operation that was running when the emulator was killed is
found finished with ABORTED: nothing is left to finish it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.api_core.exceptions import Aborted, FailedPrecondition, GoogleAPICallError, NotFound
from google.protobuf.message import Message
from selfloop_apis import longrunning

from emulator.core import errors
from emulator.core.clock import Clock
from emulator.core.held_calls import HeldCalls
from emulator.core.ids import new_id
from emulator.core.messages import as_version, stamp, unpack
from emulator.core.service import Context
from emulator.core.state import Database

logger = logging.getLogger(__name__)

#: How long `start` waits before it answers: work that is quickly over is `done` in the first reply.
GRACE_SECONDS = 0.1
#: Operations kept after they are done.
KEPT = 10_000


class Running:
    """What `work` may tell and ask while it runs: new metadata, and whether the client cancelled."""

    def __init__(self, operations: Operations, name: str, version: str) -> None:
        self._operations = operations
        self._name = name
        self._version = version
        self.cancelled = threading.Event()
        self.over = threading.Event()
        """set once its outcome is stored"""

    def report(self, metadata: Message) -> None:
        """Replace the operation's metadata (`deployment_stage`, `partial_failures`)."""
        self._operations.set_metadata(self._name, metadata, self._version)


class Operations:
    """Every long-running operation of the emulator, by name."""

    def __init__(self, database: Database, clock: Clock, workers: int = 16) -> None:
        self._database = database
        self._clock = clock
        self._running: dict[str, Running] = {}
        self._changed = threading.Condition()
        self.held = HeldCalls()
        """places for calls of any service that wait"""
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="operation")
        database.create(
            "CREATE TABLE IF NOT EXISTS operations (name TEXT PRIMARY KEY, id TEXT UNIQUE NOT NULL, "
            "parent TEXT NOT NULL, create_time TEXT NOT NULL, message BLOB NOT NULL)"
        )
        self._settle_interrupted()

    def start(
        self,
        parent: str,
        metadata: Message,
        work: Callable[[Running], Message],
        context: Context,
        *,
        grace_seconds: float = GRACE_SECONDS,
    ) -> Any:
        """An Operation named `<parent>/operations/<number>`; `work` runs once, on a thread.

        parent: the resource worked on, or `projects/N/locations/L` where the service uses the short form.
        metadata: its `generic_metadata` is kept up to date when it has one.
        """
        identifier = new_id()
        name = f"{parent}/operations/{identifier}"
        operation = longrunning.Operation(name=name)
        created = self._clock.now()
        if "generic_metadata" in metadata.DESCRIPTOR.fields_by_name:
            stamp(metadata.generic_metadata.create_time, created)  # type: ignore[attr-defined]
            stamp(metadata.generic_metadata.update_time, created)  # type: ignore[attr-defined]
        operation.metadata.Pack(as_version(metadata, context.version))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO operations VALUES (?, ?, ?, ?, ?)",
                (name, identifier, parent, created.isoformat(), operation.SerializeToString()),
            )
            connection.execute("DELETE FROM operations WHERE rowid <= (SELECT MAX(rowid) FROM operations) - ?", (KEPT,))
        running = self._running[name] = Running(self, name, context.version)
        self._pool.submit(self._run, running, name, work, context)
        self.held.hold(context, running.over)
        return self.wait(name, grace_seconds)

    def finished(self, parent: str, metadata: Message, response: Message, context: Context) -> Any:
        """An Operation that is over before it is answered, as the service's deletes are."""
        return self.start(parent, metadata, lambda _: response, context, grace_seconds=30)

    def get(self, name: str) -> Any:
        """By any of its names: the resource's, or `projects/P/locations/L/operations/ID`. Raises NotFound."""
        rows = self._database.query(
            "SELECT message FROM operations WHERE id = ?", (name.rpartition("/operations/")[2],)
        )
        if not rows:
            raise NotFound(f"Operation `{name}` does not exist.")
        return longrunning.Operation.FromString(rows[0]["message"])

    def wait(self, name: str, seconds: float, is_active: Callable[[], bool] = lambda: True) -> Any:
        """The operation once done, or as it is after this long (on the machine's clock)."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while name in self._running and is_active() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 1.0))
        return self.get(name)

    def below(self, parent: str) -> list[Any]:
        """Operations of a resource and of everything below it, newest first."""
        escaped = parent.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        rows = self._database.query(
            "SELECT message FROM operations WHERE parent = ? OR parent LIKE ? ESCAPE '\\' ORDER BY rowid DESC",
            (parent, f"{escaped}/%"),
        )
        return [longrunning.Operation.FromString(row["message"]) for row in rows]

    def cancel(self, name: str) -> None:
        """Ask for it; the operation ends as CANCELLED if its work heeds. Nothing for one that is done."""
        running = self._running.get(self.get(name).name)
        if running:
            running.cancelled.set()

    def delete(self, name: str) -> None:
        """Forget a finished operation. Raises FailedPrecondition while it runs."""
        operation = self.get(name)
        if not operation.done:
            raise FailedPrecondition(f"Operation `{name}` is still running; cancel it first.")
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM operations WHERE name = ?", (operation.name,))

    def running(self, parent: str) -> list[str]:
        """Names of the unfinished operations on one resource: most allow a single one at a time."""
        return [name for name in list(self._running) if name.startswith(f"{parent}/operations/")]

    def unfinished(self) -> list[str]:
        """Names of all that run."""
        return list(self._running)

    def set_metadata(self, name: str, metadata: Message, version: str) -> None:
        self._store(name, lambda operation: operation.metadata.Pack(self._touched(operation, metadata, version)))

    def close(self) -> None:
        for running in list(self._running.values()):
            running.cancelled.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, running: Running, name: str, work: Callable[[Running], Message], context: Context) -> None:
        error: GoogleAPICallError | None = None
        try:
            response = as_version(work(running), context.version)
        except Exception as raised:  # noqa: BLE001  # whatever it is becomes the operation's error
            error = errors.as_api_error(raised, context.method)

        def finish(operation: Any) -> None:
            if error is None:
                operation.response.Pack(response)
            else:
                operation.error.code = errors.code_number(error)
                operation.error.message = error.message
            self._end(operation)

        try:
            self._store(name, finish)
        except Exception:
            logger.exception("the outcome of %s could not be stored", name)
        finally:
            with self._changed:
                self._running.pop(name, None)
                self._changed.notify_all()
            running.over.set()

    def _end(self, operation: Any) -> None:
        operation.done = True
        metadata = unpack(operation.metadata)
        if metadata is not None:
            operation.metadata.Pack(self._touched(operation, metadata, ""))

    def _touched(self, operation: Any, metadata: Message, version: str) -> Message:
        """Metadata with its times: creation as it was, update now."""
        if "generic_metadata" in metadata.DESCRIPTOR.fields_by_name:
            before = unpack(operation.metadata)
            generic = metadata.generic_metadata  # type: ignore[attr-defined]
            if before is not None:
                generic.create_time.FromJsonString(before.generic_metadata.create_time.ToJsonString())
            stamp(generic.update_time, self._clock.now())
        return as_version(metadata, version) if version else metadata

    def _store(self, name: str, change: Callable[[Any], Any]) -> None:
        with self._database.transaction() as connection:
            operation = self.get(name)
            change(operation)
            connection.execute(
                "UPDATE operations SET message = ? WHERE name = ?", (operation.SerializeToString(), operation.name)
            )

    def _settle_interrupted(self) -> None:
        interrupted = errors.code_number(Aborted(""))
        for row in self._database.query("SELECT name, message FROM operations"):
            if longrunning.Operation.FromString(row["message"]).done:
                continue

            def abort(operation: Any) -> None:
                operation.error.code = interrupted
                operation.error.message = "The emulator stopped while this operation was running."
                self._end(operation)

            self._store(row["name"], abort)
