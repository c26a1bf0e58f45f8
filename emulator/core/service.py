"""What an emulated API is written as: a class with one Python method per RPC.

gRPC and REST, v1 and v1beta1 all reach the same method. `GapicService` gets and gives the API's own protobuf
messages; `DiscoveryService` serves an API that exists only as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Protocol

from google.api_core.exceptions import MethodNotImplemented


@dataclass(frozen=True)
class Caller:
    """Who calls: the account behind a token, and the job whose sandbox the call came out of."""

    subject: str
    sandbox: str = ""


@dataclass(frozen=True)
class Context:
    """What a handler may know of a call beside its message."""

    method: str
    """`google.cloud.aiplatform.v1.JobService/CreateCustomJob` or `storage.buckets.insert`"""
    caller: Caller
    version: str = "v1"
    """API version that the client spoke; an operation's `Any`s carry it"""
    transport: str = "grpc"
    host: str = ""
    is_active: Callable[[], bool] = lambda: True
    """False once the client has gone or its deadline has passed"""
    seconds_left: Callable[[], float | None] = lambda: None
    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers or gRPC metadata, names in lower case"""
    response_headers: dict[str, str] = field(default_factory=dict)
    """what a handler puts here goes out as HTTP headers or initial metadata"""

    def by(self, caller: Caller) -> Context:
        """The same call, once it is known who makes it."""
        return replace(self, caller=caller)


class GapicService:
    """One gRPC service of an official package. Methods are its RPCs in snake_case; a generator streams."""

    api: ClassVar[str]
    """full name, such as `google.cloud.aiplatform.v1.JobService`"""

    def handler(self, rpc: str) -> Callable[[Any, Context], Any] | None:
        """The method that serves an RPC, or None while nobody has written it."""
        return getattr(self, snake_case(rpc), None)


@dataclass
class JsonRequest:
    """One call of a JSON API: parameters of path and query, typed as the document says, and the body."""

    parameters: dict[str, Any]
    body: dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    media: Body | None = None
    """the raw body where it is not JSON: an upload"""
    uri: str = ""
    """scheme, host, path and query as the client sent them"""
    verb: str = "get"

    def get(self, name: str, default: Any = None) -> Any:
        return self.parameters.get(name, default)


class Body(Protocol):
    """A request's body, read as it arrives: a large one is never held in memory."""

    def __iter__(self) -> Iterator[bytes]: ...

    def read(self, limit: int) -> bytes:
        """The whole of a small body. Raises an error of status 413 beyond `limit`."""
        ...


@dataclass
class JsonResponse:
    """An answer that is more than a JSON document: another status, headers, bytes."""

    body: dict[str, Any] | bytes | Iterable[bytes] | FileBody | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FileBody:
    """A stretch of an open file, sent without passing through memory as a whole; closed after sending."""

    descriptor: int
    offset: int
    length: int


class DiscoveryService:
    """One resource of a JSON API. Methods are those of the discovery document: `insert`, `testIamPermissions`."""

    api: ClassVar[str]
    """the document, such as `storage.v1`"""
    resource: ClassVar[str]
    """the part of the method id between API and method: `buckets`, `projects.hmacKeys`"""
    legacy_errors: ClassVar[bool] = False
    """errors in the form of Storage and BigQuery, with `errors` and without `status`"""

    def handler(self, method: str) -> Callable[[JsonRequest, Context], JsonResponse | dict[str, Any]] | None:
        """The method that serves `insert`, or None while nobody has written it."""
        return getattr(self, snake_case(method), None)


def not_emulated(method: str, service: type | None) -> MethodNotImplemented:
    """UNIMPLEMENTED with the method's name and, for an API that has a folder, the place to add it."""
    place = "" if service is None else f"; add it to {service.__module__.replace('.', '/')}.py"
    return MethodNotImplemented(f"{method} is not emulated yet{place}")


@cache
def snake_case(name: str) -> str:
    """`create_custom_job` of `CreateCustomJob`, `test_iam_permissions` of `testIamPermissions`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
