"""The generated tables, as the running server uses them: RPCs by path, REST routes by host."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import selfloop_apis
from google.protobuf.message import Message

from emulator.core.routing import Router

#: Hosts under which clients look for the same API; `{region}-` prefixes and `.rep`, `.mtls` are folded in.
_ALIASES = {
    "prediction-aiplatform.googleapis.com": "aiplatform.googleapis.com",
    "www.googleapis.com": "storage.googleapis.com",
}
#: Vertex AI's dedicated endpoints have a name each: `ENDPOINT.REGION-NUMBER.prediction.vertexai.goog`.
_DEDICATED = ".prediction.vertexai.goog"


@dataclass(frozen=True)
class Rpc:
    """One RPC as a client calls it, in the version that it speaks."""

    service: str
    name: str
    version: str
    input: str
    output: str
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"

    @cached_property
    def input_class(self) -> type[Message]:
        return selfloop_apis.message(self.input)

    @cached_property
    def output_class(self) -> type[Message]:
        return selfloop_apis.message(self.output)


@dataclass(frozen=True)
class RpcRoute:
    """A REST form of an RPC; `body` names the request's field that the body fills, `*` for all of it."""

    rpc: Rpc
    body: str


@dataclass(frozen=True)
class JsonMethod:
    """One method of a JSON API."""

    api: str
    id: str
    parameters: dict[str, Any] = field(hash=False)

    @property
    def resource(self) -> str:
        return self.id.split(".", 1)[1].rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.id.rpartition(".")[2]


@dataclass(frozen=True)
class JsonRoute:
    method: JsonMethod
    upload: bool = False
    download: bool = False


Route = RpcRoute | JsonRoute


