"""What a specification becomes, and what is refused of it, by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument, MethodNotImplemented

from emulator.services.aiplatform.pipelines.compiler import compile_spec
from emulator.services.aiplatform.pipelines.plan import ContainerBody, DagBody, FromTask
from tests.emulator.services.aiplatform.pipelines.specs import constant, dag, leaf, output, parameters, spec, task

ONE = leaf({"x": "NUMBER_INTEGER"}, {"Output": "NUMBER_INTEGER"})


def one_task(**fields: Any) -> dict[str, Any]:
    return spec({"a": task("one", **fields)}, {"one": ONE})


def test_plan_holds_what_the_tasks_say() -> None:
    tasks = {
        "a": task("one", inputs=parameters(x=constant(3.0)), taskInfo={"name": "First"}),
        "b": task(
            "one",
            "a",
            inputs=parameters(x=output("a")),
            cachingOptions={"enableCache": True},
            retryPolicy={"maxRetryCount": 2, "backoffDuration": "5s", "backoffMaxDuration": "8s"},
            triggerPolicy={"condition": "int(inputs.parameter_values['x']) > 2"},
        ),
    }
    plan = compile_spec(spec(tasks, {"one": ONE}))
    assert isinstance(plan.root.body, DagBody)
    first, second = plan.root.body.tasks["a"], plan.root.body.tasks["b"]
    assert (first.display_name, first.is_cached, first.upstream) == ("First", False, frozenset())
    assert (second.display_name, second.is_cached, second.upstream) == ("b", True, frozenset({"a"}))
    assert second.parameters == {"x": FromTask("a", "Output")}
    pauses = [second.retry.pause(failures).total_seconds() for failures in (1, 2, 5000)]
    assert (second.retry.most, second.retry.backoff, pauses) == (2, timedelta(seconds=5), [5, 8, 8])


def test_resources_are_read_as_texts_or_numbers() -> None:
    for given, kept in (
        ({"resourceCpuLimit": "2", "resourceMemoryLimit": "4G", "cpuLimit": 2.0, "memoryLimit": 4.0}, ("2", "4G")),
        ({"cpuLimit": 0.5, "memoryLimit": 2.0}, ("0.5", "2G")),
    ):
        executors = {"exec": {"container": {"image": "python:3.11", "resources": given}}}
        body = compile_spec(spec({"a": task("one")}, {"one": ONE}, executors)).components["one"].body
        assert isinstance(body, ContainerBody)
        assert (body.resources.cpu, body.resources.memory) == kept


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "pipelineInfo is missing; this is no compiled pipeline"),
        ({"pipelineInfo": {"name": "p"}, "schemaVersion": "2.1.0", "root": []}, "root must be an object, not list"),
        (one_task() | {"pipelineInfo": {"name": "My Pipe"}}, "'My Pipe' must match"),
        (spec({"a": task("two")}, {"one": ONE}), "names 'two', which components does not have"),
        (spec({"a": task("one")}, {"one": ONE}, {"other": {}}), "names 'exec', which deploymentSpec.executors"),
        (one_task(inputs=parameters(x=output("b"))), "the task 'b', which does not exist"),
        (spec({"a": task("one", "ghost")}, {"one": ONE}), "the task 'ghost', which does not exist"),
        (
            spec({"a": task("one"), "b": task("one", inputs=parameters(x=output("a", "y")))}, {"one": ONE}),
            "the output parameter 'y' of 'a', which does not exist",
        ),
        (spec({"a": task("one", "b"), "b": task("one", "a")}, {"one": ONE}), "root.dag has a cycle: "),
        (spec({"a": task("one", "a")}, {"one": ONE}), "has a cycle: a -> a"),
        (
            spec({"a": task("two")}, {"two": dag({"b": task("three")}), "three": dag({"c": task("two")})}),
            "components contain themselves",
        ),
        (one_task(triggerPolicy={"condition": "import os"}), "condition 'import os' cannot be read"),
        (one_task(retryPolicy={"backoffDuration": "soon"}), "must be a duration such as 30s"),
        (one_task(dependentTasks="a"), "dependentTasks must be a list"),
        (spec({"a": task("one")}, {"one": leaf({"x": "NUMBER_INTEGER"}) | {"executorLabel": 3}}, {"e": {}}), "a str"),
        (
            spec({"a": task("one", parameterIterator={"itemInput": "x", "items": {"raw": "7"}})}, {"one": dag({})}),
            "must be a JSON list",
        ),
        (
            spec({"a": task("one")}, {"one": ONE}, {"exec": {"container": {"command": ["ls"]}}}),
            "exec.container has no image",
        ),
    ],
)  # fmt: skip
def test_specification_that_means_nothing_names_the_place(document: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why.replace("'", ".")):
        compile_spec(document)


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (one_task() | {"schemaVersion": "2.0.0"}, "schemaVersion '2.0.0'"),
        (one_task(triggerPolicy={"strategy": "SOMETIMES"}), "strategy: 'SOMETIMES'"),
        (one_task(weather={"is": "fine"}), "tasks.a.weather"),
        (spec({"a": task("one")}, {"one": ONE}, {"exec": {"resolver": {}}}), "exec.resolver"),
        (spec({"a": task("one")}, {"one": ONE}, {"exec": {"customJob": {}}}), "exec.customJob"),
        (spec({"a": task("one")}, {"one": leaf({"x": "TASK_CONFIG"})}), "parameterType 'TASK_CONFIG'"),
        (one_task(inputs={"parameters": {"x": {"weird": 1}}}), "inputs.parameters.x"),
        (one_task(parameterIterator={"itemInput": "x", "items": {"raw": "[1]"}}), "component without a dag"),
        (
            spec(
                {"a": task("one")},
                {"one": ONE},
                {"exec": {"container": {"image": "i", "lifecycle": {"preCacheCheck": {"command": ["x"]}}}}},
            ),
            "container.lifecycle",
        ),
    ],
)
def test_what_is_not_emulated_is_refused_by_name(document: dict[str, Any], what: str) -> None:
    with pytest.raises(MethodNotImplemented, match=what):
        compile_spec(document)


def test_reference_to_an_input_that_nobody_has_is_let_be() -> None:
    """kfp compiles a loop over literals inside an exit handler to one."""
    document = one_task(inputs=parameters(x={"componentInputParameter": "loop-item-param-1"}))
    assert compile_spec(document).name == "p"


def test_machine_larger_than_any_is_refused() -> None:
    executors = {"exec": {"container": {"image": "python:3.11", "resources": {"resourceCpuLimit": "97"}}}}
    with pytest.raises(InvalidArgument, match="No machine has 97 CPUs"):
        compile_spec(spec({"a": task("one")}, {"one": ONE}, executors))


def test_fingerprint_is_of_what_a_component_computes_alone() -> None:
    def fingerprint(**container: Any) -> str:
        executors = {"exec": {"container": {"image": "python:3.11", **container}}}
        return compile_spec(spec({"a": task("one")}, {"one": ONE}, executors)).components["one"].fingerprint

    same = fingerprint()
    assert fingerprint(resources={"resourceCpuLimit": "2"}) == same
    changes = ({"image": "python:3.12"}, {"args": ["-x"]}, {"command": ["sh"]}, {"env": [{"name": "A", "value": "b"}]})
    assert len({same, *(fingerprint(**change) for change in changes)}) == 5
