"""The order in which tasks run, with tasks that a test ends by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from emulator.services.aiplatform.pipelines.compiler import compile_spec
from emulator.services.aiplatform.pipelines.engine import Engine
from emulator.services.aiplatform.pipelines.nodes import Failure, Leaf, Node, TaskState, below
from emulator.services.aiplatform.pipelines.values import Artifact, Values
from tests.emulator.services.aiplatform.pipelines.specs import constant, dag, leaf, output, parameters, spec, task
from tests.emulator.services.aiplatform.pipelines.test_placeholders import RUN

ADD = leaf({"x": "NUMBER_INTEGER"}, {"Output": "NUMBER_INTEGER"})
FAILS = Failure(9, "it broke")


class Hands:
    """`Work` whose leaves wait for the test, or end at once as `outcome` says."""

    def __init__(self, outcome: Callable[[Leaf], Any] | None = None) -> None:
        self.begun: list[str] = []
        self.running: dict[str, Leaf] = {}
        self.states: list[tuple[str, str]] = []
        self.most_running = 0
        self.engine: Engine | None = None
        self._outcome = outcome

    def changed(self, node: Node) -> None:
        self.states.append((node.unique_name, node.state.name))

    def begin(self, leaf: Leaf) -> None:
        assert self.engine is not None
        self.begun.append(leaf.unique_name)
        self.running[leaf.unique_name] = leaf
        self.most_running = max(self.most_running, len(self.running))
        self.engine.leaf_runs(leaf)
        if self._outcome is not None:
            self.end(leaf.unique_name, self._outcome(leaf))

    def stop(self, leaf: Leaf) -> None:
        assert self.engine is not None
        self.running.pop(leaf.unique_name, None)
        self.engine.leaf_ends(leaf, TaskState.CANCELLED)

    def end(self, name: str, outcome: Any = 1) -> None:
        """An int or another value is the output; a Failure a failure."""
        assert self.engine is not None
        one = self.running.pop(name)
        if isinstance(outcome, Failure):
            self.engine.leaf_ends(one, TaskState.FAILED, failure=outcome)
        else:
            self.engine.leaf_ends(one, TaskState.SUCCEEDED, Values({"Output": outcome}))


def started(
    document: Mapping[str, Any], outcome: Callable[[Leaf], Any] | None = None, *, fails_fast: bool = False
) -> tuple[Hands, Engine]:
    hands = Hands(outcome)
    engine = Engine(compile_spec(document), RUN, Values(), hands, fails_fast=fails_fast)
    hands.engine = engine
    engine.start()
    return hands, engine


def states(engine: Engine) -> dict[str, str]:
    return {node.unique_name: node.state.name for node in below(engine.root) if node.parent is not None}


def add(*after: str, x: Any = 1, **fields: Any) -> dict[str, Any]:
    source = x if isinstance(x, dict) else constant(x)
    return task("add", *after, inputs=parameters(x=source), **fields)


def test_tasks_run_when_those_before_them_are_over() -> None:
    hands, engine = started(spec({"a": add(), "b": add(), "c": add("b", x=output("a"))}, {"add": ADD}))
    assert hands.begun == ["a", "b"]
    hands.end("a", 5)
    assert hands.begun == ["a", "b"]
    hands.end("b")
    assert hands.begun == ["a", "b", "c"]
    assert hands.running["c"].inputs.parameters == {"x": 5}
    hands.end("c")
    assert engine.root.state is TaskState.SUCCEEDED
    assert engine.is_over


def test_what_needs_a_failed_task_does_not_run_and_the_rest_does() -> None:
    tasks = {"a": add(), "b": add(), "c": add(x=output("a")), "d": add("b"), "e": add("c")}
    hands, engine = started(spec(tasks, {"add": ADD}))
    hands.end("a", FAILS)
    hands.end("b")
    hands.end("d")
    assert states(engine) == {
        "a": "FAILED", "b": "SUCCEEDED", "c": "NOT_TRIGGERED", "d": "SUCCEEDED", "e": "NOT_TRIGGERED",
    }  # fmt: skip
    assert engine.root.failure == Failure(9, "The DAG failed because some tasks failed. The failed tasks are: [a].")


def test_failing_fast_starts_nothing_more_and_lets_what_runs_end() -> None:
    tasks = {"a": add(), "b": add(), "d": add("b")}
    hands, engine = started(spec(tasks, {"add": ADD}), fails_fast=True)
    hands.end("a", FAILS)
    assert not engine.is_over
    hands.end("b")
    assert states(engine) == {"a": "FAILED", "b": "SUCCEEDED", "d": "CANCELLED"}
    assert engine.root.state is TaskState.FAILED


def exit_pipeline(**body: Any) -> dict[str, Any]:
    bye = leaf({"x": "NUMBER_INTEGER"})
    bye["inputDefinitions"]["parameters"]["status"] = {"parameterType": "TASK_FINAL_STATUS", "isOptional": True}
    tasks = {
        "handler": task("body", taskInfo={"name": "my handler"}),
        "bye": task(
            "bye",
            "handler",
            inputs=parameters(x=constant(1), status={"taskFinalStatus": {"producerTask": "handler"}}),
            triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
        ),
    }
    return spec(tasks, {"add": ADD, "bye": bye, "body": dag(body)})


@pytest.mark.parametrize("fails_fast", [False, True])
def test_exit_task_runs_after_a_failure_and_learns_of_it(fails_fast: bool) -> None:
    hands, engine = started(exit_pipeline(a=add()), fails_fast=fails_fast)
    hands.end("handler.a", FAILS)
    assert hands.running["bye"].inputs.parameters["status"] == {
        "state": "FAILED",
        "pipelineJobResourceName": RUN.name,
        "pipelineTaskName": "my handler",
        "error": {"code": 9, "message": "The DAG failed because some tasks failed. The failed tasks are: [a]."},
    }
    hands.end("bye")
    assert engine.root.state is TaskState.FAILED
    assert "[handler]" in str(engine.root.failure)


def test_exit_task_learns_of_success() -> None:
    hands, engine = started(exit_pipeline(a=add()))
    hands.end("handler.a")
    status = hands.running["bye"].inputs.parameters["status"]
    assert (status["state"], status["error"]) == ("SUCCEEDED", {})
    hands.end("bye")
    assert engine.root.state is TaskState.SUCCEEDED


def test_cancelling_stops_what_runs_and_starts_no_exit_task() -> None:
    hands, engine = started(exit_pipeline(a=add(), b=add(), c=add("a")))
    engine.cancel()
    assert engine.root.state is TaskState.CANCELLED
    assert states(engine) == {"handler": "CANCELLED", "handler.a": "CANCELLED", "handler.b": "CANCELLED"}
    assert ("handler.a", "CANCELLING") in hands.states
    assert "bye" not in hands.begun


def test_task_that_succeeds_while_it_is_cancelled_stays_so() -> None:
    hands, engine = started(spec({"a": add(), "b": add("a")}, {"add": ADD}))
    hands.stop = lambda leaf: None  # type: ignore[method-assign]  # it takes its time
    engine.cancel()
    hands.end("a")
    assert states(engine) == {"a": "SUCCEEDED"}
    assert engine.root.state is TaskState.CANCELLED


def branches(value: str) -> dict[str, Any]:
    """If, elif, else over a parameter, and a task that takes the output of whichever ran."""
    given = "inputs.parameter_values['side']"

    def branch(condition: str) -> dict[str, Any]:
        return task(
            "branch",
            inputs=parameters(side={"componentInputParameter": "side"}),
            triggerPolicy={"condition": condition},
        )

    tasks = {
        "heads": branch(f"{given} == 'heads'"),
        "tails": branch(f"!({given} == 'heads') && {given} == 'tails'"),
        "edge": branch(f"!({given} == 'heads') && !({given} == 'tails')"),
    }
    every = dag(tasks, {"side": "STRING"})
    selectors = [{"producerSubtask": name, "outputParameterKey": "out"} for name in tasks]
    every["dag"]["outputs"] = {"parameters": {"one": {"valueFromOneof": {"parameterSelectors": selectors}}}}
    every["outputDefinitions"] = {"parameters": {"one": {"parameterType": "NUMBER_INTEGER"}}}
    inside = dag({"a": add(x=7)}, {"side": "STRING"}, {"out": ("NUMBER_INTEGER", "a", "Output")})
    return spec(
        {"every": task("every", inputs=parameters(side=constant(value))), "after": add(x=output("every", "one"))},
        {"add": ADD, "every": every, "branch": inside},
    )


@pytest.mark.parametrize("side", ["heads", "tails", "edge"])
def test_one_branch_runs_and_its_output_goes_on(side: str) -> None:
    hands, engine = started(branches(side), lambda leaf: leaf.inputs.parameters["x"] + 1)
    assert hands.begun == [f"every.{side}.a", "after"]
    seen = states(engine)
    for other in {"heads", "tails", "edge"} - {side}:
        assert (seen[f"every.{other}"], seen[f"every.{other}.a"]) == ("NOT_TRIGGERED", "NOT_TRIGGERED")
    assert engine.root.state is TaskState.SUCCEEDED


def test_condition_without_a_value_fails_its_task() -> None:
    document = spec({"a": add(triggerPolicy={"condition": "inputs.parameter_values['y'] == 1"})}, {"add": ADD})
    hands, engine = started(document)
    assert (hands.begun, states(engine)) == ([], {"a": "FAILED"})


def loop(items: Any, limit: int = 0, **fields: Any) -> dict[str, Any]:
    """A loop that gives its items to `add`, and a task after it that takes the list of results."""
    body = dag({"a": add(x={"componentInputParameter": "item"})}, {"item": "STRING"}, {"out": ("LIST", "a", "Output")})
    whole = leaf({"xs": "LIST"}, {"Output": "NUMBER_INTEGER"})
    each = task("each", parameterIterator={"itemInput": "item", "items": items}, **fields)
    if limit:
        each["iteratorPolicy"] = {"parallelismLimit": limit}
    return spec(
        {"make": add(), "each": each, "whole": task("whole", inputs=parameters(xs=output("each", "out")))},
        {"add": ADD, "each": body | {"outputDefinitions": {"parameters": {"out": {"parameterType": "LIST"}}}},
         "whole": whole},
    )  # fmt: skip


def test_loop_runs_its_iterations_and_gathers_their_outputs_in_order() -> None:
    hands, engine = started(loop({"raw": "[3, 1, 2]"}))
    names = [f"each.each-worker-{number}.a" for number in range(3)]
    assert hands.begun == ["make", *names]
    for number, name in reversed(list(enumerate(names))):
        hands.end(name, number * 10)
    assert hands.running["whole"].inputs.parameters == {"xs": [0, 10, 20]}
    hands.end("make")
    hands.end("whole")
    assert engine.root.state is TaskState.SUCCEEDED


def test_loop_keeps_to_its_parallelism() -> None:
    hands, _ = started(loop({"raw": "[1, 2, 3, 4, 5]"}, limit=2))
    assert hands.begun == ["make", "each.each-worker-0.a", "each.each-worker-1.a"]
    hands.end("each.each-worker-1.a")
    assert hands.begun[3:] == ["each.each-worker-2.a"]


def test_loop_over_nothing_succeeds() -> None:
    hands, engine = started(loop({"raw": "[]"}), lambda leaf: 1)
    assert engine.root.state is TaskState.SUCCEEDED
    assert hands.begun == ["make", "whole"]


def test_loop_with_a_failing_iteration_fails_when_the_others_are_over() -> None:
    hands, engine = started(loop({"raw": "[1, 2]"}))
    hands.end("make")
    hands.end("each.each-worker-0.a", FAILS)
    assert not engine.is_over
    hands.end("each.each-worker-1.a")
    assert states(engine)["each"] == "FAILED"
    assert states(engine)["whole"] == "NOT_TRIGGERED"


def test_loop_stops_at_a_failure_that_counts_at_once() -> None:
    hands, engine = started(loop({"raw": "[1, 2, 3]"}, limit=1), fails_fast=True)
    hands.end("each.each-worker-0.a")
    hands.end("make", FAILS)
    hands.end("each.each-worker-1.a")
    assert states(engine)["each"] == "CANCELLED"
    assert engine.root.state is TaskState.FAILED


def test_loop_over_an_output_takes_a_list_and_nothing_else() -> None:
    fields: dict[str, Any] = {"inputs": parameters(items=output("make")), "dependentTasks": ["make"]}
    document = loop({"inputParameter": "items"}, **fields)
    document["components"]["each"]["inputDefinitions"]["parameters"]["items"] = {"parameterType": "LIST"}
    hands, _ = started(document)
    hands.end("make", [8, 9])
    assert [hands.running[f"each.each-worker-{number}.a"].inputs.parameters["x"] for number in (0, 1)] == [8, 9]
    hands, engine = started(document)
    hands.end("make", 5)
    assert states(engine)["each"] == "FAILED"


def test_loop_over_artifacts_gives_each_to_an_iteration() -> None:
    dataset = {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}
    taker, maker = leaf(), leaf(outputs={"Output": "NUMBER_INTEGER"})
    taker["inputDefinitions"]["artifacts"] = {"data": dataset}
    maker["outputDefinitions"]["artifacts"] = {"many": dataset | {"isArtifactList": True}}
    take = task("take", inputs={"artifacts": {"data": {"componentInputArtifact": "item"}}})
    body = dag({"take": take})
    body["inputDefinitions"]["artifacts"] = {"item": dataset, "all": dataset | {"isArtifactList": True}}
    produced = {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "many"}}
    each = task(
        "each",
        "make",
        inputs={"artifacts": {"all": produced}},
        artifactIterator={"itemInput": "item", "items": {"inputArtifact": "all"}},
    )
    document = spec({"make": task("make"), "each": each}, {"make": maker, "take": taker, "each": body})
    hands, engine = started(document)
    made = [Artifact(f"artifacts/{number}", "system.Dataset", "0.0.1", f"gs://b/{number}") for number in range(3)]
    engine.leaf_ends(hands.running.pop("make"), TaskState.SUCCEEDED, Values({}, {"many": made}))
    assert [leaf.inputs.artifacts["data"] for leaf in hands.running.values()] == [[one] for one in made]


def test_a_thousand_tasks_in_a_row_need_no_deep_stack() -> None:
    tasks = {"t0": add()} | {f"t{number}": add(f"t{number - 1}") for number in range(1, 1000)}
    _, engine = started(spec(tasks, {"add": ADD}), lambda leaf: 1)
    assert engine.root.state is TaskState.SUCCEEDED


def test_input_of_the_wrong_type_fails_the_task_that_takes_it() -> None:
    hands, engine = started(spec({"a": add(), "b": add(x=output("a"))}, {"add": ADD}))
    hands.end("a", "no number")
    assert states(engine)["b"] == "FAILED"
    failed = next(node for node in below(engine.root) if node.name == "b")
    assert "The input parameter 'x' has the wrong type" in str(failed.failure)


def test_text_refers_to_inputs_that_its_component_does_not_declare() -> None:
    one = leaf({"x": "STRING"}, {"Output": "NUMBER_INTEGER"})
    sources = parameters(
        x=constant("sum {{$.inputs.parameters['pipelinechannel--a-Output']}}"),
        **{"pipelinechannel--a-Output": output("a")},
    )
    hands, _ = started(spec({"a": add(), "b": task("one", "a", inputs=sources)}, {"add": ADD, "one": one}))
    hands.end("a", 12)
    assert hands.running["b"].inputs.parameters == {"x": "sum 12"}
