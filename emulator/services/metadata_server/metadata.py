"""metadata.google.internal: project, place and identity of who asks, and tokens for that identity.

What comes in by a sandbox's listener is told its job's project and service account. On loopback, where a client has
to be sent by GCE_METADATA_HOST, it is those of this emulator. A shell that asks for metadata.google.internal by name
is told that there is none: it is no machine of Google's, and libraries would log and authenticate as one. Whoever
can send the header `Metadata-Flavor: Google` may ask: a web page of another origin cannot.
Source: https://cloud.google.com/compute/docs/metadata/overview
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from emulator.core.egress import is_loopback
from emulator.core.interfaces import SandboxCaller
from emulator.core.plain_http import HttpRequest, HttpResponse, PlainHttp
from emulator.core.projects import Projects
from emulator.core.tokens import Tokens

_HOSTS = frozenset({"metadata", "metadata.google.internal", "169.254.169.254"})
_ROOT = "/computeMetadata/v1/"
_HEADERS = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM", "X-XSS-Protection": "0"}
_SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
)
_EXPIRES_IN = 3599


class MetadataServer(PlainHttp):
    """project and location: those of who asks from outside any sandbox."""

    name = "metadata"

    def __init__(self, tokens: Tokens, projects: Projects, project: str, location: str) -> None:
        self._tokens = tokens
        self._projects = projects
        self._project = project
        self._location = location

    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        if host in _HOSTS:
            return True
        if not is_loopback(host):
            return False
        # On loopback `/` is this service's only for a client that looks for it.
        return path.startswith("/computeMetadata") or (path == "/" and "metadata-flavor" in headers)

    def handle(self, request: HttpRequest) -> HttpResponse:
        if request.host in _HOSTS and request.sandbox is None:
            return HttpResponse(404, {"Content-Type": "text/plain"}, b"There is no metadata server outside of jobs.\n")
        if request.verb not in ("get", "head"):
            return _text("Method Not Allowed", 405)
        if request.path in ("/", "/computeMetadata", "/computeMetadata/"):
            return _text("computeMetadata/\n" if request.path == "/" else "v1/\n")
        if request.headers.get("metadata-flavor") != "Google":
            return _text('Missing required header "Metadata-Flavor": "Google"', 403)
        if "x-forwarded-for" in request.headers:
            return _text("X-Forwarded-For is not allowed", 403)
        if not request.path.startswith(_ROOT):
            return _redirect(_ROOT) if request.path + "/" == _ROOT else _not_found()
        return self._answer(request, request.sandbox)

    def _answer(self, request: HttpRequest, sandbox: SandboxCaller | None) -> HttpResponse:
        project = sandbox.project if sandbox else self._project
        account = sandbox.service_account if sandbox else self._tokens.email
        tree = self._tree(project, account, sandbox)
        path = request.path.removeprefix(_ROOT)
        token = re.fullmatch(r"instance/service-accounts/([^/]+)/(token|identity)", path)
        if token:
            if token[1] not in ("default", account):
                return _not_found()
            return self._token(account, sandbox) if token[2] == "token" else self._identity(request, account, tree)
        node = _find(tree, path)
        if node is None:
            return _not_found()
        if isinstance(node, Mapping):
            if request.parameter("recursive").lower() == "true":
                return _recursive(node, request)
            return _listing(node) if not path or path.endswith("/") else _redirect(f"{request.path}/")
        if request.parameter("alt") == "json":
            return _json(node)
        return _text("\n".join(node) + "\n" if isinstance(node, list | tuple) else str(node))

    def _tree(self, project_name: str, account: str, sandbox: SandboxCaller | None) -> dict[str, Any]:
        """Everything that is to know, by path; a number is an integer in JSON."""
        project = self._projects.get(project_name)
        name = re.sub(r"[^a-z0-9-]+", "-", sandbox.name.lower()).strip("-") if sandbox else "selfloop"
        place = f"projects/{project.number}"
        identity = {"aliases": ["default"], "email": account, "scopes": list(_SCOPES)}
        return {
            "instance": {
                "attributes": {},
                "description": "",
                "hostname": f"{name}.{self._location}-a.c.{project.id}.internal",
                "id": int(project.number) * 10**6 + _small_number(name),
                "machine-type": f"{place}/machineTypes/n1-standard-4",
                "name": name,
                "region": f"{place}/regions/{self._location}",
                "service-accounts": {"default": identity, account: identity},
                "tags": [],
                "zone": f"{place}/zones/{self._location}-a",
            },
            "project": {
                "attributes": {},
                "numeric-project-id": int(project.number),
                "project-id": project.id,
            },
        }

    def _token(self, account: str, sandbox: SandboxCaller | None) -> HttpResponse:
        token = self._tokens.mint_access_token(account, sandbox=sandbox.name if sandbox else "")
        return _json({"access_token": token, "expires_in": _EXPIRES_IN, "token_type": "Bearer"})

    def _identity(self, request: HttpRequest, account: str, tree: Mapping[str, Any]) -> HttpResponse:
        """An id token; with format=full it names the machine as well."""
        audience = request.parameter("audience")
        if not audience:
            return _text("non-empty audience parameter required", 400)
        if request.parameter("format", "standard") != "full":
            return _text(self._tokens.mint_id_token(account, audience))
        now = int(time.time())
        instance, project = tree["instance"], tree["project"]
        machine = {
            "instance_id": str(instance["id"]),
            "instance_name": instance["name"],
            "project_id": project["project-id"],
            "project_number": project["numeric-project-id"],
            "zone": instance["zone"].rpartition("/")[2],
        }
        claims = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "azp": account,
            "sub": account,
            "email": account,
            "email_verified": True,
            "iat": now,
            "exp": now + _EXPIRES_IN,
            "google": {"compute_engine": machine},
        }
        return _text(self._tokens.sign_jwt(claims))


def _small_number(name: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % 10**6


def _find(tree: Mapping[str, Any], path: str) -> Any:
    """What is at `project/project-id`, or None."""
    node: Any = tree
    for part in path.strip("/").split("/") if path.strip("/") else ():
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return None if path.endswith("/") and not isinstance(node, Mapping) else node


def _listing(node: Mapping[str, Any]) -> HttpResponse:
    lines = [f"{name}/" if isinstance(value, Mapping) else name for name, value in sorted(node.items())]
    if "email" in node:
        lines = sorted([*lines, "identity", "token"])
    return _text("".join(f"{line}\n" for line in lines))


def _recursive(node: Mapping[str, Any], request: HttpRequest) -> HttpResponse:
    if request.parameter("alt") == "text":
        return _text("".join(f"{path} {value}\n" for path, value in _flat(node, "")))
    return _json(_camel_case(node))


def _flat(node: Any, prefix: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        return [pair for name, value in sorted(node.items()) for pair in _flat(value, f"{prefix}{name}/")]
    if isinstance(node, list):
        return [(f"{prefix}{index}", value) for index, value in enumerate(node)]
    return [(prefix.rstrip("/"), node)]


def _camel_case(node: Any) -> Any:
    """The same with `numericProjectId` for `numeric-project-id`; accounts keep their names."""
    if not isinstance(node, Mapping):
        return node
    return {_camel_case_name(name): _camel_case(value) for name, value in node.items()}


def _camel_case_name(name: str) -> str:
    return name if "@" in name else re.sub(r"-([a-z])", lambda match: match[1].upper(), name)


def _text(text: str, status: int = 200) -> HttpResponse:
    content_type = "application/text" if status == 200 else "text/html; charset=UTF-8"
    return HttpResponse(status, {**_HEADERS, "Content-Type": content_type}, text.encode())


def _json(document: Any) -> HttpResponse:
    return HttpResponse(200, {**_HEADERS, "Content-Type": "application/json"}, json.dumps(document).encode())


def _redirect(path: str) -> HttpResponse:
    return HttpResponse(301, {**_HEADERS, "Location": path, "Content-Type": "text/html; charset=UTF-8"})


def _not_found() -> HttpResponse:
    return _text("<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>The requested URL was not found.", 404)
