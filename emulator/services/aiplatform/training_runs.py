"""Training pipelines at work: the export of a dataset, a custom job, and the upload of the model that it leaves.

A pipeline has a thread only while it exports: later it moves when its job does, on the job's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from functools import partial

from google.api_core.exceptions import Cancelled, FailedPrecondition, NotFound
from selfloop_apis.aiplatform_v1 import CustomJob, CustomJobSpec, Model, TrainingPipeline

from emulator.core import errors
from emulator.core.clock import Clock
from emulator.core.ids import new_id
from emulator.core.interfaces import ObjectStore
from emulator.services.aiplatform import job_failure
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_environment import output_directory
from emulator.services.aiplatform.lifecycle import Lifecycle, State, state_of
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.model_sink import ModelSink
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.training_data import TrainingData

logger = logging.getLogger(__name__)

_NOUN = "training pipeline"
#: Datasets that are exported at a time; the work is the machine's, and jobs want it too.
_EXPORTS_AT_A_TIME = 2


class _Waiting:
    """A pipeline at work: the name of its job, and whether it was cancelled before there was one."""

    def __init__(self, job_name: str) -> None:
        self.job_name = job_name
        self.cancelled = threading.Event()
        self.lock = threading.Lock()
        self.has_job = False


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
        data: TrainingData,
        tracked: TrackedResources,
    ) -> None:
        self._tracked = tracked
        self._pipelines = state.training_pipelines
        self._lifecycle = Lifecycle(state.database, state.training_pipelines, clock)
        self._objects = objects
        self._jobs = jobs
        self._models = models
        self._data = data
        self._waiting: dict[str, _Waiting] = {}
        self._exports = ThreadPoolExecutor(_EXPORTS_AT_A_TIME, thread_name_prefix="dataset-export")
        self._lifecycle.settle(_NOUN)

    def create(self, location: Location, given: TrainingPipeline, spec: CustomJobSpec) -> TrainingPipeline:
        """Store a checked pipeline as PENDING and start its job, once the data that it asks for is there.

        Raises what TrainingData.check raises.
        """
        if given.HasField("input_data_config"):
            self._data.check(location.parent, given.input_data_config)
        pipeline = TrainingPipeline()
        pipeline.CopyFrom(given)
        if pipeline.HasField("model_to_upload") and not pipeline.model_to_upload.artifact_uri:
            pipeline.model_to_upload.artifact_uri = output_directory(spec, "model").rstrip("/")
        name = f"{location.parent}/trainingPipelines/{new_id()}"
        stored = self._lifecycle.begin(pipeline, name)
        job = CustomJob(display_name=f"{given.display_name}-custom-job", job_spec=spec, labels=given.labels)
        if given.HasField("encryption_spec"):
            job.encryption_spec.CopyFrom(given.encryption_spec)
        waiting = self._waiting[name] = _Waiting(self._jobs.new_name(location))
        if given.HasField("input_data_config"):
            self._exports.submit(self._export, location, stored, job, waiting)
        else:
            self._start_job(location, name, job, waiting, {})
        return stored

    def cancel(self, name: str) -> None:
        """Cancel the pipeline's job, and with it the pipeline; nothing for one that is over. Raises NotFound."""
        pipeline = self._lifecycle.move(name, State.CANCELLING)
        waiting = self._waiting.get(name)
        if pipeline is None or waiting is None:
            return
        with waiting.lock:
            waiting.cancelled.set()
            has_job = waiting.has_job
        if has_job:
            self._jobs.cancel(waiting.job_name)

    def unfinished(self) -> list[str]:
        """Names of the pipelines that are not over."""
        return list(self._waiting)

    def close(self) -> None:
        """Fail what is not over, as the emulator ends."""
        self._lifecycle.settle(_NOUN)
        for waiting in list(self._waiting.values()):
            waiting.cancelled.set()
        self._exports.shutdown(cancel_futures=True)

    def _export(self, location: Location, pipeline: TrainingPipeline, job: CustomJob, waiting: _Waiting) -> None:
        """Write the data, then start the job; a pipeline whose data cannot be had fails without one."""
        try:
            variables = self._data.export(
                location.parent,
                pipeline.input_data_config,
                pipeline.create_time.ToDatetime(tzinfo=UTC),
                waiting.cancelled.is_set,
                self._jobs.log_of(location, waiting.job_name).tell,
            )
            self._start_job(location, pipeline.name, job, waiting, variables)
        except Exception as raised:  # noqa: BLE001  # whatever it is becomes the pipeline's error
            self._waiting.pop(pipeline.name, None)
            self._fail(pipeline.name, raised)

    def _start_job(
        self, location: Location, name: str, job: CustomJob, waiting: _Waiting, variables: Mapping[str, str]
    ) -> None:
        """Raises Cancelled when that was asked for meanwhile."""
        with waiting.lock:
            if waiting.cancelled.is_set():
                raise Cancelled("The training pipeline was cancelled.")
            watcher = partial(self._job_moved, location, name)
            self._jobs.create(location, waiting.job_name, job, watcher=watcher, variables=variables)
            waiting.has_job = True

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
                self._waiting.pop(name, None)

    def _end(self, location: Location, name: str, job: CustomJob) -> None:
        if state_of(job) is not State.SUCCEEDED:
            self._lifecycle.end(name, state_of(job), job.error)
            return
        pipeline = self._pipelines.get(name)
        if not pipeline.HasField("model_to_upload") or state_of(pipeline) is State.CANCELLING:
            self._lifecycle.end(name, State.SUCCEEDED)
            return
        try:
            model = self._upload(location, pipeline, job.name)
        except Exception as raised:  # noqa: BLE001  # whatever it is becomes the pipeline's error
            self._fail(name, raised)
            return

        def name_model(ended: TrainingPipeline) -> None:
            ended.model_to_upload.name = model.name
            ended.model_to_upload.version_id = model.version_id

        self._lifecycle.end(name, State.SUCCEEDED, change=name_model)

    def _fail(self, name: str, raised: Exception) -> None:
        error = errors.as_api_error(raised, name)
        self._lifecycle.end(name, State.FAILED, job_failure.status(errors.code_number(error), error.message))

    def _upload(self, location: Location, pipeline: TrainingPipeline, job: str) -> Model:
        """Register what the job left, and write down what it comes from."""
        model = Model()
        model.CopyFrom(pipeline.model_to_upload)
        model.training_pipeline = pipeline.name
        self._check_files(model.artifact_uri)
        registered = self._models.register(location.parent, model, pipeline.model_id, pipeline.parent_model)
        dataset = self._data.artifact(location.parent, pipeline.input_data_config)
        self._tracked.add_training(location, pipeline, job, [dataset], [registered.metadata_artifact])
        return registered

    def _check_files(self, folder: str) -> None:
        """Raises FailedPrecondition for a folder with nothing in it."""
        try:
            found = any(not uri.endswith("/") for uri in self._objects.names(f"{folder.rstrip('/')}/"))
        except NotFound:
            found = False
        if not found:
            raise FailedPrecondition(f'There are no files under "{folder}" to copy.')
