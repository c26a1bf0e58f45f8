"""Contexts, executions and artifacts as they are kept: times to the millisecond, and etags that are these times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from google.api_core.exceptions import Aborted
from selfloop_apis.aiplatform_v1 import Artifact, Context, Execution

from emulator.core.clock import Clock
from emulator.core.messages import as_datetime, stamp
from emulator.core.state import Collection, Database

N = TypeVar("N", Context, Execution, Artifact)


class Nodes(Generic[N]):
    """The nodes of one kind in every store, by full name."""

    def __init__(self, database: Database, clock: Clock, message_type: type[N], noun: str, folder: str) -> None:
        """noun: `Context`, in error messages. folder: `contexts`, in names."""
        self.message_type: type[N] = message_type
        self.noun = noun
        self.folder = folder
        self._clock = clock
        self._kept: Collection[N] = Collection(database, message_type)

    def insert(self, node: N) -> N:
        """Store a new node, stamped now. Raises AlreadyExists."""
        now = _milliseconds(self._clock.now())
        stamp(node.create_time, now)
        _touch(node, now)
        # Clients write into the metadata of what they read, whether there is any or not.
        node.metadata.SetInParent()
        return self._kept.insert(node)

    def find(self, name: str) -> N | None:
        return self._kept.find(name)

    def get(self, name: str) -> N:
        """Raises NotFound."""
        return self._kept.get(name)

    def update(self, name: str, change: Callable[[N], None]) -> N:
        """Apply a change and give the node a new etag. Raises NotFound, and what `change` raises."""

        def changed(node: N) -> None:
            before = as_datetime(node.update_time)
            change(node)
            # Two changes within a millisecond still have etags that differ, and that grow.
            _touch(node, max(_milliseconds(self._clock.now()), before + timedelta(milliseconds=1)))

        return self._kept.update(name, changed)

    def amend(self, name: str, change: Callable[[N], None]) -> N:
        """Apply a change that is none of the node itself: its etag stays."""
        return self._kept.update(name, change)

    def delete(self, name: str) -> N:
        """Raises NotFound."""
        return self._kept.delete(name)

    def list(self, store: str) -> list[N]:
        """Those of one store, oldest first."""
        return self._kept.list(store)[::-1]

    def check_etag(self, given: str, stored: N) -> None:
        """Raises Aborted in the words by which the SDK knows that it should read again and retry."""
        if given and given != stored.etag:
            raise Aborted(f"Specified {self.noun} `etag`: `{given}` does not match server `etag`: `{stored.etag}`")


def _touch(node: Context | Execution | Artifact, now: datetime) -> None:
    stamp(node.update_time, now)
    node.etag = str(round(now.timestamp() * 1000))


def _milliseconds(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
