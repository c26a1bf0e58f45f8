"""What a compiled pipeline says, typed: components, and the tasks of their DAGs.

Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from emulator.services.aiplatform.pipelines.expressions import Expression
from emulator.services.aiplatform.pipelines.parameters import ParameterType

#: A parameter without a default: None is a value.
NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class ArtifactType:
    schema_title: str
    schema_version: str
    is_list: bool = False


@dataclass(frozen=True)
class ParameterInput:
    kind: ParameterType
    default: Any = NO_DEFAULT
    is_optional: bool = False

    @property
    def is_required(self) -> bool:
        return self.default is NO_DEFAULT and not self.is_optional


@dataclass(frozen=True)
class ArtifactInput:
    kind: ArtifactType
    is_optional: bool = False


@dataclass(frozen=True)
class Inputs:
    parameters: Mapping[str, ParameterInput] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactInput] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    parameters: Mapping[str, ParameterType] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactType] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    cpu: str = ""
    memory: str = ""
    accelerator_type: str = ""
    accelerator_count: int = 0


@dataclass(frozen=True)
class ContainerBody:
    """A program: image, command and arguments, in which `{{$...}}` is replaced when a task starts."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    resources: Resources


@dataclass(frozen=True)
class ImporterBody:
    """Makes an artifact of what is there already."""

    uri: str
    """a constant, perhaps with `{{$...}}`; empty where `uri_parameter` is set"""
    uri_parameter: str
    kind: ArtifactType
    metadata: Mapping[str, Any]
    reimport: bool


@dataclass(frozen=True)
class Constant:
    value: Any


@dataclass(frozen=True)
class FromParent:
    """An input of the component in whose DAG the task is."""

    name: str


@dataclass(frozen=True)
class FromTask:
    """An output of a task of the same DAG."""

    task: str
    key: str


@dataclass(frozen=True)
class FinalStatus:
    """How a task of the same DAG ended."""

    task: str


@dataclass(frozen=True)
class Selected:
    """A part of what another source gives."""

    source: Constant | FromParent | FromTask
    select: Callable[[Any], Any] = field(compare=False)


ParameterSource = Constant | FromParent | FromTask | FinalStatus | Selected
ArtifactSource = FromParent | FromTask


@dataclass(frozen=True)
class Loop:
    """A task done once for each item."""

    item_input: str
    items: tuple[Any, ...] | None
    """None where they come from an input"""
    items_input: str
    over_artifacts: bool
    parallelism: int
    """tasks at a time; 0 for all"""


@dataclass(frozen=True)
class RetryPolicy:
    most: int = 0
    backoff: timedelta = timedelta(0)
    factor: float = 2.0
    longest: timedelta = timedelta(hours=1)

    def pause(self, failures: int) -> timedelta:
        """How long to wait after so many failures, from 1 on."""
        try:
            return min(self.backoff * self.factor ** (failures - 1), self.longest)
        except OverflowError:
            return self.longest


@dataclass(frozen=True)
class Task:
    """One node of a DAG."""

    name: str
    """its key in the DAG"""
    display_name: str
    component: str
    parameters: Mapping[str, ParameterSource]
    artifacts: Mapping[str, ArtifactSource]
    upstream: frozenset[str]
    """tasks that come before it: producers of its inputs, and those it depends on for the order alone"""
    when_completed: bool
    """whether it runs after its upstream tasks however they ended"""
    condition: Expression | None
    condition_text: str
    loop: Loop | None
    retry: RetryPolicy
    is_cached: bool
    cache_key: str


@dataclass(frozen=True)
class DagBody:
    """Tasks by name, and where the outputs of the whole come from: for each, the first source that gives one."""

    tasks: Mapping[str, Task]
    parameters: Mapping[str, tuple[FromTask, ...]]
    artifacts: Mapping[str, tuple[FromTask, ...]]


@dataclass(frozen=True)
class Component:
    name: str
    inputs: Inputs
    outputs: Outputs
    body: ContainerBody | ImporterBody | DagBody
    fingerprint: str
    """of all that decides what it computes: its interface and, for a container, image, command, arguments, env"""


@dataclass(frozen=True)
class Pipeline:
    name: str
    root: Component
    components: Mapping[str, Component]
