"""Resources of Vertex AI as artifacts: models, datasets, and the trainings that made one of the other.

Source: https://cloud.google.com/vertex-ai/docs/ml-metadata/system-schemas
"""

from __future__ import annotations

from collections.abc import Iterable

from selfloop_apis.aiplatform_v1 import Artifact, Context, CustomJob, Dataset, Execution, Model, TrainingPipeline

from emulator.core.ids import new_id
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.names import Location, last_part

_SCHEMA_VERSION = "0.0.1"


class TrackedResources:
    """Writes down, in a location's default store, what its resources are and where they came from."""

    def __init__(self, graph: MetadataGraph) -> None:
        self._graph = graph

    def add_model(self, location: Location, version: Model, display_name: str, pipeline_job: str) -> str:
        """The name of a new artifact for a version `models/M@V`.

        pipeline_job: the job that is said to have made it; its run, if it is known, has this as an output.
        """
        with self._graph.transaction():
            artifact = self._add(location, "google.VertexModel", version.name, display_name)
            if pipeline_job:
                self._join_run(location, last_part(pipeline_job), artifact)
        return artifact

    def add_dataset(self, location: Location, dataset: Dataset) -> str:
        """The name of a new artifact for a dataset."""
        return self._add(location, "google.VertexDataset", dataset.name, dataset.display_name)

    def add_custom_job(self, location: Location, job: CustomJob, run: str) -> None:
        """Name a job in the run of an experiment that it was given; run: the run's context, which may be unknown."""
        page = f"https://console.cloud.google.com/ai/platform/locations/{location.region}/training"
        entry = {
            "custom_job_resource_name": job.name,
            "custom_job_console_uri": f"{page}/{last_part(job.name)}?project={location.project_id}",
        }

        def add(context: Context) -> None:
            context.metadata.get_or_create_list("_custom_jobs").add_struct().update(entry)

        if self._graph.contexts.find(run) is not None:
            self._graph.contexts.update(run, add)

    def add_training(
        self, location: Location, pipeline: TrainingPipeline, job: str, inputs: Iterable[str], outputs: Iterable[str]
    ) -> None:
        """Record a finished training with the artifacts of what it read and made; job: its custom job."""
        with self._graph.transaction():
            execution = Execution(
                name=f"{self._graph.default_store(location)}/executions/{new_id()}",
                display_name=pipeline.display_name,
                state=Execution.COMPLETE,
                schema_title="system.CustomJobExecution",
                schema_version=_SCHEMA_VERSION,
            )
            execution.metadata.update({"resourceName": pipeline.name, "customJob": job})
            execution.metadata.fields["input:training_task_inputs"].CopyFrom(pipeline.training_task_inputs)
            made = self._graph.create_execution(execution)
            self._graph.add_events(made.name, (name for name in inputs if name), (name for name in outputs if name))

    def _join_run(self, location: Location, job_id: str, artifact: str) -> None:
        context = self._graph.contexts.find(f"{self._graph.default_store(location)}/contexts/{job_id}")
        if context is None or context.schema_title != "system.PipelineRun":
            return
        self._graph.add_artifacts(context.name, [artifact])
        for name in self._graph.members(context.name):
            execution = self._graph.executions.find(name)
            if execution is not None and execution.schema_title == "system.Run":
                self._graph.add_events(execution.name, (), [artifact])

    def _add(self, location: Location, schema_title: str, name: str, display_name: str) -> str:
        with self._graph.transaction():
            artifact = Artifact(
                name=f"{self._graph.default_store(location)}/artifacts/{new_id()}",
                display_name=display_name,
                uri=f"https://{location.region}-aiplatform.googleapis.com/v1/{name}",
                state=Artifact.LIVE,
                schema_title=schema_title,
                schema_version=_SCHEMA_VERSION,
            )
            artifact.metadata.update({"resourceName": name})
            return self._graph.create_artifact(artifact).name
