"""ML Metadata kept in the emulator's database, as far as pipelines write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from selfloop_apis.aiplatform_v1 import Artifact, Context, Execution

from emulator.core.clock import Clock
from emulator.core.messages import as_datetime, stamp
from emulator.core.state import Collection, Database
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.pipelines.lineage import store_name


class StoredLineage:
    """`Lineage` by collections of their own."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._contexts = Collection(database, Context)
        self._executions = Collection(database, Execution)
        self._artifacts = Collection(database, Artifact)
        database.create(
            "CREATE TABLE IF NOT EXISTS artifact_uris (uri TEXT, artifact TEXT, PRIMARY KEY (uri, artifact))",
            "CREATE TABLE IF NOT EXISTS lineage_members (context TEXT, member TEXT, PRIMARY KEY (context, member))",
            "CREATE TABLE IF NOT EXISTS lineage_events (execution TEXT, artifact TEXT, kind INTEGER, "
            "PRIMARY KEY (execution, artifact, kind))",
        )

    def open_run(self, location: Location, pipeline_name: str, job_id: str) -> tuple[Context, Context]:
        with self._database.transaction():
            pipeline = self._context(location, pipeline_name, "system.Pipeline")
            run = self._context(location, job_id, "system.PipelineRun", pipeline.name)
        return pipeline, run

    def context(self, name: str) -> Context | None:
        return self._contexts.find(name)

    def execution(self, name: str) -> Execution | None:
        return self._executions.find(name)

    def artifact(self, name: str) -> Artifact | None:
        return self._artifacts.find(name)

    def artifacts_at(self, location: Location, uri: str) -> Iterable[Artifact]:
        rows = self._database.query("SELECT artifact FROM artifact_uris WHERE uri = ? ORDER BY rowid DESC", (uri,))
        found = (self._artifacts.find(row["artifact"]) for row in rows)
        return [one for one in found if one is not None and one.name.startswith(f"{store_name(location)}/")]

    def create_execution(self, execution: Execution, context: str) -> Execution:
        self._stamp(execution)
        with self._database.transaction():
            self._join(context, [execution.name])
            return self._executions.insert(execution)

    def update_execution(self, name: str, change: Callable[[Execution], None]) -> Execution:
        return self._executions.update(name, lambda one: self._touch(one, change))

    def create_artifact(self, artifact: Artifact, context: str) -> Artifact:
        self._stamp(artifact)
        with self._database.transaction():
            self.add_artifacts(context, [artifact.name])
            self._index(artifact)
            return self._artifacts.insert(artifact)

    def update_artifact(self, name: str, change: Callable[[Artifact], None]) -> Artifact:
        with self._database.transaction():
            artifact = self._artifacts.update(name, lambda one: self._touch(one, change))
            self._index(artifact)
        return artifact

    def add_artifacts(self, context: str, artifacts: Iterable[str]) -> None:
        self._join(context, artifacts)

    def add_events(self, execution: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        rows = [(execution, name, 1) for name in inputs] + [(execution, name, 2) for name in outputs]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO lineage_events VALUES (?, ?, ?)", rows)

    def transaction(self) -> AbstractContextManager[Any]:
        return self._database.transaction()

    def _context(self, location: Location, context_id: str, schema_title: str, parent: str = "") -> Context:
        name = f"{store_name(location)}/contexts/{context_id}"
        if self._contexts.find(name) is not None:
            return self._contexts.update(name, lambda one: self._touch(one, lambda same: None))
        context = Context(
            name=name,
            display_name=context_id,
            schema_title=schema_title,
            schema_version="0.0.1",
            parent_contexts=[parent] if parent else [],
        )
        context.metadata.SetInParent()
        self._stamp(context)
        return self._contexts.insert(context)

    def _join(self, context: str, members: Iterable[str]) -> None:
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO lineage_members VALUES (?, ?)", [(context, member) for member in members]
            )

    def _index(self, artifact: Artifact) -> None:
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO artifact_uris VALUES (?, ?)", (artifact.uri, artifact.name))

    def _stamp(self, resource: Any) -> None:
        now = self._clock.now()
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        stamp(resource.create_time, now)
        stamp(resource.update_time, now)
        resource.etag = str(int(now.timestamp() * 1000))

    def _touch(self, resource: Any, change: Callable[[Any], None]) -> None:
        change(resource)
        created = as_datetime(resource.create_time)
        self._stamp(resource)
        stamp(resource.create_time, created)
