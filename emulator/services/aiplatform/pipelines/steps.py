"""Leaves at work: a container is a custom job, an importer an entry in ML Metadata, a result from the cache neither."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound
from selfloop_apis.aiplatform_v1 import AcceleratorType, Artifact, CustomJob, EnvVar

from emulator.core.clock import Clock
from emulator.core.interfaces import ObjectStore
from emulator.services.aiplatform.custom_jobs import CustomJobs
from emulator.services.aiplatform.job_failure import Code
from emulator.services.aiplatform.lifecycle import State, state_of
from emulator.services.aiplatform.pipelines import containers, lineage
from emulator.services.aiplatform.pipelines.cache import Cache
from emulator.services.aiplatform.pipelines.containers import BadOutput
from emulator.services.aiplatform.pipelines.engine import Engine
from emulator.services.aiplatform.pipelines.machines import machine_type
from emulator.services.aiplatform.pipelines.nodes import Failure, Leaf, Node, TaskState
from emulator.services.aiplatform.pipelines.parameters import ParameterType, as_text
from emulator.services.aiplatform.pipelines.placeholders import OutputPlaces, Scope
from emulator.services.aiplatform.pipelines.plan import ContainerBody, ImporterBody
from emulator.services.aiplatform.pipelines.run_logs import RunLog
from emulator.services.aiplatform.pipelines.task_details import RunRecord
from emulator.services.aiplatform.pipelines.values import RunFacts, Values
from emulator.services.aiplatform.values import plain_struct

#: Of a file of outputs. Source: parameters are meant to be small, and the real limit is below this.
_MOST_OUTPUT_BYTES = 4 << 20
#: What stands in a text for an input that was left out. Google's components put them into JSON, bare.
_EMPTY = {ParameterType.STRUCT: "{}", ParameterType.LIST: "[]"}
_LABELS = "VERTEX_AI_PIPELINES_RUN_LABELS"

#: Runs an action in the run's own thread, as soon as its time has come.
Later = Callable[[Callable[[], None], datetime | None], None]


@dataclass
class _Container:
    """A container's attempts."""

    leaf: Leaf
    places: OutputPlaces
    scope: Scope
    job: str = ""
    """name of the custom job that is under way; empty between attempts"""
    failed: list[str] = field(default_factory=list)


