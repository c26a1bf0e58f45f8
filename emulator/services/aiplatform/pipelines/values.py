"""What goes from task to task: parameters, and artifacts by reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from emulator.services.aiplatform.names import Location

#: Of a parameter that has no value: None is one.
ABSENT: Any = object()


@dataclass(frozen=True)
class Artifact:
    """What a task knows of an artifact of ML Metadata."""

    name: str
    """full resource name"""
    schema_title: str
    schema_version: str
    uri: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where a container finds it: below /gcs, as kfp maps it."""
        return gcs_path(self.uri)


@dataclass(frozen=True)
class Values:
    """Inputs or outputs of a task. A parameter without a value is not among them."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """What every task of a run may ask about it."""

    location: Location
    name: str
    """of the PipelineJob, with the project's number"""
    job_id: str
    uuid: str
    """the run's numeric id, which is not the job's"""
    pipeline_name: str
    root: str
    """`gs://…` without a slash at the end"""
    create_time: datetime
    schedule_time: datetime
    service_account: str
    network: str = ""
    encryption_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def folder(self, task_name: str, task_id: int) -> str:
        """`gs://…` below which a task's outputs lie."""
        return f"{self.root}/{self.location.project_number}/{self.job_id}/{task_name}_{task_id}"


def gcs_path(uri: str) -> str:
    """/gcs/bucket/name of gs://bucket/name; other URIs as they are."""
    return f"/gcs/{uri.removeprefix('gs://')}" if uri.startswith("gs://") else uri
