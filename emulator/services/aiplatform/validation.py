"""Checks of fields that every kind of resource has, and the form in which Vertex AI reports findings."""

from __future__ import annotations

import re
from collections.abc import Mapping

from google.api_core.exceptions import InvalidArgument

#: Keys and values of labels. Vertex AI's messages say 64 characters where the labels of others have 63.
_LABEL_KEY = re.compile(r"[^\W\d_A-Z][\w-]{0,63}")
_LABEL_VALUE = re.compile(r"[\w-]{0,64}")
_MOST_LABELS = 64


class FoundErrors:
    """What is wrong with a request, gathered so that the caller learns all of it at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, field: str, message: str) -> None:
        """field: path of the field within the request's resource."""
        self._found.append((field, message))

    def raise_any(self) -> None:
        """Raise InvalidArgument if anything was found."""
        if self._found:
            listed = "".join(
                f"\t{index}.Field: {field}; Message: {message}"
                for index, (field, message) in enumerate(self._found, start=1)
            )
            raise InvalidArgument(f"List of found errors:{listed}\t")

    def check_display_name(self, name: str, field: str = "display_name") -> None:
        if len(name) > 128:
            self.add(field, "The display name must be at most 128 characters long.")

    def check_labels(self, labels: Mapping[str, str], field: str = "labels") -> None:
        """Letters are those of any alphabet, but none in upper case."""
        if len(labels) > _MOST_LABELS:
            self.add(field, f"There must be at most {_MOST_LABELS} labels.")
        for key, value in labels.items():
            if not _LABEL_KEY.fullmatch(key) or key != key.lower():
                self.add(field, f"{key!r} is not a label key: at most 64 of a-z, 0-9, _ and -, a letter first.")
            if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
                self.add(field, f"{value!r} is not a label value: at most 64 of a-z, 0-9, _ and -.")

    def check_gcs_uri(self, uri: str, field: str) -> None:
        if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/.*)?", uri, re.DOTALL):
            self.add(field, f"{uri!r} is not a Cloud Storage URI, gs://bucket/name.")
