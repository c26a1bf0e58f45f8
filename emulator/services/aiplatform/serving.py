"""Builds the services that register and serve models: ModelService, EndpointService, PredictionService."""

from __future__ import annotations

from pathlib import Path

from emulator.core.clock import Clock
from emulator.core.interfaces import LogSink, ModelServerRunner, ObjectStore, ServiceBuckets
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import GapicService
from emulator.core.state import Database
from emulator.services.aiplatform.deployments import Deployments
from emulator.services.aiplatform.endpoint_service import EndpointService
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.model_evaluations import ModelEvaluations
from emulator.services.aiplatform.model_files import ModelFiles
from emulator.services.aiplatform.model_service import ModelService
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.prediction_service import PredictionService
from emulator.services.aiplatform.state import AiplatformState


class Serving:
    """The registry, what is deployed from it, and the three services that clients see.

    models: the folder for the service's own copies of models' files.
    """

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        objects: ObjectStore,
        buckets: ServiceBuckets,
        servers: ModelServerRunner,
        logs: LogSink,
        models: Path,
        graph: MetadataGraph,
    ) -> None:
        state = AiplatformState(database)
        files = ModelFiles(objects, buckets, models)
        self.versions = ModelVersions(
            database=database, clock=clock, projects=projects, files=files, tracked=TrackedResources(graph)
        )
        """a `ModelSink` for training"""
        self._deployments = Deployments(
            servers=servers,
            endpoints=state.endpoints,
            versions=self.versions,
            files=files,
            projects=projects,
            logs=logs,
        )
        evaluations = ModelEvaluations(state=state, clock=clock, projects=projects, versions=self.versions)
        self.services: list[GapicService] = [
            ModelService(
                clock=clock,
                projects=projects,
                operations=operations,
                versions=self.versions,
                files=files,
                evaluations=evaluations,
                objects=objects,
            ),
            EndpointService(
                database=database,
                state=state,
                clock=clock,
                projects=projects,
                operations=operations,
                versions=self.versions,
                deployments=self._deployments,
            ),
            PredictionService(projects=projects, deployments=self._deployments, logs=logs),
        ]

    def resume(self) -> None:
        """Start again, in the background, what was deployed: once sandboxes have a way out."""
        self._deployments.resume()

    def close(self) -> None:
        """End the model servers; what is deployed comes back with the emulator."""
        self._deployments.close()
