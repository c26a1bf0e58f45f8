"""What services and runners ask of one another. `app.py` passes in the objects that do it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class ObjectStore(Protocol):
    """Cloud Storage as the rest of the emulator needs it. URIs are `gs://bucket/name`.

    Every method raises google.api_core's NotFound for a bucket or object that is not there.
    """

    def read(self, uri: str) -> Iterator[bytes]:
        """The object's bytes in pieces."""
        ...

    def write(self, uri: str, data: Iterable[bytes], content_type: str = "application/octet-stream") -> None:
        """Make or replace an object."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """URIs of all objects whose name begins with the prefix's, in order."""
        ...

    def download(self, prefix: str, folder: Path) -> int:
        """Copy every object below `gs://bucket/dir/` into a folder; gives back how many. Names cannot leave it."""
        ...

    def publish(self, bucket: str | None = None) -> None:
        """Make objects of the files that a sandbox wrote under /gcs and has closed."""
        ...

    @property
    def tree(self) -> Path:
        """The folder that sandboxes see as /gcs: `<tree>/<bucket>/<name>`."""
        ...


@dataclass(frozen=True)
class LogRecord:
    """One entry on its way to Cloud Logging; the store stamps what is left out."""

    log_id: str
    resource_type: str
    resource_labels: Mapping[str, str]
    payload: str | Mapping[str, Any]
    severity: str = "DEFAULT"
    labels: Mapping[str, str] = field(default_factory=dict)


class LogSink(Protocol):
    """Cloud Logging as the rest of the emulator needs it."""

    def write(self, project: str, records: Iterable[LogRecord]) -> None:
        """Store entries of one project (its id), stamped now, in this order."""
        ...
