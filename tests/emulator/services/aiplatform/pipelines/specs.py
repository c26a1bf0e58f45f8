"""Small specifications by hand, as kfp writes them: for what needs no compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JSON = dict[str, Any]


def spec(tasks: JSON, components: JSON, executors: JSON | None = None, inputs: JSON | None = None) -> JSON:
    """A pipeline; executors are by default one for each component that names one."""
    labels = {one["executorLabel"] for one in components.values() if "executorLabel" in one}
    return {
        "pipelineInfo": {"name": "p"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.16.1",
        "root": {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": inputs or {}}},
        "components": components,
        "deploymentSpec": {
            "executors": executors or {label: {"container": {"image": "python:3.11"}} for label in labels}
        },
    }


def leaf(inputs: Mapping[str, str] | None = None, outputs: Mapping[str, str] | None = None) -> JSON:
    """A component of a container; names and types of its parameters."""
    return {
        "executorLabel": "exec",
        "inputDefinitions": {"parameters": {name: {"parameterType": kind} for name, kind in (inputs or {}).items()}},
        "outputDefinitions": {"parameters": {name: {"parameterType": kind} for name, kind in (outputs or {}).items()}},
    }


def dag(tasks: JSON, inputs: Mapping[str, str] | None = None, outputs: JSON | None = None) -> JSON:
    """A component of tasks. outputs: name -> (type, task, key)."""
    given = outputs or {}
    return {
        "dag": {
            "tasks": tasks,
            "outputs": {
                "parameters": {
                    name: {"valueFromParameter": {"producerSubtask": task, "outputParameterKey": key}}
                    for name, (_, task, key) in given.items()
                }
            },
        },
        "inputDefinitions": {"parameters": {name: {"parameterType": kind} for name, kind in (inputs or {}).items()}},
        "outputDefinitions": {"parameters": {name: {"parameterType": kind} for name, (kind, _, _) in given.items()}},
    }


def task(component: str, *after: str, **fields: Any) -> JSON:
    return {"componentRef": {"name": component}, "dependentTasks": list(after), **fields}


def constant(value: Any) -> JSON:
    return {"runtimeValue": {"constant": value}}


def output(name: str, key: str = "Output") -> JSON:
    return {"taskOutputParameter": {"producerTask": name, "outputParameterKey": key}}


def parameters(**sources: JSON) -> JSON:
    return {"parameters": sources}


def program(source: str, **fields: Any) -> JSON:
    """An executor: a Python program that gets `sys.argv` of what `args` in fields says."""
    return {"container": {"image": "python:3.11", "command": ["python3", "-c", source], **fields}}


def programs(tasks: JSON, sources: Mapping[str, str | JSON], outputs: Mapping[str, str] | None = None) -> JSON:
    """A pipeline of programs: task, component and executor are called alike."""
    components = {name: leaf(outputs=outputs) | {"executorLabel": name} for name in sources}
    executors = {name: program(one) if isinstance(one, str) else one for name, one in sources.items()}
    return spec(tasks, components, executors)
