"""The graph of ML Metadata in the emulator's database: stores, nodes, and what ties nodes together.

A context's parents are in its message; which nodes are in a context, and what went into or came out of an
execution, is in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from google.api_core.exceptions import InvalidArgument, NotFound
from selfloop_apis.aiplatform_v1 import Artifact, Context, Event, Execution, MetadataSchema, MetadataStore

from emulator.core.clock import Clock
from emulator.core.messages import stamp
from emulator.core.state import Collection, Database
from emulator.services.aiplatform.metadata.nodes import Nodes
from emulator.services.aiplatform.names import Location

#: Source: the comment of AddContextChildrenRequest
_MOST_PARENTS = 10
_SCHEMA_VERSION = "0.0.1"


class MetadataGraph:
    """What MetadataService shows, and what the rest of Vertex AI writes down. Names are full and canonical."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.stores = Collection(database, MetadataStore)
        self.schemas = Collection(database, MetadataSchema)
        self.contexts = Nodes(database, clock, Context, "Context", "contexts")
        self.executions = Nodes(database, clock, Execution, "Execution", "executions")
        self.artifacts = Nodes(database, clock, Artifact, "Artifact", "artifacts")
        database.create(
            "CREATE TABLE IF NOT EXISTS metadata_members (context TEXT, member TEXT, PRIMARY KEY (context, member)) "
            "WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS metadata_members_by_member ON metadata_members (member)",
            "CREATE TABLE IF NOT EXISTS metadata_events (execution TEXT, artifact TEXT, type INTEGER, event BLOB, "
            "PRIMARY KEY (execution, artifact, type))",
            "CREATE INDEX IF NOT EXISTS metadata_events_by_artifact ON metadata_events (artifact)",
            "CREATE TABLE IF NOT EXISTS metadata_uris (uri TEXT, artifact TEXT UNIQUE)",
            "CREATE INDEX IF NOT EXISTS metadata_uris_by_uri ON metadata_uris (uri)",
        )

    def transaction(self) -> AbstractContextManager[Any]:
        """All that is done inside is kept, or nothing of it."""
        return self._database.transaction()

    # Stores.

    def default_store(self, location: Location) -> str:
        """The name of the location's own store, made where there is none yet."""
        name = f"{location.parent}/metadataStores/default"
        with self.transaction():
            if self.stores.find(name) is None:
                self.create_store(MetadataStore(name=name))
        return name

    def store(self, name: str) -> MetadataStore:
        """Raises NotFound, in the service's words."""
        found = self.stores.find(name)
        if found is None:
            raise NotFound(f"Requested Metadata Store {name.rpartition('/')[2]} not found")
        return found

    def create_schema(self, schema: MetadataSchema) -> MetadataSchema:
        """Raises AlreadyExists."""
        stamp(schema.create_time, self._clock.now())
        return self.schemas.insert(schema)

    def create_store(self, store: MetadataStore) -> MetadataStore:
        """Raises AlreadyExists."""
        stamp(store.create_time, self._clock.now())
        store.update_time.CopyFrom(store.create_time)
        store.state.SetInParent()
        return self.stores.insert(store)

    def delete_store(self, name: str) -> None:
        """Delete a store with all that is in it. Raises NotFound."""
        with self.transaction():
            self.stores.delete(self.store(name).name)
            for schema in self.schemas.list(name):
                self.schemas.delete(schema.name)
            for artifact in self.artifacts.list(name):
                self.delete_artifact(artifact.name)
            for execution in self.executions.list(name):
                self.delete_execution(execution.name)
            for context in self.contexts.list(name):
                self.contexts.delete(context.name)

    # Contexts and their members.

    def context(self, name: str) -> Context | None:
        return self.contexts.find(name)

    def open_run(self, location: Location, pipeline_name: str, job_id: str) -> tuple[Context, Context]:
        """The context that all runs of a pipeline share, touched, and a new one of this run below it."""
        with self.transaction():
            store = self.default_store(location)
            name = f"{store}/contexts/{pipeline_name}"
            if self.contexts.find(name) is None:
                pipeline = self.contexts.insert(_pipeline_context(name, "system.Pipeline"))
            else:
                pipeline = self.contexts.update(name, lambda context: None)
            run = _pipeline_context(f"{store}/contexts/{job_id}", "system.PipelineRun")
            run.parent_contexts.append(pipeline.name)
            # A job that was deleted leaves its context; one of the same id goes on in it.
            found = self.contexts.find(run.name)
            return pipeline, self.contexts.insert(run) if found is None else found

    def members(self, context: str) -> set[str]:
        """Names of the artifacts and executions in a context."""
        rows = self._database.query("SELECT member FROM metadata_members WHERE context = ?", (context,))
        return {row["member"] for row in rows}

    def add_members(self, context: str, members: Iterable[str]) -> None:
        """Put nodes into a context; those that are in it stay."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO metadata_members VALUES (?, ?)", [(context, member) for member in members]
            )

    def add_children(self, context: str, children: Sequence[str]) -> None:
        """Put contexts below another; those that are below it stay.

        Raises NotFound, InvalidArgument for a cycle or for more than 10 parents.
        """
        with self.transaction():
            above = self._ancestors(context)
            for child in children:
                if child in above:
                    raise InvalidArgument(f"The Context `{child}` cannot be below `{context}`: that would be a cycle.")
                self.contexts.amend(child, lambda one: _add_parent(one, context))

    def remove_children(self, context: str, children: Iterable[str]) -> None:
        """Take contexts from below another; those that are not below it stay as they are. Raises NotFound."""
        with self.transaction():
            self.contexts.get(context)
            for child in children:
                self.contexts.amend(child, lambda one: _remove_parent(one, context))

    def delete_context(self, name: str) -> None:
        """Delete a context; its members and the contexts below it stay. Raises NotFound."""
        with self._database.transaction() as connection:
            self.contexts.delete(name)
            connection.execute("DELETE FROM metadata_members WHERE context = ?", (name,))
            for context in self.contexts.list(name.partition("/contexts/")[0]):
                if name in context.parent_contexts:
                    self.contexts.amend(context.name, lambda one: _remove_parent(one, name))

    def _ancestors(self, name: str) -> set[str]:
        """A context and all above it. Raises NotFound for the context itself."""
        found = {name}
        waiting = [self.contexts.get(name)]
        while waiting:
            for parent in waiting.pop().parent_contexts:
                context = None if parent in found else self.contexts.find(parent)
                if context is not None:
                    found.add(parent)
                    waiting.append(context)
        return found

    # Executions and their events.

    def execution(self, name: str) -> Execution | None:
        return self.executions.find(name)

    def create_execution(self, execution: Execution, context: str = "") -> Execution:
        """Store a new execution, in a context where one is named. Raises AlreadyExists."""
        with self.transaction():
            made = self.executions.insert(execution)
            if context:
                self.add_members(context, [made.name])
        return made

    def update_execution(self, name: str, change: Callable[[Execution], None]) -> Execution:
        return self.executions.update(name, change)

    def delete_execution(self, name: str) -> None:
        """Delete an execution with its events; its artifacts stay. Raises NotFound."""
        with self._database.transaction() as connection:
            self.executions.delete(name)
            connection.execute("DELETE FROM metadata_events WHERE execution = ?", (name,))
            connection.execute("DELETE FROM metadata_members WHERE member = ?", (name,))

    def events(self, *, executions: Iterable[str] = (), artifacts: Iterable[str] = ()) -> list[Event]:
        """The events of any of these, in the order in which they were recorded."""
        found: dict[int, Event] = {}
        for column, names in (("execution", executions), ("artifact", artifacts)):
            for name in names:
                query = f"SELECT rowid, event FROM metadata_events WHERE {column} = ?"  # noqa: S608
                for row in self._database.query(query, (name,)):
                    found[row["rowid"]] = Event.FromString(row["event"])
        return [found[number] for number in sorted(found)]

    def add_event(self, event: Event) -> None:
        """Record what an execution did with an artifact; what is recorded already stays as it is."""
        stamp(event.event_time, self._clock.now())
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO metadata_events VALUES (?, ?, ?, ?)",
                (event.execution, event.artifact, event.type_, event.SerializeToString()),
            )

    def add_events(self, execution: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        with self.transaction():
            for name in inputs:
                self.add_event(Event(execution=execution, artifact=name, type_=Event.INPUT))
            for name in outputs:
                self.add_event(Event(execution=execution, artifact=name, type_=Event.OUTPUT))

    # Artifacts.

    def artifact(self, name: str) -> Artifact | None:
        return self.artifacts.find(name)

    def artifacts_at(self, location: Location, uri: str) -> Iterable[Artifact]:
        """All artifacts of a URI in the default store, the newest first."""
        rows = self._database.query("SELECT artifact FROM metadata_uris WHERE uri = ? ORDER BY rowid DESC", (uri,))
        store = f"{location.parent}/metadataStores/default/"
        found = (self.artifacts.find(row["artifact"]) for row in rows if row["artifact"].startswith(store))
        return [one for one in found if one is not None]

    def create_artifact(self, artifact: Artifact, context: str = "") -> Artifact:
        """Store a new artifact, in a context where one is named. Raises AlreadyExists."""
        with self.transaction():
            made = self.artifacts.insert(artifact)
            self._index(made)
            if context:
                self.add_members(context, [made.name])
        return made

    def update_artifact(self, name: str, change: Callable[[Artifact], None]) -> Artifact:
        with self.transaction():
            artifact = self.artifacts.update(name, change)
            self._index(artifact)
        return artifact

    def add_artifacts(self, context: str, artifacts: Iterable[str]) -> None:
        self.add_members(context, artifacts)

    def delete_artifact(self, name: str) -> None:
        """Delete an artifact with its events; what it stands for stays. Raises NotFound."""
        with self._database.transaction() as connection:
            self.artifacts.delete(name)
            connection.execute("DELETE FROM metadata_events WHERE artifact = ?", (name,))
            connection.execute("DELETE FROM metadata_members WHERE member = ?", (name,))
            connection.execute("DELETE FROM metadata_uris WHERE artifact = ?", (name,))

    def _index(self, artifact: Artifact) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO metadata_uris VALUES (?, ?) ON CONFLICT (artifact) DO UPDATE SET uri = excluded.uri",
                (artifact.uri, artifact.name),
            )


def _pipeline_context(name: str, schema_title: str) -> Context:
    return Context(
        name=name,
        display_name=name.rpartition("/")[2],
        schema_title=schema_title,
        schema_version=_SCHEMA_VERSION,
    )


def _add_parent(context: Context, parent: str) -> None:
    if parent in context.parent_contexts:
        return
    if len(context.parent_contexts) >= _MOST_PARENTS:
        raise InvalidArgument(f"The Context `{context.name}` has {_MOST_PARENTS} parents, the most there may be.")
    context.parent_contexts.append(parent)


def _remove_parent(context: Context, parent: str) -> None:
    if parent in context.parent_contexts:
        context.parent_contexts.remove(parent)
