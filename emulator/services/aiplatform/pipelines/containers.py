"""What a container is told (ExecutorInput) and what it leaves (ExecutorOutput, or a file per parameter).

Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto (ExecutorInput)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from emulator.services.aiplatform.pipelines.parameters import ParameterType, WrongType, convert, normal, parse
from emulator.services.aiplatform.pipelines.placeholders import OutputPlaces
from emulator.services.aiplatform.pipelines.plan import Component
from emulator.services.aiplatform.pipelines.values import Artifact, Values, gcs_path

#: The file in a task's folder that holds all of its outputs.
OUTPUT_FILE = "executor_output.json"


class BadOutput(Exception):
    """What a container left is not what its component declares; the sentence says why."""


def output_places(component: Component, folder: str, artifacts: Mapping[str, Artifact]) -> OutputPlaces:
    """Where a container writes. folder: `gs://…` of its task; artifacts: those that it is to fill."""
    return OutputPlaces(
        {name: gcs_path(f"{folder}/{name}") for name in component.outputs.parameters},
        artifacts,
        gcs_path(f"{folder}/{OUTPUT_FILE}"),
    )


def executor_input(component: Component, inputs: Values, places: OutputPlaces) -> str:
    """The JSON that `{{$}}` stands for."""
    given: dict[str, Any] = {}
    if inputs.parameters:
        kinds = component.inputs.parameters
        given["parameterValues"] = dict(inputs.parameters)
        given["parameters"] = {name: _legacy(value, kinds[name].kind) for name, value in inputs.parameters.items()}
    if inputs.artifacts:
        given["artifacts"] = {
            name: {"artifacts": [_as_json(artifact) for artifact in artifacts]}
            for name, artifacts in inputs.artifacts.items()
        }
    wanted: dict[str, Any] = {"outputFile": places.output_file}
    if places.parameter_files:
        wanted["parameters"] = {name: {"outputFile": path} for name, path in places.parameter_files.items()}
    if places.artifacts:
        wanted["artifacts"] = {name: {"artifacts": [_as_json(one)]} for name, one in places.artifacts.items()}
    return json.dumps({"inputs": given, "outputs": wanted})


def outputs_of(component: Component, places: OutputPlaces, read: Callable[[str], str | None]) -> Values:
    """What a container that succeeded left. read: the text of a file below /gcs, None where there is none.

    Raises BadOutput for a parameter that was not written, or holds another type than is declared.
    """
    left = _executor_output(read(places.output_file))
    values, parameters = left.get("parameterValues", {}), {}
    for name, kind in component.outputs.parameters.items():
        try:
            if name in values:
                parameters[name] = convert(values[name], kind)
                continue
            text = read(places.parameter_files[name])
            if text is None:
                raise BadOutput(
                    f"The output parameter {name!r} was not written: neither {places.output_file} has it "
                    f"nor is there {places.parameter_files[name]}."
                )
            parameters[name] = parse(text, kind)
        except WrongType as error:
            raise BadOutput(f"The output parameter {name!r} has the wrong type: {error}.") from None
    described = left.get("artifacts", {})
    artifacts = {name: [_filled(artifact, described.get(name))] for name, artifact in places.artifacts.items()}
    return Values(parameters, artifacts)


def _executor_output(text: str | None) -> Mapping[str, Any]:
    if text is None or not text.strip():
        return {}
    try:
        left = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadOutput(f"{OUTPUT_FILE} is no JSON: {error}.") from None
    if not isinstance(left, dict) or not all(
        isinstance(left.get(part, {}), dict) for part in ("parameterValues", "artifacts")
    ):
        raise BadOutput(f"{OUTPUT_FILE} is not of the form of an ExecutorOutput.")
    return left


def _filled(artifact: Artifact, described: Any) -> Artifact:
    """An artifact with the URI and the metadata that its container gave it."""
    if described is None:
        return artifact
    try:
        first = described["artifacts"][0]
        uri, metadata = first.get("uri") or artifact.uri, first.get("metadata") or {}
        if not isinstance(uri, str) or not isinstance(metadata, dict):
            raise TypeError
    except (KeyError, IndexError, TypeError, AttributeError):
        raise BadOutput(f"{OUTPUT_FILE} describes an artifact in no form of an ExecutorOutput.") from None
    return replace(artifact, uri=uri, metadata={**artifact.metadata, **normal(metadata)})


def _as_json(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "type": {"schemaTitle": artifact.schema_title, "schemaVersion": artifact.schema_version},
        "uri": artifact.uri,
        "metadata": dict(artifact.metadata),
    }


def _legacy(value: Any, kind: ParameterType) -> dict[str, Any]:
    """The value as schema 2.0 has it, which the service sends beside the other form."""
    if kind is ParameterType.NUMBER_INTEGER:
        return {"intValue": str(value)}
    if kind is ParameterType.NUMBER_DOUBLE:
        return {"doubleValue": value}
    return {"stringValue": value if isinstance(value, str) else json.dumps(value)}
