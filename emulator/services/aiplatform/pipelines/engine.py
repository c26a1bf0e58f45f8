"""The order in which a pipeline's tasks run: when each is due, and what follows from its end.

One thread calls an engine. It starts nothing itself: leaves (containers and importers) are begun by `Work`, which
tells of their states with `leaf_runs` and `leaf_ends`, at once or later, in the same thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.pipelines.expressions import ExpressionError, is_true
from emulator.services.aiplatform.pipelines.inputs import NoInput, fit, gather, loop_items, outputs, with_item
from emulator.services.aiplatform.pipelines.nodes import Dag, Failure, Leaf, Loop, Node, TaskState, below, merged
from emulator.services.aiplatform.pipelines.placeholders import Scope
from emulator.services.aiplatform.pipelines.plan import Component, DagBody, Pipeline, Task
from emulator.services.aiplatform.pipelines.values import RunFacts, Values

#: Tasks of one run. Source: https://cloud.google.com/vertex-ai/docs/quotas#pipelines
MOST_TASKS = 10_000


class Work(Protocol):
    """What really happens, and who is told of it."""

    def changed(self, node: Node) -> None:
        """A node has another state."""
        ...

    def begin(self, leaf: Leaf) -> None:
        """Start an attempt of a leaf."""
        ...

    def stop(self, leaf: Leaf) -> None:
        """Make the end of a leaf's attempt come; `leaf_ends` follows."""
        ...


