"""Methods, schemas and field behaviour of an API, read from its discovery document.

The documents ship, offline, with google-api-python-client. They describe APIs that have no GAPIC package
(Storage, BigQuery), the REST form of those whose package has none (Logging, Monitoring), and, for all,
which fields only the server writes. Used at generation time only.
Source: https://developers.google.com/discovery/v1/reference/apis
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from emulator.core.gapic import Binding, Service


def read_document(api: str) -> dict[str, Any]:
    """The discovery document of an API such as `storage.v1`."""
    import googleapiclient

    folder = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    document: dict[str, Any] = json.loads((folder / f"{api}.json").read_text())
    return document


def read_json_api(api: str) -> dict[str, Any]:
    """A JSON API as its routes and schemas, ready for `tables.JsonApi`.

    Returns {host, methods: {id: {verb, uris, upload_uris, parameters, request, response, media}}, schemas}.
    """
    document = read_document(api)
    service_path = "/" + document["servicePath"]
    methods = {}
    for method in _methods(document):
        upload = method.get("mediaUpload", {}).get("protocols", {})
        path = _template(method, service_path)
        methods[method["id"]] = {
            "verb": method["httpMethod"].lower(),
            "uris": [path] + (["/download" + path] if method.get("supportsMediaDownload") else []),
            "upload_uris": sorted({"/" + protocol["path"].lstrip("/") for protocol in upload.values()}),
            "parameters": {**document.get("parameters", {}), **method.get("parameters", {})},
            "request": method.get("request", {}).get("$ref", ""),
            "response": method.get("response", {}).get("$ref", ""),
        }
    return {
        "host": urlsplit(document["rootUrl"]).hostname,
        "methods": _without_prose(methods),
        "schemas": _without_prose(document.get("schemas", {})),
    }


def with_bindings(service: Service, api: str) -> Service:
    """The service with HTTP bindings taken from a discovery document, for packages that have none.

    `logging.projects.sinks.create` is CreateSink: the verb, then the collection in singular or plural; a
    method whose request message is `ListLogEntriesRequest` is that RPC whatever its id says.
    """
    document = read_document(api)
    found: dict[str, list[Binding]] = {method.rpc: [] for method in service.methods}
    inputs = {method.input.rpartition(".")[2]: method.rpc for method in service.methods}
    # What a collection holds, as far as its `create` says: `metrics` are LogMetrics.
    nouns = {
        method["id"].split(".")[-2]: method["request"]["$ref"]
        for method in _methods(document)
        if method["id"].endswith(".create")
    }
    for method in _methods(document):
        request = method.get("request", {}).get("$ref", "")
        rpc = inputs.get(request) or _rpc_named(method["id"], nouns, set(found))
        if rpc:
            body = "*" if request in inputs else f"${request}" if request else ""
            found[rpc].append(Binding(method["httpMethod"].lower(), _template(method, "/"), body))
    return replace(
        service,
        methods=tuple(
            replace(method, bindings=tuple(found[method.rpc]) or method.bindings) for method in service.methods
        ),
    )


def read_field_behavior(api: str, package: str) -> dict[str, dict[str, str]]:
    """Message full name -> field (JSON name) -> OUTPUT_ONLY, REQUIRED or IMMUTABLE.

    GAPIC packages drop `google.api.field_behavior`; the documents keep it as `readOnly` and as the first
    word of a description. Schemas are named by their package in long APIs and bare in short ones, so
    both spellings are given back.
    """
    behavior: dict[str, dict[str, str]] = {}
    for schema, definition in read_document(api).get("schemas", {}).items():
        fields = {}
        for name, field in definition.get("properties", {}).items():
            prose = field.get("description", "")
            if field.get("readOnly") or prose.startswith("Output only."):
                fields[name] = "OUTPUT_ONLY"
            elif prose.startswith("Immutable."):
                fields[name] = "IMMUTABLE"
            elif prose.startswith("Required."):
                fields[name] = "REQUIRED"
        if fields:
            behavior[schema] = fields
    prefix = "".join(part[:1].upper() + part[1:] for part in package.split("."))
    return {schema.removeprefix(prefix): fields for schema, fields in behavior.items()}


def _methods(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node.get("methods", {}).values()
    for resource in node.get("resources", {}).values():
        yield from _methods(resource)


def _template(method: dict[str, Any], service_path: str) -> str:
    """A URI template in GAPIC's form: `{+parent}` becomes `{parent=projects/*}` by the parameter's pattern."""

    def variable(match: re.Match[str]) -> str:
        plus, name = match.groups()
        if not plus:
            return "{" + name + "}"
        pattern: str = method.get("parameters", {}).get(name, {}).get("pattern", "^.*$")
        glob = pattern.removeprefix("^").removesuffix("$").replace("[^/]+", "*").replace(".*", "**")
        return "{" + name + "=" + glob + "}"

    return re.sub(r"\{(\+?)(\w+)\}", variable, service_path + method["path"])


def _rpc_named(method_id: str, nouns: Mapping[str, str], rpcs: set[str]) -> str | None:
    """The RPC that a method id such as `logging.projects.sinks.create` stands for."""
    *_, collection, verb = method_id.split(".")
    plural = collection[:1].upper() + collection[1:]
    singular = re.sub(r"(?:(?<=polic)ies|s)$", lambda match: "y" if match[0] == "ies" else "", plural)
    noun = nouns.get(collection, singular)
    action = {"insert": "Create", "patch": "Update"}.get(verb, verb[:1].upper() + verb[1:])
    candidates = (action + noun, action + noun + "s", action + singular, action + plural)
    return next((rpc for rpc in candidates if rpc in rpcs), None)


def _without_prose(node: Any) -> Any:
    """The same document without descriptions, which are most of its size and of no use to a server."""
    if isinstance(node, dict):
        return {
            key: _without_prose(value)
            for key, value in node.items()
            if not (key in ("description", "enumDescriptions", "annotations") and not isinstance(value, dict))
        }
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    return node
