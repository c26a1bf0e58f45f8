"""What has to change so that what is live becomes what is declared. Pure: resources in, changes out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from ops.reconcile.resource import UNKNOWN, Kind, Reference, Resource, Value, resolved


class Action(Enum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


_SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-"}


@dataclass(frozen=True)
class Difference:
    """One field that is not as declared."""

    path: str
    live: Value
    desired: Value

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.live)} -> {_shown(self.desired)}"


@dataclass(frozen=True)
class Change:
    """One thing to do."""

    action: Action
    kind: Kind
    name: str
    differences: tuple[Difference, ...] = ()
    desired: Resource | None = None
    """None for a deletion; its references are resolved when the change is applied"""
    live: Resource | None = None
    """None for a creation"""

    @property
    def update_mask(self) -> tuple[str, ...]:
        """Top-level fields that differ, in the order of the differences."""
        return tuple(dict.fromkeys(difference.path.split(".")[0] for difference in self.differences))

    def as_dict(self) -> dict[str, object]:
        return {
            "action": self.action.value,
            "kind": self.kind,
            "name": self.name,
            "differences": [
                {"path": d.path, "live": _plain(d.live), "desired": _plain(d.desired)} for d in self.differences
            ],
        }


@dataclass(frozen=True)
class Plan:
    """Changes in the order in which they can be done."""

    changes: tuple[Change, ...] = ()
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """full name -> outputs of what is live already"""

    def __bool__(self) -> bool:
        return bool(self.changes)

    def summary(self) -> str:
        """`2 to create, 1 to update`, or `no changes`."""
        counts = {action: sum(change.action is action for change in self.changes) for action in Action}
        return ", ".join(f"{count} to {action.value}" for action, count in counts.items() if count) or "no changes"

    def as_text(self) -> str:
        lines = []
        for change in self.changes:
            lines.append(f"{_SIGNS[change.action]} {change.kind} {change.name}")
            lines += [f"    {_difference_text(change, difference)}" for difference in change.differences]
        return "\n".join([*lines, self.summary()])

    def as_markdown(self) -> str:
        """A table for a comment on a pull request."""
        if not self:
            return "No changes."
        rows = ["| action | resource | fields |", "|---|---|---|"]
        for change in self.changes:
            fields = "<br>".join(_cell(_difference_text(change, difference)) for difference in change.differences)
            rows.append(f"| {change.action.value} | {change.kind} `{_cell(change.name)}` | {fields} |")
        return "\n".join([*rows, "", f"{self.summary()}."])

    def as_json(self) -> str:
        return json.dumps(
            {"changes": [change.as_dict() for change in self.changes], "summary": self.summary()}, indent=2
        )

    def rendered(self, output: str) -> str:
        """As `text`, `json` or `markdown`."""
        return {"json": self.as_json, "markdown": self.as_markdown}.get(output, self.as_text)()


def make_plan(desired: Iterable[Resource], live: Iterable[Resource]) -> Plan:
    """The changes that turn what is live into what is desired, each after what it depends on.

    A deletion comes in the opposite order: what is depended on goes last.
    """
    found = {resource.name: resource for resource in live}
    outputs = {name: resource.outputs for name, resource in found.items()}
    wanted = in_dependency_order(desired)
    renewed: set[Reference] = set()
    changes = []
    for resource in wanted:
        now = found.get(resource.name)
        spec = resolved(resource.spec, outputs, renewed)
        assert isinstance(spec, Mapping)  # noqa: S101 -- resolving a mapping gives a mapping
        differences = tuple(_differences(now.spec if now else {}, spec, ""))
        if now is not None and not differences:
            continue
        action = Action.UPDATE if now else Action.CREATE
        change = Change(action, resource.kind, resource.name, differences, desired=resource, live=now)
        if now is None or resource.renewed_by.intersection(change.update_mask):
            renewed.update(Reference(resource.name, output) for output in resource.renews)
        changes.append(change)
    names = {resource.name for resource in wanted}
    surplus = in_dependency_order(resource for name, resource in found.items() if name not in names)
    changes += [Change(Action.DELETE, resource.kind, resource.name, live=resource) for resource in reversed(surplus)]
    return Plan(tuple(changes), outputs)


def in_dependency_order(resources: Iterable[Resource]) -> list[Resource]:
    """Each resource after those it depends on, otherwise in the order given.

    Raises ValueError when they depend on one another in a circle.
    """
    waiting = {resource.name: resource for resource in resources}
    ordered: list[Resource] = []
    while waiting:
        ready = [r for r in waiting.values() if not any(name in waiting for name in r.depends_on)]
        if not ready:
            raise ValueError(f"these depend on one another: {', '.join(waiting)}")
        for resource in ready:
            ordered.append(waiting.pop(resource.name))
    return ordered


def _differences(live: object, desired: object, path: str) -> Iterator[Difference]:
    """Fields of `desired` that are otherwise in `live`. What only `live` has belongs to somebody else.

    An empty mapping on either side is a value: of a mapping that is absent nothing can be said by its fields.
    """
    if isinstance(desired, Mapping) and (isinstance(live, Mapping) or live is None):
        for key, value in desired.items():
            below = live.get(key) if isinstance(live, Mapping) else None
            yield from _differences(below, value, f"{path}.{key}" if path else str(key))
        return
    if desired is UNKNOWN or live != desired:
        yield Difference(path, live, desired)


def _difference_text(change: Change, difference: Difference) -> str:
    if change.action is Action.CREATE:
        return f"{difference.path}: {_shown(difference.desired)}"
    return str(difference)


def _shown(value: Value) -> str:
    if value is UNKNOWN:
        return f"({UNKNOWN!r})"
    return "(none)" if value is None else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Value) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return repr(UNKNOWN) if value is UNKNOWN else value


def _cell(text: str) -> str:
    """Text that cannot end a table's cell or begin markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