class Engine:
    """One run of a pipeline."""

    def __init__(self, pipeline: Pipeline, run: RunFacts, inputs: Values, work: Work, *, fails_fast: bool) -> None:
        self._components = pipeline.components
        self._run = run
        self._work = work
        self._fails_fast = fails_fast
        self._has_failed = False
        self._is_cancelled = False
        self._count = 0
        self._due: deque[Callable[[], None]] = deque()
        self._is_working = False
        self.root = Dag(run.job_id, pipeline.root, None, None, inputs, waiting=set(_body(pipeline.root).tasks))

    @property
    def is_over(self) -> bool:
        return self.root.state.is_final

    def start(self) -> None:
        self._to(self.root, TaskState.RUNNING)
        self._soon(lambda: self._advance(self.root))

    def leaf_runs(self, leaf: Leaf) -> None:
        if leaf.state is TaskState.PENDING:
            self._to(leaf, TaskState.RUNNING)

    def leaf_ends(
        self, leaf: Leaf, state: TaskState, left: Values | None = None, failure: Failure | None = None
    ) -> None:
        """The last attempt of a leaf is over."""
        if leaf.state.is_final:
            return
        leaf.outputs = left or Values()
        self._end(leaf, state, failure)

    def cancel(self) -> None:
        """Start nothing more and stop what runs; the run ends when the last of it has."""
        if self._is_cancelled or self.is_over:
            return
        self._is_cancelled = True
        running = [node for node in below(self.root) if not node.state.is_final]
        for node in running:
            self._to(node, TaskState.CANCELLING)
        for node in running:
            if isinstance(node, Leaf):
                self._work.stop(node)
        self._soon(self._settle_cancelled)

    # What follows from a change is put in a line, so that long chains of quick tasks need no deep stack.

    def _soon(self, action: Callable[[], None]) -> None:
        self._due.append(action)
        if self._is_working:
            return
        self._is_working = True
        try:
            while self._due:
                self._due.popleft()()
        finally:
            self._is_working = False

    def _to(self, node: Node, state: TaskState) -> None:
        node.state = state
        self._work.changed(node)

    def _end(self, node: Node, state: TaskState, failure: Failure | None = None) -> None:
        if self._is_cancelled and not state.is_success:
            state, failure = TaskState.CANCELLED, None
        node.failure = failure
        self._has_failed = self._has_failed or state is TaskState.FAILED
        self._to(node, state)
        parent = node.parent
        if isinstance(parent, Dag):
            self._soon(lambda: self._advance(parent))
        elif isinstance(parent, Loop):
            parent.running -= 1
            self._soon(lambda: self._iterate(parent))

    def _advance(self, dag: Dag) -> None:
        """Give every task its turn whose upstream tasks are over, and end the DAG after the last."""
        if dag.state.is_final:
            return
        tasks = dag.body.tasks
        while not self._is_cancelled:
            ready = [name for name in tasks if name in dag.waiting and self._is_due(dag, tasks[name])]
            for name in ready:
                dag.waiting.discard(name)
                self._take_turn(dag, tasks[name])
            # Tasks that are over at once make others due.
            if not any(dag.children[name].state.is_final for name in ready):
                break
        if not dag.waiting or self._is_cancelled:
            self._end_if_done(dag)

    @staticmethod
    def _is_due(dag: Dag, task: Task) -> bool:
        return all(name in dag.children and dag.children[name].state.is_final for name in task.upstream)

    def _take_turn(self, dag: Dag, task: Task) -> None:
        """Start a task, or say why it does not run."""
        states = [dag.children[name].state for name in task.upstream]
        if not task.when_completed and not all(state.is_success for state in states):
            self._pass_over(dag, task, TaskState.NOT_TRIGGERED)
            return
        if self._has_failed and self._fails_fast and not task.when_completed:
            self._pass_over(dag, task, TaskState.CANCELLED)
            return
        node = self._node(dag, task)
        try:
            scope = Scope(self._run, task.name, node.id)
            given = gather(dag, task, scope)
            if task.condition is not None and not is_true(task.condition, given.parameters):
                self._pass_over(dag, task, TaskState.NOT_TRIGGERED)
                return
            node.inputs = fit(node.component, given, scope, may_lack=task.when_completed)
            if isinstance(node, Loop):
                node.items = loop_items(task, given)
        except (NoInput, ExpressionError) as error:
            self._fail_at_once(node, str(error))
            return
        self._count += len(node.items) if isinstance(node, Loop) else 1
        if self._count > MOST_TASKS:
            self._fail_at_once(node, f"The pipeline has more than {MOST_TASKS} tasks.")
            return
        self._begin(node)

    def _begin(self, node: Node) -> None:
        self._work.changed(node)
        if isinstance(node, Leaf):
            self._soon(lambda: self._work.begin(node) if node.state is TaskState.PENDING else None)
            return
        self._to(node, TaskState.RUNNING)
        if isinstance(node, Loop):
            self._soon(lambda: self._iterate(node))
        elif isinstance(node, Dag):
            self._soon(lambda: self._advance(node))

    def _fail_at_once(self, node: Node, why: str) -> None:
        self._work.changed(node)
        self._end(node, TaskState.FAILED, Failure(Code.INVALID_ARGUMENT, why))

    def _node(self, dag: Dag, task: Task) -> Node:
        component = self._components[task.component]
        node: Node
        if task.loop is not None:
            node = Loop(task.name, component, task, dag)
        elif isinstance(component.body, DagBody):
            node = Dag(task.name, component, task, dag, waiting=set(component.body.tasks))
        else:
            node = Leaf(task.name, component, task, dag)
        dag.children[task.name] = node
        return node

    def _pass_over(self, dag: Dag, task: Task, state: TaskState) -> None:
        """A task that does not run, and with it all inside it."""
        pending = [(dag, task)]
        while pending:
            parent, one = pending.pop()
            node = self._node(parent, one)
            self._to(node, state)
            if isinstance(node, Dag):
                node.waiting.clear()
                pending.extend((node, inner) for inner in node.body.tasks.values())

    def _iterate(self, loop: Loop) -> None:
        """Start as many iterations as may run, and end the loop after the last."""
        if loop.state.is_final:
            return
        task = loop.task
        assert task is not None  # noqa: S101  # every loop is a task
        assert task.loop is not None  # noqa: S101
        stops = self._is_cancelled or (self._has_failed and self._fails_fast)
        most = task.loop.parallelism or len(loop.items)
        while not stops and len(loop.iterations) < len(loop.items) and loop.running < most:
            number = len(loop.iterations)
            iteration = Dag(
                f"{loop.name}-worker-{number}",
                loop.component,
                None,
                loop,
                with_item(task, loop.inputs, loop.items[number]),
                waiting=set(_body(loop.component).tasks),
            )
            loop.iterations.append(iteration)
            loop.running += 1
            self._begin(iteration)
        if loop.running:
            return
        declared = loop.component.outputs
        loop.outputs = merged([one.outputs for one in loop.iterations], declared.parameters, declared.artifacts)
        self._end_group(loop, loop.iterations, is_whole=len(loop.iterations) == len(loop.items))

    def _end_if_done(self, dag: Dag) -> None:
        children = list(dag.children.values())
        if not all(child.state.is_final for child in children):
            return
        if not any(child.state is TaskState.FAILED for child in children):
            dag.outputs = outputs(dag)
        self._end_group(dag, children, is_whole=not dag.waiting)

    def _end_group(self, node: Node, members: Sequence[Node], *, is_whole: bool) -> None:
        """A DAG or loop ends as its members did. is_whole: whether all had their turn."""
        failed = [member.name for member in members if member.state is TaskState.FAILED]
        if failed:
            self._end(node, TaskState.FAILED, dag_failure(failed))
        elif is_whole and not any(member.state is TaskState.CANCELLED for member in members):
            self._end(node, TaskState.SUCCEEDED)
        else:
            self._end(node, TaskState.CANCELLED)

    def _settle_cancelled(self) -> None:
        """End groups of which nothing runs, from the innermost out."""
        for node in reversed(list(below(self.root))):
            if isinstance(node, Dag):
                self._advance(node)
            elif isinstance(node, Loop):
                self._iterate(node)


def dag_failure(failed: Sequence[str]) -> Failure:
    """In the service's words."""
    return Failure(
        Code.FAILED_PRECONDITION,
        f"The DAG failed because some tasks failed. The failed tasks are: [{', '.join(failed)}].",
    )


def _body(component: Component) -> DagBody:
    assert isinstance(component.body, DagBody)  # noqa: S101  # the compiler has checked it
    return component.body
