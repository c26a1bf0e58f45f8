"""A resource as the reconciler sees it: its full name and those of its fields that a configuration owns."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["bucket", "model", "endpoint"]

Value = object
"""a JSON value, a Reference, or UNKNOWN"""


@dataclass(frozen=True)
class Reference:
    """A value that another resource will have: the version that a model's alias stands for."""

    resource: str
    output: str


class _Unknown:
    """A value that is known once another change of the same plan is done."""

    def __repr__(self) -> str:
        return "known after apply"


UNKNOWN: Final = _Unknown()


@dataclass(frozen=True)
class Resource:
    """One resource, either as declared or as found."""

    kind: Kind
    name: str
    """full resource name with the project's id, e.g. projects/p/locations/l/models/m"""
    spec: Mapping[str, Value]
    """what the configuration owns; nested mappings, lists as values"""
    depends_on: tuple[str, ...] = ()
    """full names of the resources that must be there before"""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """what others may refer to; of found resources only"""
    renewed_by: frozenset[str] = frozenset()
    """keys of `spec` whose change gives the outputs in `renews` new values; of declared resources only"""
    renews: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return self.name.rsplit("/", 1)[-1]


def resolved(
    value: Value, outputs: Mapping[str, Mapping[str, str]], renewed: Container[Reference] = frozenset()
) -> Value:
    """The value with each Reference replaced by what it stands for.

    outputs: full resource name -> its outputs. renewed: what a change of the same plan is about to give a
    new value. A reference to such a value, or to one that is not there, becomes UNKNOWN.
    """
    if isinstance(value, Reference):
        if value in renewed:
            return UNKNOWN
        return outputs.get(value.resource, {}).get(value.output, UNKNOWN)
    if isinstance(value, Mapping):
        return {key: resolved(inner, outputs, renewed) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inner, outputs, renewed) for inner in value]
    return value
