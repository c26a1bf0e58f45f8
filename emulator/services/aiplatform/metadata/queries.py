"""What is asked of the graph of metadata: filters, and subgraphs of lineage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.api_core.exceptions import FailedPrecondition
from selfloop_apis.aiplatform_v1 import Artifact, Context, Event, Execution, LineageSubgraph

from emulator.core import filters
from emulator.core.projects import Projects
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata.nodes import N, Nodes

#: Source: the comments of the list requests
_DEEPEST = 5
_COMMON = ("name", "display_name", "schema_title", "create_time", "update_time", "metadata")
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Context": _COMMON,
    "Execution": (*_COMMON, "state"),
    "Artifact": (*_COMMON, "state", "uri"),
}
#: Of artifacts, of executions, of events. Source: the comments of the lineage queries' requests
_LARGEST = 1000


def node_filter(
    graph: MetadataGraph, projects: Projects, nodes: Nodes[N], store: str, text: str
) -> Callable[[N], bool]:
    """What the filter of a list, a purge or a lineage query says. Raises InvalidArgument."""
    computed: dict[str, Callable[[Any], str | Iterable[str]]] = {}
    functions: dict[str, Callable[[str], Callable[[Any], bool]]] = {}
    if nodes.message_type is Context:
        computed["parent_contexts"] = lambda context: context.parent_contexts
        if "child_contexts" in text or "childContexts" in text:
            computed["child_contexts"] = _children(graph, store)
    else:
        functions["in_context"] = lambda context: _is_in(graph.members(context))
    return filters.compile(
        text,
        nodes.message_type,
        _FIELDS[nodes.noun],
        computed,
        projects.canonical,
        functions=functions,
        deepest=_DEEPEST,
    )


def _is_in(members: set[str]) -> Callable[[Any], bool]:
    return lambda node: node.name in members


def _children(graph: MetadataGraph, store: str) -> Callable[[Context], Iterable[str]]:
    below: dict[str, list[str]] = {}
    for context in graph.contexts.list(store):
        for parent in context.parent_contexts:
            below.setdefault(parent, []).append(context.name)
    return lambda context: below.get(context.name, ())


def context_subgraph(graph: MetadataGraph, name: str) -> LineageSubgraph:
    """What is in a context, and the events between these. Raises NotFound, FailedPrecondition when it is too large."""
    graph.contexts.get(name)
    members = graph.members(name)
    executions = {member for member in members if "/executions/" in member}
    events = [event for event in graph.events(executions=executions) if event.artifact in members]
    return _subgraph(graph, members - executions, executions, events)


def execution_subgraph(graph: MetadataGraph, name: str) -> LineageSubgraph:
    """An execution with what went into it and came out of it. Raises NotFound, FailedPrecondition."""
    graph.executions.get(name)
    events = graph.events(executions=[name])
    return _subgraph(graph, {event.artifact for event in events}, {name}, events)


def artifact_subgraph(
    graph: MetadataGraph, name: str, max_hops: int, test: Callable[[Artifact], bool]
) -> LineageSubgraph:
    """All that an artifact comes from and all that came of it, by way of artifacts that pass a test.

    max_hops: events from the artifact to the farthest node; 0 for any number.
    Raises NotFound, FailedPrecondition when it is too large.
    """
    artifacts, executions = {graph.artifacts.get(name).name}, set[str]()
    found: dict[tuple[str, str, int], Event] = {}
    edge, hops = {name}, 0
    while edge and (max_hops == 0 or hops < max_hops):
        hops += 1
        is_artifacts = hops % 2 == 1
        events = graph.events(artifacts=edge) if is_artifacts else graph.events(executions=edge)
        if is_artifacts:
            edge = {event.execution for event in events} - executions
            executions |= edge
        else:
            reached = map(graph.artifacts.find, {event.artifact for event in events} - artifacts)
            edge = {artifact.name for artifact in reached if artifact is not None and test(artifact)}
            artifacts |= edge
            events = [event for event in events if event.artifact in artifacts]
        found |= {(event.execution, event.artifact, event.type_): event for event in events}
        _check_size(artifacts, executions, found)
    return _subgraph(graph, artifacts, executions, found.values())


def _subgraph(
    graph: MetadataGraph, artifacts: Iterable[str], executions: Iterable[str], events: Iterable[Event]
) -> LineageSubgraph:
    nodes = [artifact for artifact in map(graph.artifacts.find, artifacts) if artifact is not None]
    runs = [execution for execution in map(graph.executions.find, executions) if execution is not None]
    listed = list(events)
    _check_size(nodes, runs, listed)
    return LineageSubgraph(artifacts=sorted(nodes, key=_age), executions=sorted(runs, key=_age), events=listed)


def _check_size(*parts: Any) -> None:
    for noun, part in zip(("Artifacts", "Executions", "Events"), parts, strict=True):
        if len(part) > _LARGEST:
            raise FailedPrecondition(f"The number of {noun} in the lineage subgraph exceeds {_LARGEST}.")


def _age(node: Artifact | Execution) -> tuple[int, int, str]:
    return node.create_time.seconds, node.create_time.nanos, node.name
