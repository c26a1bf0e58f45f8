"""Contexts, executions and artifacts: what their ids are, and what an update changes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import uuid4

from google.api_core.exceptions import InvalidArgument
from selfloop_apis.aiplatform_v1 import MetadataSchema

from emulator.core import field_masks
from emulator.services.aiplatform.metadata.nodes import N
from emulator.services.aiplatform.validation import FoundErrors

#: Source: the comments of the create requests
_ID = re.compile(r"[a-z0-9-]{4,128}")
_UPDATABLE = frozenset({"display_name", "description", "labels", "metadata", "state", "uri"})
SCHEMA_TYPES = {
    "Context": MetadataSchema.CONTEXT_TYPE,
    "Execution": MetadataSchema.EXECUTION_TYPE,
    "Artifact": MetadataSchema.ARTIFACT_TYPE,
}


def new_id(asked: str, field: str) -> str:
    """The id that was asked for, or a new one. Raises InvalidArgument for one of another form."""
    if not asked:
        return str(uuid4())
    if not _ID.fullmatch(asked):
        raise InvalidArgument(f"{field} must be 4 to 128 of a-z, 0-9 and -, not {asked!r}.")
    return asked


def check(node: N) -> None:
    """Raises InvalidArgument, with all that is wrong."""
    errors = FoundErrors()
    errors.check_display_name(node.display_name)
    errors.check_labels(node.labels)
    errors.raise_any()


def update(stored: N, given: N, mask: Sequence[str]) -> None:
    """Bring in what an update says: without a mask, every field that is not empty.

    Raises InvalidArgument for a bad mask or another schema.
    """
    for field in ("schema_title", "schema_version"):
        if getattr(given, field) not in ("", getattr(stored, field)):
            raise InvalidArgument(f"The {field} of `{stored.name}` cannot be changed.")
    named = list(mask) or [field.name for field, _ in given.ListFields() if field.name in _UPDATABLE]
    if named:
        field_masks.update(stored, given, named, _UPDATABLE | {"schema_title", "schema_version"})
    stored.metadata.SetInParent()
    check(stored)