class Steps:
    """`Work` of one run. All methods are called in the run's thread."""

    def __init__(
        self,
        *,
        run: RunFacts,
        record: RunRecord,
        log: RunLog,
        cache: Cache,
        jobs: CustomJobs,
        objects: ObjectStore,
        clock: Clock,
        later: Later,
    ) -> None:
        self._run = run
        self._record = record
        self._log = log
        self._lineage = record.lineage
        self._cache = cache
        self._jobs = jobs
        self._objects = objects
        self._clock = clock
        self._later = later
        self._at_work: dict[int, _Container] = {}
        self.engine: Engine | None = None
        """set before anything begins"""

    def changed(self, node: Node) -> None:
        self._record.changed(node)
        self._log.task(node)

    def begin(self, leaf: Leaf) -> None:
        try:
            if isinstance(leaf.component.body, ImporterBody):
                self._import(leaf, leaf.component.body)
            else:
                self._begin_container(leaf)
        except GoogleAPICallError as error:
            self._end(leaf, TaskState.FAILED, failure=Failure(Code.INVALID_ARGUMENT, error.message))

    def stop(self, leaf: Leaf) -> None:
        container = self._at_work.get(leaf.id)
        if container is None or not container.job:
            # It has not begun, or waits for its next attempt.
            self._later(lambda: self._end(leaf, TaskState.CANCELLED), None)
        else:
            self._jobs.cancel(container.job)

    def abandon(self) -> None:
        """Stop all that runs, because nobody will hear of its end."""
        for container in self._at_work.values():
            if container.job:
                self._jobs.cancel(container.job)

    def _import(self, leaf: Leaf, body: ImporterBody) -> None:
        scope = self._scope(leaf)
        named = leaf.inputs.parameters.get(body.uri_parameter, "") if body.uri_parameter else body.uri
        uri, metadata = scope.text(as_text(named)), scope.value(dict(body.metadata))
        if not uri:
            failure = Failure(Code.INVALID_ARGUMENT, "The importer has no artifact URI.")
            self._end(leaf, TaskState.FAILED, failure=failure)
            return
        self._runs(leaf)
        artifact = None if body.reimport else self._same(uri, body, metadata)
        if artifact is None:
            new = lineage.new_artifact(self._run.location, "artifact", body.kind, uri, metadata)
            new.state = Artifact.LIVE
            artifact = self._lineage.create_artifact(new, self._record.context)
        # Importers have one output, whatever it is called.
        keys = list(leaf.component.outputs.artifacts) or ["artifact"]
        self._end(leaf, TaskState.SUCCEEDED, Values({}, {keys[0]: [lineage.as_value(artifact)]}))

    def _same(self, uri: str, body: ImporterBody, metadata: Mapping[str, Any]) -> Artifact | None:
        for artifact in self._lineage.artifacts_at(self._run.location, uri):
            same_kind = (artifact.schema_title, artifact.schema_version) == (
                body.kind.schema_title,
                body.kind.schema_version,
            )
            if same_kind and plain_struct(artifact.metadata) == metadata:
                return artifact
        return None

    def _begin_container(self, leaf: Leaf) -> None:
        if leaf.task is not None and leaf.task.is_cached:
            kept = self._cache.find(leaf, self._run)
            if kept is not None:
                self._end(leaf, TaskState.SKIPPED, kept)
                return
        folder = self._run.folder(leaf.name, leaf.id)
        with self._lineage.transaction():
            pending = {
                key: self._lineage.create_artifact(
                    lineage.new_artifact(self._run.location, key, kind, f"{folder}/{key}", {}), self._record.context
                )
                for key, kind in leaf.component.outputs.artifacts.items()
            }
        artifacts = {key: lineage.as_value(artifact) for key, artifact in pending.items()}
        places = containers.output_places(leaf.component, folder, artifacts)
        given = containers.executor_input(leaf.component, leaf.inputs, places)
        container = _Container(leaf, places, self._scope(leaf, places, given))
        self._at_work[leaf.id] = container
        self._attempt(container)

    def _scope(self, leaf: Leaf, places: OutputPlaces | None = None, given: str = "") -> Scope:
        declared = leaf.component.inputs.parameters
        absent = {name: _EMPTY[one.kind] for name, one in declared.items() if one.kind in _EMPTY}
        values = leaf.inputs
        return Scope(self._run, leaf.name, leaf.id, values.parameters, values.artifacts, places, given, absent)

    def _attempt(self, container: _Container) -> None:
        """Start a custom job; its watcher speaks from other threads."""
        leaf = container.leaf
        if leaf.state is TaskState.CANCELLING or leaf.state.is_final:
            return
        job = self._custom_job(container)
        container.job = self._jobs.new_name(self._run.location)
        self._record.job(leaf, container.job, container.failed)

        def moved(job: CustomJob) -> None:
            self._later(lambda: self._job_moved(container, job), None)

        self._jobs.create(self._run.location, container.job, job, watcher=moved, of_pipeline=True)

    def _custom_job(self, container: _Container) -> CustomJob:
        """Raises InvalidArgument for resources that no machine has."""
        body, scope = container.leaf.component.body, container.scope
        assert isinstance(body, ContainerBody)  # noqa: S101  # importers are not containers
        run = self._run
        job = CustomJob(display_name=f"{run.job_id}-{container.leaf.name}"[:128], labels=run.labels)
        job.job_spec.service_account = run.service_account
        job.job_spec.network = run.network
        if run.encryption_key:
            job.encryption_spec.kms_key_name = run.encryption_key
        pool = job.job_spec.worker_pool_specs.add(replica_count=1)
        pool.machine_spec.machine_type = machine_type(body.resources)
        if body.resources.accelerator_count:
            pool.machine_spec.accelerator_type = AcceleratorType.Value(body.resources.accelerator_type)
            pool.machine_spec.accelerator_count = body.resources.accelerator_count
        spec = pool.container_spec
        spec.image_uri = scope.text(body.image)
        spec.command.extend(scope.words(body.command))
        spec.args.extend(scope.words(body.args))
        variables = {_LABELS: json.dumps(dict(run.labels))} | {
            name: scope.text(value) for name, value in body.env.items()
        }
        spec.env.extend(EnvVar(name=name, value=value) for name, value in variables.items())
        return job

    def _job_moved(self, container: _Container, job: CustomJob) -> None:
        state = state_of(job)
        if job.name != container.job or container.leaf.state.is_final:
            return
        if state is State.RUNNING:
            self._runs(container.leaf)
        elif state is State.SUCCEEDED:
            container.job = ""
            self._collect(container)
        elif state in (State.FAILED, State.CANCELLED):
            container.job = ""
            container.failed.append(job.name)
            self._fail(container, job.error.message)

    def _collect(self, container: _Container) -> None:
        try:
            left = containers.outputs_of(container.leaf.component, container.places, self._read)
        except BadOutput as error:
            self._fail(container, str(error))
            return
        with self._lineage.transaction():
            for listed in left.artifacts.values():
                for artifact in listed:

                    def fill(stored: Artifact, artifact: Any = artifact) -> None:
                        stored.uri = artifact.uri
                        stored.metadata.update(artifact.metadata)
                        stored.state = Artifact.LIVE

                    self._lineage.update_artifact(artifact.name, fill)
        # Outside of the transaction: what comes next begins within this call.
        self._end(container.leaf, TaskState.SUCCEEDED, left)

    def _fail(self, container: _Container, why: str) -> None:
        """Try again after a pause, or let the task fail."""
        leaf, retry = container.leaf, container.leaf.task.retry if container.leaf.task else None
        leaf.failures += 1
        if leaf.state is TaskState.CANCELLING:
            self._end(leaf, TaskState.CANCELLED)
        elif retry is not None and leaf.failures <= retry.most:
            pause = retry.pause(leaf.failures)
            self._log.retry(leaf, why, pause)
            self._record.job(leaf, "", container.failed)
            self._later(lambda: self._try_again(container), self._clock.now() + pause)
        else:
            self._record.job(leaf, container.failed[-1] if container.failed else "", container.failed)
            self._end(leaf, TaskState.FAILED, failure=Failure(Code.FAILED_PRECONDITION, why))

    def _try_again(self, container: _Container) -> None:
        try:
            self._attempt(container)
        except GoogleAPICallError as error:
            self._end(container.leaf, TaskState.FAILED, failure=Failure(Code.INTERNAL, error.message))

    def _read(self, path: str) -> str | None:
        """The text of a file below /gcs. Raises BadOutput for one that is too large."""
        data = bytearray()
        try:
            for piece in self._objects.read(f"gs://{path.removeprefix('/gcs/')}"):
                data += piece
                if len(data) > _MOST_OUTPUT_BYTES:
                    raise BadOutput(f"{path} has more than the {_MOST_OUTPUT_BYTES >> 20} MiB that outputs may have.")
        except NotFound:
            return None
        return data.decode("utf-8", "replace")

    def _runs(self, leaf: Leaf) -> None:
        if self.engine is not None:
            self.engine.leaf_runs(leaf)

    def _end(self, leaf: Leaf, state: TaskState, left: Values | None = None, failure: Failure | None = None) -> None:
        self._at_work.pop(leaf.id, None)
        if self.engine is None or leaf.state.is_final:
            return
        self.engine.leaf_ends(leaf, state, left, failure)
        if state is TaskState.SUCCEEDED and isinstance(leaf.component.body, ContainerBody):
            self._cache.keep(leaf, self._run)
