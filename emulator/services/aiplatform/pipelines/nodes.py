"""Tasks at work: a tree of nodes, a DAG's tasks below it, a loop's iterations below that."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from emulator.services.aiplatform.pipelines.plan import Component, DagBody, Task
from emulator.services.aiplatform.pipelines.values import Values


def _new_task_id() -> int:
    """An int64 of 18 or 19 digits, negative as often as not."""
    return (10**17 + secrets.randbelow(9 * 10**18)) * secrets.choice((1, -1))


class TaskState(IntEnum):
    """PipelineTaskDetail.State."""

    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    CANCELLING = 5
    CANCELLED = 6
    FAILED = 7
    SKIPPED = 8
    NOT_TRIGGERED = 9

    @property
    def is_final(self) -> bool:
        return self not in (TaskState.PENDING, TaskState.RUNNING, TaskState.CANCELLING)

    @property
    def is_success(self) -> bool:
        """Whether what comes after a task may run; SKIPPED is a result from the cache."""
        return self in (TaskState.SUCCEEDED, TaskState.SKIPPED)


@dataclass(frozen=True)
class Failure:
    """Why a task failed: a google.rpc.Status."""

    code: int
    message: str


@dataclass(eq=False)
class Node:
    """One task of a run: a leaf (container or importer), a DAG, or a loop."""

    name: str
    component: Component
    task: Task | None
    """None for the run as a whole and for iterations"""
    parent: Node | None
    inputs: Values = field(default_factory=Values)
    outputs: Values = field(default_factory=Values)
    state: TaskState = TaskState.PENDING
    failure: Failure | None = None
    id: int = field(default_factory=_new_task_id)

    @property
    def display_name(self) -> str:
        return self.task.display_name if self.task else self.name

    @property
    def unique_name(self) -> str:
        """The dotted path below the run."""
        names = [self.name]
        node = self.parent
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return ".".join(reversed(names))


@dataclass(eq=False)
class Leaf(Node):
    """A container or an importer."""

    failures: int = 0
    """attempts that failed"""


@dataclass(eq=False)
class Dag(Node):
    """The tasks of a component with a DAG: of the whole pipeline, a condition, an exit handler, an iteration…"""

    children: dict[str, Node] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    """tasks that have not had their turn"""

    @property
    def body(self) -> DagBody:
        assert isinstance(self.component.body, DagBody)  # noqa: S101  # made for no other
        return self.component.body


@dataclass(eq=False)
class Loop(Node):
    """A task done once for each item."""

    items: list[Any] = field(default_factory=list)
    iterations: list[Dag] = field(default_factory=list)
    running: int = 0
    """iterations that are not over"""


def below(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    pending = [node]
    while pending:
        one = pending.pop()
        yield one
        if isinstance(one, Dag):
            pending.extend(one.children.values())
        elif isinstance(one, Loop):
            pending.extend(one.iterations)


def merged(values: list[Values], kinds: Mapping[str, Any], artifacts: Mapping[str, Any]) -> Values:
    """Outputs of a loop: for each name the list of what its iterations gave, in their order."""
    return Values(
        {name: [one.parameters[name] for one in values if name in one.parameters] for name in kinds},
        {name: [artifact for one in values for artifact in one.artifacts.get(name, ())] for name in artifacts},
    )
