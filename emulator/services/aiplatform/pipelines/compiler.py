"""PipelineSpec -> plan. What a plan cannot express is refused here, by name, before anything runs.

Raises InvalidArgument for a specification that means nothing (a reference that leads nowhere, a cycle) and
MethodNotImplemented for one that means what is not emulated.
Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from selfloop_apis.aiplatform_v1 import AcceleratorType

from emulator.services.aiplatform.pipelines.expressions import ExpressionError, parse_condition, parse_selector
from emulator.services.aiplatform.pipelines.machines import machine_type
from emulator.services.aiplatform.pipelines.parameters import ParameterType, WrongType, check, normal
from emulator.services.aiplatform.pipelines.plan import (
    NO_DEFAULT,
    ArtifactInput,
    ArtifactSource,
    ArtifactType,
    Component,
    Constant,
    ContainerBody,
    DagBody,
    FinalStatus,
    FromParent,
    FromTask,
    ImporterBody,
    Inputs,
    Loop,
    Outputs,
    ParameterInput,
    ParameterSource,
    Pipeline,
    Resources,
    RetryPolicy,
    Selected,
    Task,
)
from emulator.services.aiplatform.pipelines.spec_node import SpecNode, wrong

#: Source: https://cloud.google.com/vertex-ai/docs/pipelines/build-pipeline
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_SCHEMA_VERSIONS = ("2.1.0", "2.1.1")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")
_SUCCEEDED, _COMPLETED = "ALL_UPSTREAM_TASKS_SUCCEEDED", "ALL_UPSTREAM_TASKS_COMPLETED"
_ROOT = "root"


def compile_spec(spec: Mapping[str, Any]) -> Pipeline:
    """The plan of a compiled pipeline, as JSON gives it."""
    node = SpecNode(spec, "pipeline_spec")
    for key in ("pipelineInfo", "root", "schemaVersion"):
        if key not in node:
            raise InvalidArgument(f"Invalid pipeline spec: {key} is missing; this is no compiled pipeline.")
    name = node.node("pipelineInfo").text("name")
    if not _NAME.fullmatch(name):
        raise wrong("pipelineInfo.name", f"{name!r} must match {_NAME.pattern}")
    version = node.text("schemaVersion")
    if version not in _SCHEMA_VERSIONS:
        raise MethodNotImplemented(
            f"A pipeline spec with schemaVersion {version!r} is not emulated; kfp 2 compiles to {_SCHEMA_VERSIONS[0]}."
        )
    # Specifications of older compilers name it deploymentConfig, and some have both.
    executors = dict(node.node("deploymentSpec" if "deploymentSpec" in node else "deploymentConfig").nodes("executors"))
    components = {component: _component(component, inner, executors) for component, inner in node.nodes("components")}
    root = _component(_ROOT, node.node("root"), executors)
    if not isinstance(root.body, DagBody):
        raise wrong("root", "must have a dag")
    for component in (root, *components.values()):
        if isinstance(component.body, DagBody):
            _check_dag(component.name, component.body, components)
    _check_nesting(root, components)
    return Pipeline(name, root, components)


def _component(name: str, node: SpecNode, executors: Mapping[str, SpecNode]) -> Component:
    inputs, outputs = _inputs(node.node("inputDefinitions")), _outputs(node.node("outputDefinitions"))
    interface = [node.raw("outputDefinitions", {}), sorted(inputs.parameters), sorted(inputs.artifacts)]
    node.refuse_others(("inputDefinitions", "outputDefinitions", "dag", "executorLabel", "platformSpecs"))
    if "dag" in node:
        return Component(name, inputs, outputs, _dag(node.node("dag")), "")
    label = node.text("executorLabel")
    executor = executors.get(label)
    if executor is None:
        raise wrong(f"{node.path}.executorLabel", f"names {label!r}, which deploymentSpec.executors does not have")
    kind = executor.only_one_of(("container", "importer"), "executor")
    body = _container(executor.node(kind)) if kind == "container" else _importer(executor.node(kind))
    if isinstance(body, ContainerBody):
        interface += [body.image, body.command, body.args, sorted(body.env.items())]
    text = json.dumps(interface, sort_keys=True, default=str)
    return Component(name, inputs, outputs, body, hashlib.sha256(text.encode()).hexdigest())


def _inputs(node: SpecNode) -> Inputs:
    parameters = {}
    for name, inner in node.nodes("parameters"):
        kind, default = _parameter_type(inner), NO_DEFAULT
        if "defaultValue" in inner:
            try:
                default = check(inner.raw("defaultValue"), kind)
            except WrongType as error:
                raise wrong(f"{inner.path}.defaultValue", str(error)) from None
        parameters[name] = ParameterInput(kind, default, inner.flag("isOptional"))
    artifacts = {
        name: ArtifactInput(_artifact_type(inner), inner.flag("isOptional")) for name, inner in node.nodes("artifacts")
    }
    return Inputs(parameters, artifacts)


def _outputs(node: SpecNode) -> Outputs:
    return Outputs(
        {name: _parameter_type(inner) for name, inner in node.nodes("parameters")},
        {name: _artifact_type(inner) for name, inner in node.nodes("artifacts")},
    )


def _parameter_type(node: SpecNode) -> ParameterType:
    name = node.text("parameterType")
    try:
        return ParameterType(name)
    except ValueError:
        raise MethodNotImplemented(f"{node.path}: parameterType {name!r} is not emulated.") from None


def _artifact_type(node: SpecNode) -> ArtifactType:
    kind = _schema(node.node("artifactType"))
    return ArtifactType(kind.schema_title, kind.schema_version, node.flag("isArtifactList"))


def _schema(node: SpecNode) -> ArtifactType:
    if "instanceSchema" in node or "schemaUri" in node:
        raise MethodNotImplemented(f"{node.path}: an artifact type by instanceSchema or schemaUri is not emulated.")
    return ArtifactType(node.text("schemaTitle") or "system.Artifact", node.text("schemaVersion") or "0.0.1")


def _container(node: SpecNode) -> ContainerBody:
    node.refuse_others(("image", "command", "args", "env", "resources"))
    if not node.text("image"):
        raise wrong(node.path, "has no image")
    return ContainerBody(
        node.text("image"),
        node.texts("command"),
        node.texts("args"),
        {variable.text("name"): variable.text("value") for variable in node.node_list("env")},
        _resources(node.node("resources")),
    )


def _resources(node: SpecNode) -> Resources:
    """The texts, or the numbers that older compilers write; kfp writes both."""
    accelerator = node.node("accelerator")
    kind = accelerator.text("resourceType") or accelerator.text("type")
    count = accelerator.text("resourceCount") or accelerator.raw("count") or 0
    resources = Resources(
        node.text("resourceCpuLimit") or _plain(node.raw("cpuLimit")),
        node.text("resourceMemoryLimit") or _plain(node.raw("memoryLimit"), "G"),
        kind,
        int(float(count)) if re.fullmatch(r"\d{1,4}(\.0)?", str(count)) else 0,
    )
    if "{{$" in f"{resources.cpu}{resources.memory}{kind}{count}":
        raise MethodNotImplemented(f"{node.path}: resources that come from parameters are not emulated.")
    if resources.accelerator_count and kind not in AcceleratorType.keys():  # noqa: SIM118  # no dict
        raise wrong(f"{node.path}.accelerator", f"is of no type that Vertex AI has: {kind!r}")
    machine_type(resources)
    return resources


def _plain(number: Any, unit: str = "") -> str:
    return f"{number:g}{unit}" if isinstance(number, (int, float)) and number else ""


def _importer(node: SpecNode) -> ImporterBody:
    uri = node.node("artifactUri")
    constant = uri.raw("constant", "")
    return ImporterBody(
        uri=constant if isinstance(constant, str) else "",
        uri_parameter=uri.text("runtimeParameter"),
        kind=_schema(node.node("typeSchema")),
        metadata=normal(dict(node.raw("metadata") or {})),
        reimport=node.flag("reimport"),
    )


def _dag(node: SpecNode) -> DagBody:
    outputs = node.node("outputs")
    parameters = {}
    for name, inner in outputs.nodes("parameters"):
        kind = inner.only_one_of(("valueFromParameter", "valueFromOneof"), "output")
        chosen = inner.node(kind)
        selectors = [chosen] if kind == "valueFromParameter" else chosen.node_list("parameterSelectors")
        parameters[name] = tuple(
            FromTask(one.text("producerSubtask"), one.text("outputParameterKey")) for one in selectors
        )
    artifacts = {
        name: tuple(
            FromTask(one.text("producerSubtask"), one.text("outputArtifactKey"))
            for one in inner.node_list("artifactSelectors")
        )
        for name, inner in outputs.nodes("artifacts")
    }
    return DagBody({name: _task(name, inner) for name, inner in node.nodes("tasks")}, parameters, artifacts)


def _task(name: str, node: SpecNode) -> Task:
    node.refuse_others(
        (
            "taskInfo", "inputs", "dependentTasks", "cachingOptions", "componentRef", "triggerPolicy",
            "artifactIterator", "parameterIterator", "iteratorPolicy", "retryPolicy",
        )
    )  # fmt: skip
    parameters = {key: _parameter_source(inner) for key, inner in node.node("inputs").nodes("parameters")}
    artifacts = {key: _artifact_source(inner) for key, inner in node.node("inputs").nodes("artifacts")}
    producers = {task for source in (*parameters.values(), *artifacts.values()) if (task := _producer(source))}
    trigger, caching = node.node("triggerPolicy"), node.node("cachingOptions")
    strategy = trigger.text("strategy") or _SUCCEEDED
    if strategy == "TRIGGER_STRATEGY_UNSPECIFIED":
        strategy = _SUCCEEDED
    if strategy not in (_SUCCEEDED, _COMPLETED):
        raise MethodNotImplemented(f"{trigger.path}.strategy: {strategy!r} is not emulated.")
    text = trigger.text("condition")
    try:
        condition = parse_condition(text) if text else None
    except ExpressionError as error:
        raise wrong(f"{trigger.path}.condition", str(error)) from None
    return Task(
        name=name,
        display_name=node.node("taskInfo").text("name") or name,
        component=node.node("componentRef").text("name"),
        parameters=parameters,
        artifacts=artifacts,
        upstream=frozenset(producers) | frozenset(node.texts("dependentTasks")),
        when_completed=strategy == _COMPLETED,
        condition=condition,
        condition_text=text,
        loop=_loop(node),
        retry=_retry(node.node("retryPolicy")),
        is_cached=caching.flag("enableCache"),
        cache_key=caching.text("cacheKey"),
    )


def _producer(source: ParameterSource | ArtifactSource) -> str:
    inner = source.source if isinstance(source, Selected) else source
    return inner.task if isinstance(inner, (FromTask, FinalStatus)) else ""


def _parameter_source(node: SpecNode) -> ParameterSource:
    selector = node.text("parameterExpressionSelector")
    source: Constant | FromParent | FromTask
    if "componentInputParameter" in node:
        source = FromParent(node.text("componentInputParameter"))
    elif "taskOutputParameter" in node:
        produced = node.node("taskOutputParameter")
        source = FromTask(produced.text("producerTask"), produced.text("outputParameterKey"))
    elif "taskFinalStatus" in node:
        return FinalStatus(node.node("taskFinalStatus").text("producerTask"))
    elif "constant" in node.node("runtimeValue"):
        source = Constant(normal(node.node("runtimeValue").raw("constant")))
    else:
        raise MethodNotImplemented(f"{node.path}: this kind of input is not emulated.")
    if not selector:
        return source
    try:
        return Selected(source, parse_selector(selector))
    except ExpressionError as error:
        raise MethodNotImplemented(f"{node.path}.parameterExpressionSelector: {error}") from None


def _artifact_source(node: SpecNode) -> ArtifactSource:
    if "componentInputArtifact" in node:
        return FromParent(node.text("componentInputArtifact"))
    if "taskOutputArtifact" in node:
        produced = node.node("taskOutputArtifact")
        return FromTask(produced.text("producerTask"), produced.text("outputArtifactKey"))
    raise MethodNotImplemented(f"{node.path}: this kind of input is not emulated.")


def _loop(node: SpecNode) -> Loop | None:
    over_artifacts = "artifactIterator" in node
    if not over_artifacts and "parameterIterator" not in node:
        return None
    iterator = node.node("artifactIterator" if over_artifacts else "parameterIterator")
    items, fixed = iterator.node("items"), None
    if "raw" in items and not over_artifacts:
        try:
            fixed = json.loads(items.text("raw"))
        except (ValueError, RecursionError):
            fixed = None
        if not isinstance(fixed, list):
            raise wrong(f"{items.path}.raw", "must be a JSON list")
    limit = node.node("iteratorPolicy").number("parallelismLimit", 0)
    if limit < 0:
        raise wrong(f"{node.path}.iteratorPolicy.parallelismLimit", "must not be negative")
    return Loop(
        item_input=iterator.text("itemInput"),
        items=None if fixed is None else tuple(normal(fixed)),
        items_input=items.text("inputArtifact" if over_artifacts else "inputParameter"),
        over_artifacts=over_artifacts,
        parallelism=int(limit),
    )


def _retry(node: SpecNode) -> RetryPolicy:
    if not node:
        return RetryPolicy()
    most = node.number("maxRetryCount", 0)
    if most < 0:
        raise wrong(f"{node.path}.maxRetryCount", "must not be negative")
    return RetryPolicy(
        int(most),
        _duration(node, "backoffDuration", timedelta(0)),
        node.number("backoffFactor", 0) or 2.0,
        _duration(node, "backoffMaxDuration", timedelta(hours=1)),
    )


def _duration(node: SpecNode, key: str, default: timedelta) -> timedelta:
    text = node.text(key)
    found = _DURATION.fullmatch(text)
    if text and found is None:
        raise wrong(f"{node.path}.{key}", "must be a duration such as 30s")
    return timedelta(seconds=float(found[1])) if found else default


def _check_dag(name: str, dag: DagBody, components: Mapping[str, Component]) -> None:
    """Every reference leads somewhere, and no task waits for itself."""
    for task in dag.tasks.values():
        where = f"{name}.dag.tasks.{task.name}"
        if task.component not in components:
            raise wrong(f"{where}.componentRef", f"names {task.component!r}, which components does not have")
        for upstream in sorted(task.upstream):
            if upstream not in dag.tasks:
                raise wrong(where, f"depends on the task {upstream!r}, which does not exist")
        for source in task.parameters.values():
            inner = source.source if isinstance(source, Selected) else source
            if isinstance(inner, FromTask):
                _check_output(where, inner, dag, components, of_artifact=False)
        for artifact in task.artifacts.values():
            if isinstance(artifact, FromTask):
                _check_output(where, artifact, dag, components, of_artifact=True)
        _check_loop(where, task, components[task.component])
    for of_artifact, outputs in ((False, dag.parameters), (True, dag.artifacts)):
        for output, sources in outputs.items():
            for one in sources:
                if one.task not in dag.tasks:
                    raise wrong(f"{name}.dag.outputs.{output}", f"is of the task {one.task!r}, which does not exist")
                _check_output(f"{name}.dag.outputs.{output}", one, dag, components, of_artifact=of_artifact)
    try:
        TopologicalSorter({task.name: task.upstream for task in dag.tasks.values()}).prepare()
    except CycleError as error:
        raise wrong(f"{name}.dag", f"has a cycle: {' -> '.join(reversed(error.args[1]))}") from None


def _check_output(
    where: str, source: FromTask, dag: DagBody, components: Mapping[str, Component], *, of_artifact: bool
) -> None:
    producer = components.get(dag.tasks[source.task].component)
    if producer is None:
        return  # the producer's own check tells
    declared = producer.outputs.artifacts if of_artifact else producer.outputs.parameters
    if source.key not in declared:
        kind = "artifact" if of_artifact else "parameter"
        raise wrong(where, f"refers to the output {kind} {source.key!r} of {source.task!r}, which does not exist")


def _check_loop(where: str, task: Task, component: Component) -> None:
    if task.loop is None:
        return
    if not isinstance(component.body, DagBody):
        raise MethodNotImplemented(f"{where}: an iterator over a component without a dag is not emulated.")
    declared = component.inputs.artifacts if task.loop.over_artifacts else component.inputs.parameters
    if task.loop.item_input not in declared:
        raise wrong(where, f"gives its items to the input {task.loop.item_input!r}, which does not exist")


def _check_nesting(root: Component, components: Mapping[str, Component]) -> None:
    """No component contains itself."""
    inside = {
        component.name: {task.component for task in component.body.tasks.values()}
        for component in (root, *components.values())
        if isinstance(component.body, DagBody)
    }
    try:
        TopologicalSorter(inside).prepare()
    except CycleError as error:
        raise wrong("components", f"contain themselves: {' -> '.join(reversed(error.args[1]))}") from None
