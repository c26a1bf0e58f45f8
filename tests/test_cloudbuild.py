"""The build files, read as Cloud Build would: by its own published schema."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from googleapiclient.discovery_cache import get_static_doc
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "cloudbuild").glob("*.yaml"))


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(file)
    return loaded


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    document = json.loads(get_static_doc("cloudbuild", "v1"))
    found: dict[str, Any] = document["schemas"]
    return found


def unknown_fields(value: Any, schema: dict[str, Any], schemas: dict[str, Any], path: str) -> list[str]:
    """Paths in a value that the schema has no field for, or has in another type."""
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if schema["type"] == "object":
        if not isinstance(value, dict):
            return [f"{path}: no object"]
        properties = schema.get("properties", {})
        wrong = []
        for name, inner in value.items():
            declared = properties.get(name, schema.get("additionalProperties"))
            wrong += (
                unknown_fields(inner, declared, schemas, f"{path}.{name}")
                if declared
                else [f"{path}.{name}: no such field"]
            )
        return wrong
    if schema["type"] == "array":
        if not isinstance(value, list):
            return [f"{path}: no list"]
        return [
            problem
            for index, inner in enumerate(value)
            for problem in unknown_fields(inner, schema["items"], schemas, f"{path}[{index}]")
        ]
    kinds: dict[str, type | tuple[type, ...]] = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
    if not isinstance(value, kinds[schema["type"]]):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {schema['enum']}"]
    return []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_build_file_has_only_fields_of_a_build(file: Path, schemas: dict[str, Any]) -> None:
    assert unknown_fields(load(file), {"$ref": "Build"}, schemas, file.name) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_build_file_keeps_the_services_own_rules(file: Path) -> None:
    build = load(file)
    earlier: list[str] = []
    for step in build["steps"]:
        assert step["id"] not in earlier
        assert set(step.get("waitFor", [])) <= {*earlier, "-"}
        assert not ("script" in step and ("args" in step or "entrypoint" in step))
        earlier.append(step["id"])
    # A substitution that no field uses is refused; scripts are not looked at.
    fields = json.dumps({**build, "steps": [{**step, "script": ""} for step in build["steps"]], "substitutions": {}})
    for name in build.get("substitutions", {}):
        assert f"${name}" in fields or f"${{{name}}}" in fields


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_build_file_scripts_are_bash(file: Path) -> None:
    for step in load(file)["steps"]:
        if "script" in step:
            done = subprocess.run(
                ["bash", "-n"], input=step["script"], capture_output=True, text=True, timeout=30, check=False
            )
            assert done.returncode == 0, f"{step['id']}: {done.stderr}"


def test_unknown_fields_finds_what_is_wrong(schemas: dict[str, Any]) -> None:
    build = {"steps": [{"name": 1, "scripts": ""}], "options": {"machineType": "HUGE"}, "tags": "one"}
    assert unknown_fields(build, {"$ref": "Build"}, schemas, "b") == [
        "b.steps[0].name: 1 is no string",
        "b.steps[0].scripts: no such field",
        "b.options.machineType: 'HUGE' is none of " + str(schemas["BuildOptions"]["properties"]["machineType"]["enum"]),
        "b.tags: no list",
    ]
