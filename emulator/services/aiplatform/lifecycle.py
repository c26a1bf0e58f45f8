"""The states of jobs and pipelines, and the moves between them.

Source: the comments of job_state.proto and pipeline_state.proto
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from emulator.core.clock import Clock
from emulator.core.messages import stamp
from emulator.core.state import Collection, Database
from emulator.services.aiplatform import job_failure

M = TypeVar("M", bound=Message)


class State(IntEnum):
    """JobState and PipelineState number the states that they share alike."""

    PENDING = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLING = 6
    CANCELLED = 7


#: From each state, those that may follow it. The rest are final.
MOVES: Mapping[int, frozenset[State]] = {
    State.PENDING: frozenset({State.RUNNING, State.CANCELLING, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLING}),
    State.CANCELLING: frozenset({State.CANCELLED}),
}


def state_of(resource: Any) -> State:
    """The state of a job or pipeline."""
    return State(resource.state)


def is_over(resource: Any) -> bool:
    """Whether a job or pipeline is in a final state."""
    return resource.state not in MOVES


class Lifecycle(Generic[M]):
    """Moves the stored resources of one kind from state to state, stamping their times.

    Names of what is not over are kept beside the resources, so that a start need not read all of them.
    """

    def __init__(
        self, database: Database, collection: Collection[M], clock: Clock, *, cancelling_is_an_error: bool = True
    ) -> None:
        """cancelling_is_an_error: whether what was cancelled has an error that says so."""
        self._cancelling_is_an_error = cancelling_is_an_error
        self._database = database
        self._collection = collection
        self._clock = clock
        database.create("CREATE TABLE IF NOT EXISTS unfinished (noun TEXT, name TEXT, PRIMARY KEY (noun, name))")

    def begin(self, resource: M, name: str) -> M:
        """Store a new resource as PENDING under its name. Raises AlreadyExists."""
        new: Any = resource
        new.name = name
        new.state = State.PENDING
        now = self._clock.now()
        stamp(new.create_time, now)
        stamp(new.update_time, now)
        with self._database.transaction() as connection:
            # First, because it raises AlreadyExists.
            stored = self._collection.insert(resource)
            connection.execute("INSERT INTO unfinished VALUES (?, ?)", (self._collection.noun, name))
            return stored

    def move(self, name: str, state: State, change: Callable[[M], None] = lambda resource: None) -> M | None:
        """Bring a resource into a state and apply the change; None, and nothing done, where MOVES forbids it.

        Raises NotFound.
        """
        return self._apply(name, lambda now: state, lambda resource, reached: change(resource))

    def end(
        self, name: str, state: State, error: Any = None, change: Callable[[M], None] = lambda resource: None
    ) -> M | None:
        """Bring a resource into a final state: CANCELLED, whatever happened, once that was asked for.

        error: its `google.rpc.Status`, or None. None comes back, and nothing is done, when it was over already.
        """

        def finish(resource: Any, reached: State) -> None:
            if reached is State.CANCELLED:
                if self._cancelling_is_an_error:
                    resource.error.CopyFrom(job_failure.cancelled())
                return
            if error is not None:
                resource.error.CopyFrom(error)
            change(resource)

        return self._apply(name, lambda now: State.CANCELLED if now == State.CANCELLING else state, finish)

    def settle(self, noun: str) -> list[str]:
        """End whatever nothing else will end, because the emulator stops or was killed; gives back its names."""
        names = self.unfinished()
        for name in names:
            self.end(name, State.FAILED, job_failure.interrupted(noun))
        return names

    def unfinished(self) -> list[str]:
        """Names of what is not over."""
        rows = self._database.query("SELECT name FROM unfinished WHERE noun = ?", (self._collection.noun,))
        return [str(row["name"]) for row in rows]

    def _apply(self, name: str, choose: Callable[[int], State], change: Callable[[M, State], None]) -> M | None:
        """One step: the next state is chosen, checked, stored and stamped, or nothing at all is done."""
        moved = False

        def apply(resource: Any) -> None:
            nonlocal moved
            state = choose(resource.state)
            if state not in MOVES.get(resource.state, ()):
                return
            moved = True
            resource.state = state
            now = self._clock.now()
            if state is State.RUNNING:
                stamp(resource.start_time, now)
            elif state not in MOVES:
                stamp(resource.end_time, now)
                with self._database.transaction() as connection:
                    connection.execute(
                        "DELETE FROM unfinished WHERE noun = ? AND name = ?", (self._collection.noun, name)
                    )
            stamp(resource.update_time, now)
            change(resource, state)

        resource = self._collection.update(name, apply)
        return resource if moved else None
