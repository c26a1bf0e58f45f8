"""What a run leaves in ML Metadata: its contexts, executions, artifacts, and what went into and came out of each.

`Lineage` is what the executor asks of ML Metadata; whatever keeps the metadata does it.
Source: https://cloud.google.com/vertex-ai/docs/pipelines/lineage
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from selfloop_apis.aiplatform_v1 import Artifact, Context, Execution

from emulator.core.ids import new_id
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.pipelines import values
from emulator.services.aiplatform.pipelines.nodes import Dag, Loop, Node
from emulator.services.aiplatform.pipelines.plan import ArtifactType, ImporterBody
from emulator.services.aiplatform.values import plain_struct

_SCHEMA_VERSION = "0.0.1"


class Lineage(Protocol):
    """ML Metadata as the executor needs it. Names are full, with the project's number."""

    def open_run(self, location: Location, pipeline_name: str, job_id: str) -> tuple[Context, Context]:
        """The context that all runs of a pipeline share, touched, and a new one of this run below it."""
        ...

    def context(self, name: str) -> Context | None: ...

    def execution(self, name: str) -> Execution | None: ...

    def artifact(self, name: str) -> Artifact | None: ...

    def artifacts_at(self, location: Location, uri: str) -> Iterable[Artifact]:
        """All artifacts of a URI, the newest first."""
        ...

    def create_execution(self, execution: Execution, context: str) -> Execution: ...

    def update_execution(self, name: str, change: Callable[[Execution], None]) -> Execution: ...

    def create_artifact(self, artifact: Artifact, context: str) -> Artifact: ...

    def update_artifact(self, name: str, change: Callable[[Artifact], None]) -> Artifact: ...

    def add_artifacts(self, context: str, artifacts: Iterable[str]) -> None:
        """Make artifacts that there are members of a run's context too."""
        ...

    def add_events(self, execution: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        """Tie artifacts to an execution; what is tied already stays as it is."""
        ...

    def transaction(self) -> AbstractContextManager[Any]:
        """All that is done inside is kept, or nothing of it."""
        ...


def store_name(location: Location) -> str:
    """The store that pipelines record in."""
    return f"{location.parent}/metadataStores/default"


def execution_name(location: Location, node: Node) -> str:
    """The execution of a task has the task's id, without its sign."""
    return f"{store_name(location)}/executions/{abs(node.id)}"


def new_execution(location: Location, node: Node) -> Execution:
    """The execution of a task that starts."""
    execution = Execution(
        name=execution_name(location, node),
        display_name=node.display_name,
        state=Execution.RUNNING,
        schema_title=_schema_title(node),
        schema_version=_SCHEMA_VERSION,
    )
    execution.metadata.update(_labelled("input", node.inputs.parameters))
    return execution


def output_metadata(node: Node) -> Mapping[str, Any]:
    """What a task's end adds to its execution's metadata."""
    return _labelled("output", node.outputs.parameters)


def new_artifact(location: Location, key: str, kind: ArtifactType, uri: str, metadata: Mapping[str, Any]) -> Artifact:
    """An artifact that a task is about to make. key: of the output, which becomes its display name."""
    artifact = Artifact(
        name=f"{store_name(location)}/artifacts/{new_id()}",
        display_name=key,
        uri=uri,
        state=Artifact.PENDING,
        schema_title=kind.schema_title,
        schema_version=kind.schema_version,
    )
    artifact.metadata.update(metadata)
    return artifact


def as_value(artifact: Artifact) -> values.Artifact:
    """What tasks know of an artifact."""
    return values.Artifact(
        artifact.name, artifact.schema_title, artifact.schema_version, artifact.uri, plain_struct(artifact.metadata)
    )


def _schema_title(node: Node) -> str:
    if node.parent is None:
        return "system.Run"
    if isinstance(node.component.body, ImporterBody):
        return "system.ImporterExecution"
    return "system.DagExecution" if isinstance(node, (Dag, Loop)) else "system.ContainerExecution"


def _labelled(prefix: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}:{name}": value for name, value in parameters.items()}
