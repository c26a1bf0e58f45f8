"""`{{$...}}` in commands, arguments, environment variables and values, replaced when a task starts.

Source: https://github.com/kubeflow/pipelines/blob/master/sdk/python/kfp/dsl/placeholders.py and the container
specifications of Google Cloud Pipeline Components
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from emulator.services.aiplatform.pipelines.parameters import as_text
from emulator.services.aiplatform.pipelines.values import ABSENT, Artifact, RunFacts, gcs_path

_PLACEHOLDER = re.compile(r"""\{\{\$((?:\.\w+(?:\[(?:'[^']*'|"[^"]*"|\d+)\])?)*)\}\}""")
_STEP = re.compile(r"""\.(\w+)|\[(?:'([^']*)'|"([^"]*)"|(\d+))\]""")
#: Those that stand for the whole input of the executor.
_WHOLE_INPUT = re.compile(r"\{\{\$(\.json_escape\[\d+\])?\}\}")
_STRUCTURES = ('{"Concat": ', '{"IfPresent": ')


@dataclass(frozen=True)
class OutputPlaces:
    """Where a container is to put its outputs; paths below /gcs."""

    parameter_files: Mapping[str, str]
    artifacts: Mapping[str, Artifact]
    output_file: str


@dataclass(frozen=True)
class Scope:
    """What the placeholders of one task mean."""

    run: RunFacts
    task_name: str
    task_id: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    outputs: OutputPlaces | None = None
    executor_input: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    """what stands for inputs that may be left out: `{}` and `[]` where texts are to stay JSON"""

    def text(self, text: str) -> str:
        """The text with its placeholders replaced; one that means nothing here stays, an absent input is empty."""
        return _PLACEHOLDER.sub(self._replacement, text)

    def value(self, value: Any) -> Any:
        """The same for every text inside a value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return value

    def words(self, words: Iterable[str]) -> Iterator[str]:
        """A command line; one word may become several, or none, by a condition on an optional input."""
        for word in words:
            structure = _structure(word)
            yield from [self.text(word)] if structure is None else self._expand(structure)

    def _expand(self, structure: Any) -> Iterator[str]:
        """Texts, `Concat` and `IfPresent`, as words."""
        if isinstance(structure, str):
            yield self.text(structure)
        elif isinstance(structure, list):
            for item in structure:
                yield from self._expand(item)
        elif isinstance(structure, dict) and "Concat" in structure:
            yield "".join(self._expand(structure["Concat"]))
        elif isinstance(structure, dict) and isinstance(structure.get("IfPresent"), dict):
            condition = structure["IfPresent"]
            name = condition.get("InputName")
            is_present = name in self.parameters or bool(self.artifacts.get(name))
            yield from self._expand(condition.get("Then" if is_present else "Else", []))
        else:
            yield json.dumps(structure)

    def _replacement(self, found: re.Match[str]) -> str:
        steps = [next(part for part in step if part) for step in _STEP.findall(found[1]) if any(step)]
        escapes = 0
        if len(steps) > 1 and steps[-2] == "json_escape":
            escapes = int(steps[-1]) if steps[-1].isdigit() else 0
            steps = steps[:-2]
        value = self._find(steps)
        if value is ABSENT:
            return found[0]
        text = as_text(value)
        if steps[:2] == ["inputs", "parameters"]:
            # A custom job made of a component holds its own program's arguments as the value of a parameter.
            text = _WHOLE_INPUT.sub(self._replacement, text)
        for _ in range(min(escapes, 10)):
            text = json.dumps(text)[1:-1]
        return text

    def _find(self, steps: Sequence[str]) -> Any:
        """What a path means, ABSENT for one that is unknown."""
        match steps:
            case []:
                return self.executor_input or ABSENT
            case ["inputs", "parameters", name]:
                return self.parameters.get(name, self.absent.get(name, ""))
            case ["inputs", "artifacts", name, *rest]:
                found = self.artifacts.get(name)
                return _of_artifact(found[0], rest) if found else ""
            case ["outputs", "parameters", name, "output_file"] if self.outputs:
                return self.outputs.parameter_files.get(name, ABSENT)
            case ["outputs", "artifacts", name, *rest] if self.outputs and name in self.outputs.artifacts:
                return _of_artifact(self.outputs.artifacts[name], rest)
            case ["outputs", "output_file"] | ["outputMetadataUri"] if self.outputs:
                return self.outputs.output_file
            case [name]:
                return self._of_run(name)
        return ABSENT

    def _of_run(self, name: str) -> Any:
        run = self.run
        return {
            "pipeline_job_name": run.job_id,
            "pipeline_job_resource_name": run.name,
            "pipeline_job_uuid": run.uuid,
            "pipeline_task_name": self.task_name,
            "pipeline_task_uuid": str(self.task_id),
            "pipeline_root": run.root,
            "pipeline_job_create_time_utc": _time(run.create_time),
            "pipeline_job_schedule_time_utc": _time(run.schedule_time),
            "pipeline_google_cloud_location": run.location.region,
            "pipeline_google_cloud_project_id": run.location.project_id,
            "pipeline_service_account": run.service_account,
            "pipeline_network": run.network,
            "pipeline_persistent_resource_id": "",
            "pipeline_encryption_key_name": run.encryption_key,
        }.get(name, ABSENT)


def _of_artifact(artifact: Artifact, rest: Sequence[str]) -> Any:
    match rest:
        case ["uri"]:
            return artifact.uri
        case ["path"]:
            return gcs_path(artifact.uri)
        case ["name"]:
            return artifact.name
        case ["metadata"]:
            return dict(artifact.metadata)
        case ["metadata", key]:
            # A key that is not there leaves the placeholder, by which Google's components know it.
            return artifact.metadata.get(key, ABSENT)
    return ABSENT


def _structure(word: str) -> Any:
    """What a word that stands for several says, None for an ordinary one."""
    if not word.startswith(_STRUCTURES):
        return None
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return None


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
