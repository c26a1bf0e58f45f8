"""Services that no API description covers: the token endpoint, the metadata server and the like.

Each is a `PlainHttp`: it says which addresses are its own and answers a request that is wholly in memory. The
front looks there before it looks in the tables.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import parse_qs

from emulator.core.interfaces import SandboxCaller
from emulator.core.service import Caller

#: The largest body that is read for a plain service: a form with a signed token in it is a few KiB.
LARGEST_BODY_BYTES = 1 << 20
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class HttpRequest:
    """A call as it came in."""

    verb: str
    """lower case, as in the tables"""
    host: str
    """lower case, without its port; a loopback address where the caller named no service"""
    path: str
    """raw: percent signs as they were sent"""
    query: list[tuple[str, str]] = field(default_factory=list)
    """decoded, in order"""
    headers: Mapping[str, str] = field(default_factory=dict)
    """names in lower case"""
    body: bytes = b""
    caller: Caller | None = None
    """who the bearer token says is calling; None without a valid one"""
    sandbox: SandboxCaller | None = None
    """the sandbox whose listener it came in by"""

    def parameter(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), default)

    def form(self) -> dict[str, str]:
        """The fields of a form body, the first value of each; query parameters fill what it leaves out.

        A JSON object is read as well, because some token clients send one.
        """
        fields = dict(reversed(self.query))
        text = self.body.decode("utf-8", "replace")
        if self.headers.get("content-type", "").startswith("application/json"):
            try:
                document = json.loads(text or "{}")
            except (ValueError, RecursionError):
                document = None
            if isinstance(document, dict):
                fields.update((key, value) for key, value in document.items() if isinstance(value, str))
            return fields
        fields.update((key, values[0]) for key, values in parse_qs(text, keep_blank_values=True).items())
        return fields


@dataclass(frozen=True)
class HttpResponse:
    """What goes back; Content-Length is the front's to add."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def json(cls, document: Any, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> HttpResponse:
        return cls(
            status,
            {"Content-Type": "application/json; charset=utf-8", **headers},
            json.dumps(document, indent=2).encode(),
        )


class PlainHttp(ABC):
    """A service of plain HTTP."""

    name: ClassVar[str]
    """what the journal calls it"""

    @abstractmethod
    def matches(self, host: str, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request is this service's, judged before its body is read."""

    @abstractmethod
    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer. What is raised from google.api_core.exceptions becomes a JSON error, as everywhere."""
