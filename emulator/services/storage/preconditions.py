"""ifGenerationMatch and its relatives.

Source: https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import BadRequest, NotModified, PreconditionFailed

from emulator.services.storage.catalogue import StoredObject
from emulator.services.storage.resources import object_etag

_MESSAGE = "At least one of the pre-conditions you specified did not hold."


@dataclass(frozen=True)
class Preconditions:
    """What a caller wants to be true; None and empty text ask for nothing."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None
    etag_match: str = ""
    etag_not_match: str = ""

    @classmethod
    def of(
        cls, parameters: Mapping[str, Any], headers: Mapping[str, str] | None = None, prefix: str = "if"
    ) -> Preconditions:
        """From a call's parameters; `ifSource` is the prefix of those on a copy's source."""
        headers = headers or {}
        if not any(name.startswith(prefix) for name in (*parameters, *headers)):
            return NONE
        return cls(
            integer(parameters, f"{prefix}GenerationMatch"),
            integer(parameters, f"{prefix}GenerationNotMatch"),
            integer(parameters, f"{prefix}MetagenerationMatch"),
            integer(parameters, f"{prefix}MetagenerationNotMatch"),
            headers.get("if-match", "").strip('"'),
            headers.get("if-none-match", "").strip('"'),
        )

    def check(self, generation: int, metageneration: int, etag: str) -> None:
        """All zero and empty for what does not exist.

        Raises PreconditionFailed when a *Match does not hold, NotModified when a *NotMatch does not.
        """
        exists = metageneration > 0
        if (
            (self.generation_match is not None and self.generation_match != generation)
            or (self.metageneration_match is not None and (not exists or self.metageneration_match != metageneration))
            or (self.etag_match and (not exists or self.etag_match not in (etag, "*")))
        ):
            raise _failed("If-Match")
        if (
            (self.generation_not_match is not None and self.generation_not_match == generation)
            or (exists and self.metageneration_not_match == metageneration)
            or (exists and self.etag_not_match and self.etag_not_match in (etag, "*"))
        ):
            raise NotModified(_MESSAGE)

    def check_for_write(self, generation: int, metageneration: int, etag: str) -> None:
        """The same where nothing is read: every failure is PreconditionFailed."""
        try:
            self.check(generation, metageneration, etag)
        except NotModified:
            raise _failed("If-None-Match") from None


NONE = Preconditions()


def integer(parameters: Mapping[str, Any], name: str) -> int | None:
    """A number among the parameters. Raises BadRequest when it is none."""
    value = parameters.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise BadRequest(
            f"Invalid value for {name}: {value!r} is not a number.",
            errors=[{"reason": "invalidParameter", "locationType": "parameter", "location": name}],
        ) from None


def _failed(header: str) -> PreconditionFailed:
    return PreconditionFailed(
        _MESSAGE, errors=[{"reason": "conditionNotMet", "locationType": "header", "location": header}]
    )


def check_conditions(conditions: Preconditions, row: StoredObject | None) -> None:
    """Raises PreconditionFailed unless they hold for an object, or for its absence."""
    if conditions is NONE:
        return
    if row is None:
        conditions.check_for_write(0, 0, "")
    else:
        conditions.check_for_write(row.generation, row.metageneration, object_etag(row))
