"""How much of each API is emulated, method by method: absent, shape, behaves, or checked.

`behaves` is what a written method is unless it says otherwise. `checked` is kept for what was compared with the
real service's recorded behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from emulator.core.service import DiscoveryService, GapicService
from emulator.core.tables import Tables

Handler = TypeVar("Handler", bound=Callable[..., object])


def shape(handler: Handler) -> Handler:
    """Mark a method that answers in the right form and does less than the real one."""
    handler.fidelity = "shape"  # type: ignore[attr-defined]  # read back by `levels`
    return handler


def levels(tables: Tables, services: Iterable[GapicService | DiscoveryService]) -> dict[str, dict[str, str]]:
    """Service or resource -> method -> level, for every API that has a folder."""
    found: dict[str, dict[str, str]] = {}
    for service in services:
        if isinstance(service, GapicService):
            names = sorted(rpc.name for rpc in tables.rpcs.values() if rpc.service == service.api)
            found[service.api] = {name: _level(service.handler(name)) for name in names}
        else:
            key = f"{service.api.partition('.')[0]}.{service.resource}"
            names = sorted(method.name for method in tables.json_methods(service.api, service.resource))
            found[key] = {name: _level(service.handler(name)) for name in names}
    return dict(sorted(found.items()))


def _level(handler: Callable[..., object] | None) -> str:
    if handler is None:
        return "absent"
    return str(getattr(handler, "fidelity", "behaves"))
