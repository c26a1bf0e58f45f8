"""Buckets that another service keeps for itself, as Vertex AI keeps copies of models' files."""

from __future__ import annotations

from google.api_core.exceptions import Conflict, NotFound

from emulator.services.storage.names import split_uri
from emulator.services.storage.store import ObjectFiles

#: Nobody restores what a service removes.
_NO_SOFT_DELETE = {"softDeletePolicy": {"retentionDurationSeconds": "0"}}


class ServiceBuckets:
    """Implements `core.interfaces.ServiceBuckets`."""

    def __init__(self, store: ObjectFiles) -> None:
        self._store = store

    def make(self, name: str, project: str, location: str) -> None:
        try:
            self._store.bucket(name)
        except NotFound:
            try:
                self._store.create_bucket(name, project, {"location": location, **_NO_SOFT_DELETE})
            except Conflict:
                self._store.bucket(name)  # made by another deployment meanwhile

    def clear(self, prefix: str) -> None:
        try:
            for uri in list(self._store.names(prefix)):
                self._store.delete(*split_uri(uri))
        except NotFound:
            pass  # never made, or removed by hand
