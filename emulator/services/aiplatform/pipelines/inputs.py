"""What goes into a task: from its parent, from tasks before it, from constants; and what the whole run is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from emulator.services.aiplatform.pipelines.expressions import ExpressionError
from emulator.services.aiplatform.pipelines.nodes import Dag, Node, TaskState
from emulator.services.aiplatform.pipelines.parameters import WrongType, convert
from emulator.services.aiplatform.pipelines.placeholders import Scope
from emulator.services.aiplatform.pipelines.plan import (
    NO_DEFAULT,
    Component,
    Constant,
    DagBody,
    FinalStatus,
    FromParent,
    FromTask,
    ParameterSource,
    Task,
)
from emulator.services.aiplatform.pipelines.values import ABSENT, Artifact, RunFacts, Values


class NoInput(Exception):
    """A task cannot get what it needs; the sentence says what."""


def gather(dag: Dag, task: Task, scope: Scope) -> Values:
    """All that a task's inputs say, also what its component does not declare: conditions and texts refer to it.

    scope: what the task's placeholders mean, before it has inputs.
    Raises NoInput for a selector that finds nothing.
    """
    parameters = {}
    constants = {}
    for name, source in task.parameters.items():
        try:
            value = _parameter(dag, source, scope.run)
        except ExpressionError as error:
            raise NoInput(f"The input parameter {name!r} has no value: {error}.") from None
        if isinstance(source, Constant):
            constants[name] = value
        elif value is not ABSENT:
            parameters[name] = value
    artifacts: dict[str, Sequence[Artifact]] = {}
    for name, place in task.artifacts.items():
        found = (
            dag.inputs.artifacts.get(place.name)
            if isinstance(place, FromParent)
            else _output(dag, place).artifacts.get(place.key)
        )
        if found is not None:
            artifacts[name] = found
    scope = replace(scope, parameters=parameters, artifacts=artifacts)
    return Values({**parameters, **{name: scope.value(value) for name, value in constants.items()}}, artifacts)


def fit(component: Component, given: Values, scope: Scope, *, may_lack: bool) -> Values:
    """What a component gets of it: its declared inputs, defaults filled in; of a container, in their types.

    may_lack: whether a required input may be missing, after a task before it that failed.
    Raises NoInput.
    """
    is_dag = isinstance(component.body, DagBody)
    parameters = {}
    for name, declared in component.inputs.parameters.items():
        value = given.parameters.get(name, ABSENT)
        # A value of null is how a component's own default is asked for.
        if (value is ABSENT or value is None) and declared.default is not NO_DEFAULT:
            value = scope.value(declared.default)
        if value is ABSENT or value is None:
            if declared.is_required and not is_dag and not may_lack:
                raise NoInput(f"The required input parameter {name!r} has no value.")
            continue
        try:
            # Declared types of a DAG's inputs are the compiler's guesses where they come from loops.
            parameters[name] = value if is_dag else convert(value, declared.kind)
        except WrongType as error:
            raise NoInput(f"The input parameter {name!r} has the wrong type: {error}.") from None
    artifacts = {}
    for name, wanted in component.inputs.artifacts.items():
        found = given.artifacts.get(name)
        if found is not None:
            artifacts[name] = found
        elif not wanted.is_optional and not is_dag and not may_lack:
            raise NoInput(f"The required input artifact {name!r} was not produced.")
    return Values(parameters, artifacts)


def outputs(dag: Dag) -> Values:
    """Those of a DAG whose tasks are over: for each, of the first of its sources that has one."""
    parameters = {}
    for name, sources in dag.body.parameters.items():
        for source in sources:
            value = _output(dag, source).parameters.get(source.key, ABSENT)
            if value is not ABSENT:
                parameters[name] = value
                break
    artifacts = {}
    for name, sources in dag.body.artifacts.items():
        for source in sources:
            found = _output(dag, source).artifacts.get(source.key)
            if found is not None:
                artifacts[name] = found
                break
    return Values(parameters, artifacts)


def loop_items(task: Task, values: Values) -> list[Any]:
    """What a loop goes over: values, or artifacts. Raises NoInput for what is no list."""
    loop = task.loop
    assert loop is not None  # noqa: S101  # asked of loops alone
    if loop.items is not None:
        return list(loop.items)
    if loop.over_artifacts:
        if loop.items_input not in values.artifacts:
            raise NoInput(f"The artifacts {loop.items_input!r} to iterate over were not produced.")
        return list(values.artifacts[loop.items_input])
    items = values.parameters.get(loop.items_input, ABSENT)
    if isinstance(items, str):
        try:
            items = json.loads(items)
        except (ValueError, RecursionError):
            items = ABSENT
    if not isinstance(items, list):
        raise NoInput(f"The parameter {loop.items_input!r} to iterate over is no list.")
    return items


def with_item(task: Task, values: Values, item: Any) -> Values:
    """The inputs of one iteration."""
    loop = task.loop
    assert loop is not None  # noqa: S101  # asked of loops alone
    if loop.over_artifacts:
        return Values(values.parameters, {**values.artifacts, loop.item_input: [item]})
    return Values({**values.parameters, loop.item_input: item}, values.artifacts)


def _parameter(dag: Dag, source: ParameterSource, run: RunFacts) -> Any:
    if isinstance(source, Constant):
        return source.value
    if isinstance(source, FromParent):
        # A compiled exit handler may refer to an input that nobody has: it counts as absent.
        return dag.inputs.parameters.get(source.name, ABSENT)
    if isinstance(source, FromTask):
        return _output(dag, source).parameters.get(source.key, ABSENT)
    if isinstance(source, FinalStatus):
        return _final_status(dag.children.get(source.task), run)
    whole = _parameter(dag, source.source, run)
    return ABSENT if whole is ABSENT else source.select(whole)


def _output(dag: Dag, source: FromTask) -> Values:
    producer = dag.children.get(source.task)
    return producer.outputs if producer is not None and producer.state.is_success else Values()


def _final_status(node: Node | None, run: RunFacts) -> Mapping[str, Any]:
    """PipelineTaskFinalStatus, as a container reads it."""
    state = node.state if node is not None else TaskState.NOT_TRIGGERED
    error = {"code": node.failure.code, "message": node.failure.message} if node and node.failure else {}
    return {
        "state": (TaskState.SUCCEEDED if state is TaskState.SKIPPED else state).name,
        "pipelineJobResourceName": run.name,
        "pipelineTaskName": node.display_name if node else "",
        "error": error,
    }
