"""Training pipelines at work: a custom job, and the upload of the model that it leaves behind.

A pipeline has no thread: it moves when its job does, on the job's.
"""

from __future__ import annotations

import logging
from functools import partial

from google.api_core.exceptions import FailedPrecondition, NotFound
from selfloop_apis.aiplatform_v1 import CustomJob, CustomJobSpec, Model, TrainingPipeline

from emulator.core import errors
from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.interfaces import ObjectStore
from emulator.services.aiplatform import job_failure
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_environment import output_directory
from emulator.services.aiplatform.lifecycle import Lifecycle, State, state_of
from emulator.services.aiplatform.model_sink import ModelSink
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.state import AiplatformState

logger = logging.getLogger(__name__)

_NOUN = "training pipeline"


class TrainingRuns:
    """Every training pipeline, running or over."""

    def __init__(
        self,
        *,
        state: AiplatformState,
        clock: Clock,
        objects: ObjectStore,
        jobs: CustomJobs,
        models: ModelSink,
    ) -> None:
        self._pipelines = state.training_pipelines
        self._lifecycle = Lifecycle(state.training_pipelines, clock)
        self._objects = objects
        self._jobs = jobs
        self._models = models
        self._job_names: dict[str, str] = {}
        self._lifecycle.settle(_NOUN)

    def create(self, location: Location, given: TrainingPipeline, spec: CustomJobSpec) -> TrainingPipeline:
        """Store a checked pipeline as PENDING and start its job."""
        pipeline = TrainingPipeline()
        pipeline.CopyFrom(given)
        if pipeline.HasField("model_to_upload") and not pipeline.model_to_upload.artifact_uri:
            pipeline.model_to_upload.artifact_uri = output_directory(spec, "model").rstrip("/")
        name = f"{location.parent}/trainingPipelines/{new_id()}"
        stored = self._lifecycle.begin(pipeline, name)
        job = CustomJob(display_name=f"{given.display_name}-custom-job", job_spec=spec, labels=given.labels)
        if given.HasField("encryption_spec"):
            job.encryption_spec.CopyFrom(given.encryption_spec)
        job_name = self._job_names[name] = self._jobs.new_name(location)
        self._jobs.create(location, job_name, job, partial(self._job_moved, location, name))
        return stored

    def cancel(self, name: str) -> None:
        """Cancel the pipeline's job, and with it the pipeline; nothing for one that is over. Raises NotFound."""
        pipeline = self._lifecycle.move(name, State.CANCELLING)
        job_name = self._job_names.get(name)
        if pipeline is not None and job_name is not None:
            self._jobs.cancel(job_name)

    def unfinished(self) -> list[str]:
        """Names of the pipelines that are not over."""
        return list(self._job_names)

    def close(self) -> None:
        """Fail what is not over, as the emulator ends."""
        self._lifecycle.settle(_NOUN)

    def _job_moved(self, location: Location, name: str, job: CustomJob) -> None:
        state = state_of(job)
        if state is State.RUNNING:

            def show_job(pipeline: TrainingPipeline) -> None:
                # The SDK prints where to watch the job once this is there.
                pipeline.training_task_metadata.struct_value.update({"backingCustomJob": job.name})

            self._lifecycle.move(name, State.RUNNING, show_job)
        elif state is State.CANCELLING:
            self._lifecycle.move(name, State.CANCELLING)
        else:
            try:
                self._end(location, name, job)
            finally:
                self._job_names.pop(name, None)

    def _end(self, location: Location, name: str, job: CustomJob) -> None:
        if state_of(job) is not State.SUCCEEDED:
            self._lifecycle.end(name, state_of(job), job.error)
            return
        pipeline = self._pipelines.get(name)
        if not pipeline.HasField("model_to_upload") or state_of(pipeline) is State.CANCELLING:
            self._lifecycle.end(name, State.SUCCEEDED)
            return
        try:
            model = self._upload(location, pipeline)
        except Exception as raised:  # noqa: BLE001  # whatever it is becomes the pipeline's error
            error = errors.as_api_error(raised, name)
            status = job_failure.status(errors.code_number(error), error.message)
            self._lifecycle.end(name, State.FAILED, status)
            return

        def name_model(ended: TrainingPipeline) -> None:
            ended.model_to_upload.name = model.name
            ended.model_to_upload.version_id = model.version_id

        self._lifecycle.end(name, State.SUCCEEDED, change=name_model)

    def _upload(self, location: Location, pipeline: TrainingPipeline) -> Model:
        model = Model()
        model.CopyFrom(pipeline.model_to_upload)
        model.training_pipeline = pipeline.name
        self._check_files(model.artifact_uri)
        return self._models.register(location.parent, model, pipeline.model_id, pipeline.parent_model)

    def _check_files(self, folder: str) -> None:
        """Raises FailedPrecondition for a folder with nothing in it."""
        try:
            found = any(not uri.endswith("/") for uri in self._objects.names(f"{folder.rstrip('/')}/"))
        except NotFound:
            found = False
        if not found:
            raise FailedPrecondition(f'There are no files under "{folder}" to copy.')
