"""Vertex AI MetadataService: ML Metadata, on which experiments and lineage are built.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1#metadataservice
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.api_core.exceptions import FailedPrecondition, InvalidArgument
from selfloop_apis import aiplatform_v1 as v1
from selfloop_apis import protobuf

from emulator.core import pagination
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform.metadata import queries, resources, schemas
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata.nodes import N, Nodes
from emulator.services.aiplatform.names import last_part, location_of, new_parent, resource_name

#: Names that a purge shows before it is forced. Source: the comments of the purge responses
_SAMPLE = 100
_SORTABLE = ("name", "display_name", "schema_title", "create_time", "update_time")


class MetadataService(GapicService):
    api = "google.cloud.aiplatform.v1.MetadataService"

    def __init__(self, *, graph: MetadataGraph, projects: Projects, operations: Operations) -> None:
        self._graph = graph
        self._projects = projects
        self._operations = operations

    # Stores.

    def create_metadata_store(self, request: v1.CreateMetadataStoreRequest, context: Context) -> Any:
        location = new_parent(self._projects, request.parent)
        store_id = resources.new_id(request.metadata_store_id, "metadata_store_id")
        store = v1.MetadataStore()
        store.CopyFrom(request.metadata_store)
        store.name = f"{location.parent}/metadataStores/{store_id}"
        self._graph.create_store(store)
        # The service answers with the name alone.
        response = v1.MetadataStore(name=store.name)
        metadata = v1.CreateMetadataStoreOperationMetadata()
        return self._operations.finished(store.name, metadata, response, context)

    def get_metadata_store(self, request: v1.GetMetadataStoreRequest, context: Context) -> v1.MetadataStore:
        return self._graph.store(self._store(request.name))

    def list_metadata_stores(
        self, request: v1.ListMetadataStoresRequest, context: Context
    ) -> v1.ListMetadataStoresResponse:
        location = location_of(self._projects, request.parent)
        page = pagination.page(self._graph.stores.list(location.parent), request, v1.MetadataStore)
        return v1.ListMetadataStoresResponse(metadata_stores=page.items, next_page_token=page.next_page_token)

    def delete_metadata_store(self, request: v1.DeleteMetadataStoreRequest, context: Context) -> Any:
        """Delete a store with all that is in it."""
        name = self._store(request.name)
        self._graph.delete_store(name)
        return self._deleted(name, context)

    # Contexts.

    def create_context(self, request: v1.CreateContextRequest, context: Context) -> v1.Context:
        node = self._new(self._graph.contexts, request.parent, request.context, request.context_id)
        return self._graph.contexts.insert(node)

    def get_context(self, request: v1.GetContextRequest, context: Context) -> v1.Context:
        return self._graph.contexts.get(self._name(self._graph.contexts, request.name))

    def list_contexts(self, request: v1.ListContextsRequest, context: Context) -> v1.ListContextsResponse:
        page = self._page(self._graph.contexts, request)
        return v1.ListContextsResponse(contexts=page.items, next_page_token=page.next_page_token)

    def update_context(self, request: v1.UpdateContextRequest, context: Context) -> v1.Context:
        contexts = self._graph.contexts
        return self._update(contexts, request, request.context, contexts.insert, contexts.update)

    def delete_context(self, request: v1.DeleteContextRequest, context: Context) -> Any:
        return self._delete(self._graph.contexts, request, self._graph.delete_context, context)

    def purge_contexts(self, request: v1.PurgeContextsRequest, context: Context) -> Any:
        response, metadata = v1.PurgeContextsResponse(), v1.PurgeContextsMetadata()
        self._purge(self._graph.contexts, request, response, self._graph.delete_context)
        return self._operations.finished(self._store(request.parent), metadata, response, context)

    def add_context_artifacts_and_executions(
        self, request: v1.AddContextArtifactsAndExecutionsRequest, context: Context
    ) -> v1.AddContextArtifactsAndExecutionsResponse:
        """Put artifacts and executions into a context; those that are in it are passed over."""
        name = self._graph.contexts.get(self._name(self._graph.contexts, request.context)).name
        artifacts = self._there(self._graph.artifacts, name, request.artifacts)
        executions = self._there(self._graph.executions, name, request.executions)
        self._graph.add_members(name, [*artifacts, *executions])
        return v1.AddContextArtifactsAndExecutionsResponse()

    def add_context_children(
        self, request: v1.AddContextChildrenRequest, context: Context
    ) -> v1.AddContextChildrenResponse:
        """Put contexts below another; those that are below it are passed over."""
        name = self._name(self._graph.contexts, request.context)
        self._graph.contexts.get(name)
        self._graph.add_children(name, self._there(self._graph.contexts, name, request.child_contexts))
        return v1.AddContextChildrenResponse()

    def remove_context_children(
        self, request: v1.RemoveContextChildrenRequest, context: Context
    ) -> v1.RemoveContextChildrenResponse:
        name = self._name(self._graph.contexts, request.context)
        self._graph.remove_children(name, self._there(self._graph.contexts, name, request.child_contexts))
        return v1.RemoveContextChildrenResponse()

    def query_context_lineage_subgraph(
        self, request: v1.QueryContextLineageSubgraphRequest, context: Context
    ) -> v1.LineageSubgraph:
        return queries.context_subgraph(self._graph, self._name(self._graph.contexts, request.context))

    # Executions.

    def create_execution(self, request: v1.CreateExecutionRequest, context: Context) -> v1.Execution:
        node = self._new(self._graph.executions, request.parent, request.execution, request.execution_id)
        return self._graph.create_execution(node)

    def get_execution(self, request: v1.GetExecutionRequest, context: Context) -> v1.Execution:
        return self._graph.executions.get(self._name(self._graph.executions, request.name))

    def list_executions(self, request: v1.ListExecutionsRequest, context: Context) -> v1.ListExecutionsResponse:
        page = self._page(self._graph.executions, request)
        return v1.ListExecutionsResponse(executions=page.items, next_page_token=page.next_page_token)

    def update_execution(self, request: v1.UpdateExecutionRequest, context: Context) -> v1.Execution:
        create, update = self._graph.create_execution, self._graph.update_execution
        return self._update(self._graph.executions, request, request.execution, create, update)

    def delete_execution(self, request: v1.DeleteExecutionRequest, context: Context) -> Any:
        return self._delete(self._graph.executions, request, self._graph.delete_execution, context)

    def purge_executions(self, request: v1.PurgeExecutionsRequest, context: Context) -> Any:
        response, metadata = v1.PurgeExecutionsResponse(), v1.PurgeExecutionsMetadata()
        self._purge(self._graph.executions, request, response, self._graph.delete_execution)
        return self._operations.finished(self._store(request.parent), metadata, response, context)

    def add_execution_events(
        self, request: v1.AddExecutionEventsRequest, context: Context
    ) -> v1.AddExecutionEventsResponse:
        """Record what went into an execution and came out of it; what is recorded is passed over."""
        name = self._graph.executions.get(self._name(self._graph.executions, request.execution)).name
        artifacts = self._there(self._graph.artifacts, name, [event.artifact for event in request.events])
        for event in request.events:
            if event.type_ == v1.Event.TYPE_UNSPECIFIED:
                raise InvalidArgument("The type of an event must be INPUT or OUTPUT.")
        with self._graph.transaction():
            for artifact, given in zip(artifacts, request.events, strict=True):
                event = v1.Event(execution=name, artifact=artifact, type_=given.type_, labels=given.labels)
                self._graph.add_event(event)
        return v1.AddExecutionEventsResponse()

    def query_execution_inputs_and_outputs(
        self, request: v1.QueryExecutionInputsAndOutputsRequest, context: Context
    ) -> v1.LineageSubgraph:
        return queries.execution_subgraph(self._graph, self._name(self._graph.executions, request.execution))

    # Artifacts.

    def create_artifact(self, request: v1.CreateArtifactRequest, context: Context) -> v1.Artifact:
        node = self._new(self._graph.artifacts, request.parent, request.artifact, request.artifact_id)
        return self._graph.create_artifact(node)

    def get_artifact(self, request: v1.GetArtifactRequest, context: Context) -> v1.Artifact:
        return self._graph.artifacts.get(self._name(self._graph.artifacts, request.name))

    def list_artifacts(self, request: v1.ListArtifactsRequest, context: Context) -> v1.ListArtifactsResponse:
        page = self._page(self._graph.artifacts, request)
        return v1.ListArtifactsResponse(artifacts=page.items, next_page_token=page.next_page_token)

    def update_artifact(self, request: v1.UpdateArtifactRequest, context: Context) -> v1.Artifact:
        create, update = self._graph.create_artifact, self._graph.update_artifact
        return self._update(self._graph.artifacts, request, request.artifact, create, update)

    def delete_artifact(self, request: v1.DeleteArtifactRequest, context: Context) -> Any:
        return self._delete(self._graph.artifacts, request, self._graph.delete_artifact, context)

    def purge_artifacts(self, request: v1.PurgeArtifactsRequest, context: Context) -> Any:
        response, metadata = v1.PurgeArtifactsResponse(), v1.PurgeArtifactsMetadata()
        self._purge(self._graph.artifacts, request, response, self._graph.delete_artifact)
        return self._operations.finished(self._store(request.parent), metadata, response, context)

    def query_artifact_lineage_subgraph(
        self, request: v1.QueryArtifactLineageSubgraphRequest, context: Context
    ) -> v1.LineageSubgraph:
        """All that an artifact comes from and all that came of it; the filter says by way of which artifacts."""
        name = self._name(self._graph.artifacts, request.artifact)
        if request.max_hops < 0:
            raise InvalidArgument("max_hops must not be negative.")
        test = queries.node_filter(self._graph, self._projects, self._graph.artifacts, _store_of(name), request.filter)
        return queries.artifact_subgraph(self._graph, name, request.max_hops, test)

    # Schemas.

    def create_metadata_schema(self, request: v1.CreateMetadataSchemaRequest, context: Context) -> v1.MetadataSchema:
        store = self._graph.store(self._store(request.parent)).name
        schema = v1.MetadataSchema()
        schema.CopyFrom(request.metadata_schema)
        schema_id = resources.new_id(request.metadata_schema_id, "metadata_schema_id")
        schema.name = f"{store}/metadataSchemas/{schema_id}"
        with self._graph.transaction():
            schemas.check_new(schema, self._graph.schemas.list(store))
            return self._graph.create_schema(schema)

    def get_metadata_schema(self, request: v1.GetMetadataSchemaRequest, context: Context) -> v1.MetadataSchema:
        name = resource_name(self._projects, request.name, "metadataStores", "metadataSchemas")
        self._graph.store(_store_of(name))
        return schemas.find_system_schema(name) or self._graph.schemas.get(name)

    def list_metadata_schemas(
        self, request: v1.ListMetadataSchemasRequest, context: Context
    ) -> v1.ListMetadataSchemasResponse:
        """Google's schemas and those that were added."""
        store = self._graph.store(self._store(request.parent)).name
        page = pagination.page(
            [*schemas.system_schemas(store), *self._graph.schemas.list(store)[::-1]],
            request,
            v1.MetadataSchema,
            filterable=("name", "schema_version", "schema_type", "create_time"),
            computed={"schema_title": schemas.title_of},
            canonical=self._projects.canonical,
        )
        return v1.ListMetadataSchemasResponse(metadata_schemas=page.items, next_page_token=page.next_page_token)

    # What the three kinds of nodes have in common.

    def _new(self, nodes: Nodes[N], parent: str, given: N, asked_id: str) -> N:
        """A node that may be stored. Raises NotFound for an unknown store, InvalidArgument."""
        store = self._graph.store(self._store(parent)).name
        node = nodes.message_type()
        node.CopyFrom(given)
        resources.check(node)
        node.name = f"{store}/{nodes.folder}/{resources.new_id(asked_id, f'{nodes.noun.lower()}_id')}"
        if node.schema_title or node.schema_version:
            kind = resources.SCHEMA_TYPES[nodes.noun]
            own = self._graph.schemas.list(store)
            node.schema_version = schemas.version_for(node.schema_title, node.schema_version, kind, own)
        return node

    def _update(
        self,
        nodes: Nodes[N],
        request: Any,
        given: N,
        create: Callable[[N], N],
        update: Callable[[str, Callable[[N], None]], N],
    ) -> N:
        name = self._name(nodes, given.name)

        def change(stored: N) -> None:
            nodes.check_etag(given.etag, stored)
            resources.update(stored, given, request.update_mask.paths)

        with self._graph.transaction():
            if request.allow_missing and nodes.find(name) is None:
                return create(self._new(nodes, _store_of(name), given, last_part(name)))
            return update(name, change)

    def _delete(self, nodes: Nodes[N], request: Any, delete: Callable[[str], None], context: Context) -> Any:
        name = self._name(nodes, request.name)
        with self._graph.transaction():
            stored = nodes.get(name)
            if request.etag and request.etag != stored.etag:
                raise FailedPrecondition(
                    f"Specified {nodes.noun} `etag`: `{request.etag}` does not match server `etag`: `{stored.etag}`"
                )
            delete(name)
        return self._deleted(_store_of(name), context)

    def _purge(self, nodes: Nodes[N], request: Any, response: Any, delete: Callable[[str], None]) -> None:
        """Delete what passes the filter, or only count it. Raises InvalidArgument, NotFound."""
        store = self._graph.store(self._store(request.parent)).name
        test = queries.node_filter(self._graph, self._projects, nodes, store, request.filter)
        with self._graph.transaction():
            names = [node.name for node in nodes.list(store) if test(node)]
            if request.force:
                for name in names:
                    delete(name)
        response.purge_count = len(names)
        if not request.force:
            response.purge_sample.extend(names[:_SAMPLE])

    def _page(self, nodes: Nodes[N], request: Any) -> pagination.Page[N]:
        store = self._graph.store(self._store(request.parent)).name
        test = queries.node_filter(self._graph, self._projects, nodes, store, request.filter)
        return pagination.page(nodes.list(store), request, nodes.message_type, test=test, sortable=_SORTABLE)

    def _there(self, nodes: Nodes[N], beside: str, given: Iterable[str]) -> list[str]:
        """Canonical names of nodes that are in the store of another. Raises NotFound, InvalidArgument."""
        names = [self._name(nodes, name) for name in given]
        for name in names:
            if _store_of(name) != _store_of(beside):
                raise InvalidArgument(f"`{name}` is not in the metadata store of `{beside}`.")
            nodes.get(name)
        return names

    def _deleted(self, parent: str, context: Context) -> Any:
        return self._operations.finished(parent, v1.DeleteOperationMetadata(), protobuf.Empty(), context)

    def _name(self, nodes: Nodes[N], name: str) -> str:
        return resource_name(self._projects, name, "metadataStores", nodes.folder)

    def _store(self, name: str) -> str:
        return resource_name(self._projects, name, "metadataStores")


def _store_of(name: str) -> str:
    """The store's name, of something in it."""
    return "/".join(name.split("/")[:6])