class Tables:
    """What is emulated, and how calls reach it."""

    def __init__(self) -> None:
        self.rpcs: dict[str, Rpc] = {}
        self._routers: dict[str, Router[Route]] = {}
        # By the first part of the paths that they know, for calls whose host says nothing.
        self._routers_of: dict[str, list[Router[Route]]] = {}
        self._json_methods: dict[tuple[str, str], list[JsonMethod]] = {}
        for service in _read("services.json"):
            self._add_service(service)
        for path in sorted(selfloop_apis.FOLDER.glob("*.v*.json")):
            self._add_json_api(path.name.removesuffix(".json"), json.loads(path.read_bytes()))
        self._add_mixins()

    def is_emulated(self, host: str) -> bool:
        return canonical_host(host) in self._routers

    def match(self, host: str, verb: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """The method behind a URL. On loopback, where the host says nothing, the path alone decides."""
        canonical = canonical_host(host)
        if canonical in self._routers:
            return self._routers[canonical].match(verb, raw_path)
        if canonical.endswith(".storage.googleapis.com"):
            return None  # a bucket's own host holds its objects alone, whatever their names look like
        for router in self._routers_of.get(raw_path.strip("/").partition("/")[0], ()):
            found = router.match(verb, raw_path)
            if found:
                return found
        return None

    def json_methods(self, api: str, resource: str) -> list[JsonMethod]:
        """The methods of one resource of a JSON API."""
        return self._json_methods.get((api, resource), [])

    def _add_route(self, host: str, verb: str, uri: str, route: Route) -> None:
        router = self._routers.setdefault(host, Router())
        router.add(verb, uri, route)
        of_start = self._routers_of.setdefault(uri.strip("/").partition("/")[0], [])
        if router not in of_start:
            of_start.append(router)

    def _add_service(self, service: dict[str, Any]) -> None:
        version = service["name"].split(".")[-2]
        for method in service["methods"]:
            rpc = Rpc(
                service["name"], method["rpc"], version, method["input"], method["output"],
                method["client_streaming"], method["server_streaming"],
            )  # fmt: skip
            self.rpcs[rpc.path] = rpc
            for binding in method["bindings"]:
                body = _body_field(rpc, binding["body"])
                self._add_route(service["host"], binding["verb"], binding["uri"], RpcRoute(rpc, body))

    def _add_json_api(self, api: str, document: dict[str, Any]) -> None:
        host = document["host"]
        for identifier, entry in document["methods"].items():
            method = JsonMethod(api, identifier, entry["parameters"])
            self._json_methods.setdefault((api, method.resource), []).append(method)
            for uri in entry["uris"]:
                self._add_route(host, entry["verb"], uri, JsonRoute(method, download=uri.startswith("/download/")))
            for uri in entry["upload_uris"]:
                # A resumable session is written, queried and cancelled at the address that began it.
                for verb in ("post", "put", "delete"):
                    self._add_route(host, verb, uri, JsonRoute(method, upload=True))

    def _add_mixins(self) -> None:
        """google.longrunning, locations and IAM: mixed into every API, so served by one generic rule."""
        for service, package, methods in _MIXINS:
            for name, (request, response, bindings) in methods.items():
                rpc = Rpc(service, name, "v1", f"{package}.{request}", response, False, False)
                self.rpcs[rpc.path] = rpc
                for verb, suffix, body in bindings:
                    for host, versions in _MIXIN_HOSTS.items():
                        for version in versions:
                            self._add_route(host, verb, f"/{version}/{suffix}", RpcRoute(rpc, body))


@lru_cache
def canonical_host(host: str) -> str:
    """The name in an API's own tables for any host it is reached under, port and region removed."""
    name = host.partition(":")[0].lower().rstrip(".")
    if name.endswith(_DEDICATED):
        return "aiplatform.googleapis.com"
    first, dot, rest = name.partition(".")
    for infix in ("rep.", "mtls.", "sandbox."):
        if infix in rest:
            rest = rest.replace(infix, "")
            # `aiplatform.us.rep.googleapis.com` carries its region behind the name.
            rest = "googleapis.com" if rest.endswith(".googleapis.com") else rest
    for api in ("prediction-aiplatform", "aiplatform", "logging"):
        if first.endswith(f"-{api}"):
            first = api
            break
    name = f"{first}{dot}{rest}"
    return _ALIASES.get(name, name)


def base_service(name: str) -> str:
    """The service that serves a beta call: `…aiplatform.v1.JobService` for `…v1beta1.JobService`."""
    return name.replace(".v1beta1.", ".v1.")


def _read(name: str) -> Any:
    return json.loads((selfloop_apis.FOLDER / name).read_bytes())


def _body_field(rpc: Rpc, body: str) -> str:
    """A discovery document names the body's message (`$LogSink`); a binding wants the request's field of it."""
    if not body.startswith("$"):
        return body
    for candidate in rpc.input_class.DESCRIPTOR.fields:
        if candidate.message_type is not None and candidate.message_type.name == body[1:]:
            return str(candidate.name)
    raise LookupError(f"{rpc.path} has no field of type {body[1:]}")


_OPERATIONS = {
    "GetOperation": (
        "GetOperationRequest",
        "google.longrunning.Operation",
        [("get", "{name=projects/*/locations/*/**/operations/*}", ""),
         ("get", "{name=projects/*/locations/*/operations/*}", ""),
         ("get", "{name=operations/**}", "")],
    ),
    "ListOperations": (
        "ListOperationsRequest",
        "google.longrunning.ListOperationsResponse",
        [("get", "{name=projects/*/locations/*/**}/operations", ""),
         ("get", "{name=projects/*/locations/*}/operations", "")],
    ),
    "CancelOperation": (
        "CancelOperationRequest",
        "google.protobuf.Empty",
        [("post", "{name=projects/*/locations/*/**/operations/*}:cancel", "*"),
         ("post", "{name=projects/*/locations/*/operations/*}:cancel", "*")],
    ),
    "DeleteOperation": (
        "DeleteOperationRequest",
        "google.protobuf.Empty",
        [("delete", "{name=projects/*/locations/*/**/operations/*}", ""),
         ("delete", "{name=projects/*/locations/*/operations/*}", "")],
    ),
    "WaitOperation": (
        "WaitOperationRequest",
        "google.longrunning.Operation",
        [("post", "{name=projects/*/locations/*/**/operations/*}:wait", "*"),
         ("post", "{name=projects/*/locations/*/operations/*}:wait", "*")],
    ),
}  # fmt: skip
_LOCATIONS = {
    "ListLocations": (
        "ListLocationsRequest",
        "google.cloud.location.ListLocationsResponse",
        [("get", "{name=projects/*}/locations", "")],
    ),
    "GetLocation": (
        "GetLocationRequest",
        "google.cloud.location.Location",
        [("get", "{name=projects/*/locations/*}", "")],
    ),
}
_IAM = {
    rpc: (
        f"{rpc}Request",
        response,
        [(verb, "{resource=projects/*/locations/*/**}:" + rpc[:1].lower() + rpc[1:], body)],
    )
    for rpc, response, verb, body in (
        ("SetIamPolicy", "google.iam.v1.Policy", "post", "*"),
        ("GetIamPolicy", "google.iam.v1.Policy", "post", "*"),
        ("TestIamPermissions", "google.iam.v1.TestIamPermissionsResponse", "post", "*"),
    )
}
_MIXINS = (
    ("google.longrunning.Operations", "google.longrunning", _OPERATIONS),
    ("google.cloud.location.Locations", "google.cloud.location", _LOCATIONS),
    ("google.iam.v1.IAMPolicy", "google.iam.v1", _IAM),
)
#: Hosts that mix these in, with the versions under which they are read. Generated Go clients poll at `/ui/`.
_MIXIN_HOSTS = {"aiplatform.googleapis.com": ("v1", "v1beta1", "ui")}
