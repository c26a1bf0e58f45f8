"""How much of each API is emulated, method by method: absent, shape, behaves, or checked.

`behaves` is what a written method is unless it says otherwise. `checked` is kept for what was compared with the
real service's recorded behaviour. The table in each service's README is written from here, and a test compares.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from emulator.core.service import DiscoveryService, GapicService
from emulator.core.tables import Tables

Handler = TypeVar("Handler", bound=Callable[..., object])
Service = GapicService | DiscoveryService

LEVELS = ("checked", "behaves", "shape", "absent")
_BEGIN, _END = "<!-- coverage: written by `python -m emulator coverage` -->", "<!-- end of coverage -->"


def shape(handler: Handler) -> Handler:
    """Mark a method that answers in the right form and does less than the real one."""
    handler.fidelity = "shape"  # type: ignore[attr-defined]  # read back by `levels`
    return handler


def levels(tables: Tables, services: Iterable[Service]) -> dict[str, dict[str, str]]:
    """Service or resource -> method -> level, for every API that has a folder."""
    found = {_name(service): _levels_of(tables, service) for service in services}
    return dict(sorted(found.items()))


def tables_by_readme(tables: Tables, services: Iterable[Service]) -> dict[Path, str]:
    """README of a service's folder -> the Markdown between its coverage marks."""
    folders: dict[Path, dict[str, dict[str, str]]] = {}
    for service in services:
        module = importlib.import_module(type(service).__module__)
        readme = Path(str(module.__file__)).with_name("README.md")
        folders.setdefault(readme, {})[_name(service)] = _levels_of(tables, service)
    return {readme: _markdown(found) for readme, found in folders.items()}


def written_table(readme: str) -> str | None:
    """What stands between the marks of a README; None where it has none."""
    match = re.search(f"{re.escape(_BEGIN)}\n(.*?){re.escape(_END)}", readme, flags=re.DOTALL)
    return match[1] if match else None


def with_table(readme: str, table: str) -> str:
    """The README with a table between its marks, which are added at its end where there are none."""
    block = f"{_BEGIN}\n{table}{_END}"
    if written_table(readme) is None:
        return f"{readme.rstrip()}\n\n## Coverage\n\n{block}\n"
    return re.sub(f"{re.escape(_BEGIN)}\n.*?{re.escape(_END)}", lambda _: block, readme, flags=re.DOTALL)


def _name(service: Service) -> str:
    if isinstance(service, GapicService):
        return service.api
    return f"{service.api.partition('.')[0]}.{service.resource}"


def _levels_of(tables: Tables, service: Service) -> dict[str, str]:
    if isinstance(service, GapicService):
        names = [rpc.name for rpc in tables.rpcs.values() if rpc.service == service.api]
    else:
        names = [method.name for method in tables.json_methods(service.api, service.resource)]
    return {name: _level(service.handler(name)) for name in sorted(names)}


def _level(handler: Callable[..., object] | None) -> str:
    if handler is None:
        return "absent"
    return str(getattr(handler, "fidelity", "behaves"))


def _markdown(found: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["| service | level | methods |", "|---|---|---|"]
    for name, methods in sorted(found.items()):
        for level in LEVELS:
            those = [method for method in methods if methods[method] == level]
            if those:
                lines.append(f"| `{name}` | {level} | {', '.join(those)} |")
    return "\n".join(lines) + "\n"
