"""The one place that builds Google Cloud clients.

Each is built when it is first asked for, and its package imported then: `inv --list` and the tasks that need
one client do not pay for the others. Which world answers was settled before, by `ops.worlds.connect`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ops.config import Config

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.aiplatform_v1 import (
        EndpointServiceClient,
        JobServiceClient,
        MetadataServiceClient,
        ModelServiceClient,
        PipelineServiceClient,
        PredictionServiceClient,
        ScheduleServiceClient,
    )
    from google.cloud.logging import Client as LoggingClient
    from google.cloud.storage import Client as StorageClient

TIMEOUT_SECONDS = 60.0
"""for one call that answers at once; waiting for an operation has its own"""

RETRY_SECONDS = 300.0
"""how long a wait outlives a service that does not answer"""


def passing_errors() -> tuple[type[Exception], ...]:
    """Answers after which the same call may well succeed."""
    from google.api_core import exceptions

    return (
        exceptions.ServiceUnavailable,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.TooManyRequests,
    )


def patient(tell: Callable[[str], None]) -> Retry:
    """A retry for calls that only look: a wait of hours must not end because one of them met a bad moment.

    tell: gets one line when the call has to be tried again.
    """
    from google.api_core.retry import Retry, if_exception_type

    told: list[str] = []

    def on_error(error: Exception) -> None:
        if not told:
            told.append(f"no answer ({type(error).__name__}); trying again for up to {RETRY_SECONDS:.0f} s")
            tell(told[0])

    predicate = if_exception_type(*passing_errors())
    return Retry(predicate=predicate, initial=0.5, maximum=10.0, timeout=RETRY_SECONDS, on_error=on_error)


class Clients:
    """Official clients for one configuration's project and location."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def import_packages(self) -> None:
        """Import what the clients come from: seconds that are better spent at once than in the middle of a story."""
        import google.cloud.aiplatform_v1
        import google.cloud.logging
        import google.cloud.storage  # noqa: F401 -- imported for later

    @cached_property
    def storage(self) -> StorageClient:
        from google.cloud.storage import Client

        return Client(project=self._config.project)

    @cached_property
    def models(self) -> ModelServiceClient:
        from google.cloud.aiplatform_v1 import ModelServiceClient

        return ModelServiceClient(**self._vertex())

    @cached_property
    def endpoints(self) -> EndpointServiceClient:
        from google.cloud.aiplatform_v1 import EndpointServiceClient

        return EndpointServiceClient(**self._vertex())

    @cached_property
    def pipelines(self) -> PipelineServiceClient:
        from google.cloud.aiplatform_v1 import PipelineServiceClient

        return PipelineServiceClient(**self._vertex())

    @cached_property
    def schedules(self) -> ScheduleServiceClient:
        from google.cloud.aiplatform_v1 import ScheduleServiceClient

        return ScheduleServiceClient(**self._vertex())

    @cached_property
    def jobs(self) -> JobServiceClient:
        from google.cloud.aiplatform_v1 import JobServiceClient

        return JobServiceClient(**self._vertex())

    @cached_property
    def metadata(self) -> MetadataServiceClient:
        from google.cloud.aiplatform_v1 import MetadataServiceClient

        return MetadataServiceClient(**self._vertex())

    @cached_property
    def predictions(self) -> PredictionServiceClient:
        from google.cloud.aiplatform_v1 import PredictionServiceClient

        return PredictionServiceClient(**self._vertex())

    @cached_property
    def logging(self) -> LoggingClient:
        from google.cloud.logging import Client

        # Its generated client speaks gRPC alone; this one has both transports.
        return Client(project=self._config.project, _use_grpc=self._config.api_transport == "grpc")

    def _vertex(self) -> dict[str, Any]:
        """Arguments that every client of Vertex AI takes: its services answer per region."""
        return {
            "client_options": {"api_endpoint": f"{self._config.location}-aiplatform.googleapis.com"},
            "transport": self._config.api_transport,
        }
