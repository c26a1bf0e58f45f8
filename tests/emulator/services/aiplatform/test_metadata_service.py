"""ML Metadata through the official client, over both transports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    BadRequest,
    Conflict,
    GoogleAPICallError,
    NotFound,
)
from google.cloud.aiplatform_v1 import (
    Artifact,
    Context,
    Event,
    Execution,
    LineageSubgraph,
    MetadataSchema,
    MetadataServiceClient,
    PurgeArtifactsRequest,
    UpdateArtifactRequest,
    UpdateContextRequest,
)
from google.protobuf.field_mask_pb2 import FieldMask

from tests.conftest import Emulator


@pytest.fixture(params=["grpc", "rest"])
def metadata(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[MetadataServiceClient]:
    with emulator.client(MetadataServiceClient, transport=request.param) as client:
        yield client


@pytest.fixture
def store(metadata: MetadataServiceClient, parent: str) -> str:
    """A store's name, with the project's number."""
    return str(metadata.create_metadata_store(parent=parent, metadata_store_id="default").result().name)


def new_context(client: MetadataServiceClient, store: str, context_id: str, **fields: Any) -> str:
    return str(client.create_context(parent=store, context=Context(**fields), context_id=context_id).name)


def new_artifact(client: MetadataServiceClient, store: str, artifact_id: str, **fields: Any) -> str:
    return str(client.create_artifact(parent=store, artifact=Artifact(**fields), artifact_id=artifact_id).name)


def new_execution(
    metadata: MetadataServiceClient, store: str, execution_id: str, inputs: list[str], outputs: list[str]
) -> str:
    made = metadata.create_execution(parent=store, execution=Execution(), execution_id=execution_id)
    events = [Event(artifact=name, type_=Event.Type.INPUT) for name in inputs]
    events += [Event(artifact=name, type_=Event.Type.OUTPUT) for name in outputs]
    metadata.add_execution_events(execution=made.name, events=events)
    return str(made.name)


def ids(nodes: Any) -> list[str]:
    return [node.name.rpartition("/")[2] for node in nodes]


def test_store_is_created_read_listed_and_deleted_with_what_is_in_it(
    metadata: MetadataServiceClient, parent: str
) -> None:
    name = f"{parent}/metadataStores/default"
    with pytest.raises(NotFound, match="Requested Metadata Store default not found"):
        metadata.get_metadata_store(name=name)
    with pytest.raises(NotFound, match="Requested Metadata Store default not found"):
        metadata.list_artifacts(parent=name)
    created = metadata.create_metadata_store(parent=parent, metadata_store_id="default")
    assert created.operation.name.startswith(f"{created.result().name}/operations/")
    assert not created.result().create_time
    assert metadata.get_metadata_store(name=name).state is not None
    assert ids(metadata.list_metadata_stores(parent=parent)) == ["default"]
    with pytest.raises((AlreadyExists, Conflict)):
        metadata.create_metadata_store(parent=parent, metadata_store_id="default")
    artifact = new_artifact(metadata, name, "data")
    assert metadata.delete_metadata_store(name=name).done()
    with pytest.raises(NotFound):
        metadata.get_metadata_store(name=name)
    metadata.create_metadata_store(parent=parent, metadata_store_id="default").result()
    with pytest.raises(NotFound, match="artifacts/data"):
        metadata.get_artifact(name=artifact)


def test_context_keeps_empty_structs_and_its_etag_is_its_update_time(
    metadata: MetadataServiceClient, store: str
) -> None:
    context = metadata.create_context(
        parent=store,
        context=Context(display_name="run", schema_title="system.ExperimentRun", metadata={"_params": {}, "_n": 1}),
        context_id="exp-run",
    )
    assert context.schema_version == "0.0.1"
    kept: Any = context.metadata
    assert dict(kept["_params"]) == {}
    assert kept["_n"] == 1.0
    updated: Any = context.update_time
    assert context.etag == str(round(updated.timestamp() * 1000))
    with pytest.raises((AlreadyExists, Conflict)):
        new_context(metadata, store, "exp-run")


def test_update_without_mask_replaces_what_is_given_and_stale_etag_is_aborted(
    metadata: MetadataServiceClient, store: str
) -> None:
    name = new_context(metadata, store, "experiment", display_name="a", metadata={"a": 1, "b": 2}, description="kept")
    read = metadata.get_context(name=name)
    changed = metadata.update_context(context=Context(name=name, metadata={"c": 3}, etag=read.etag))
    assert dict(changed.metadata) == {"c": 3.0}
    assert (changed.display_name, changed.description) == ("a", "kept")
    assert changed.etag > read.etag
    assert len(changed.etag) == len(read.etag)
    # The SDK retries by these very words.
    words = f"Specified Context `etag`: `{read.etag}` does not match server `etag`: `{changed.etag}`"
    with pytest.raises(Conflict) as raised:
        metadata.update_context(context=read)
    assert raised.value.message.removeprefix("POST ").endswith(words)
    masked = metadata.update_context(
        context=Context(name=name, display_name="b", description="lost"), update_mask=FieldMask(paths=["display_name"])
    )
    assert (masked.display_name, masked.description) == ("b", "kept")
    with pytest.raises(BadRequest, match="schema_title"):
        metadata.update_context(context=Context(name=name, schema_title="system.Pipeline"))
    with pytest.raises(BadRequest):
        metadata.update_context(context=Context(name=name), update_mask=FieldMask(paths=["colour"]))


def test_update_of_unknown_node_is_not_found_unless_allowed_to_create_it(
    metadata: MetadataServiceClient, store: str
) -> None:
    artifact = Artifact(name=f"{store}/artifacts/missing", uri="gs://b/o")
    with pytest.raises(NotFound, match="artifacts/missing"):
        metadata.update_artifact(artifact=artifact)
    made = metadata.update_artifact(UpdateArtifactRequest(artifact=artifact, allow_missing=True))
    assert made.name == artifact.name
    assert metadata.get_artifact(name=made.name).uri == "gs://b/o"
    bad = Context(name=f"{store}/contexts/No")
    with pytest.raises(BadRequest, match="context_id"):
        metadata.update_context(UpdateContextRequest(context=bad, allow_missing=True))


def test_delete_heeds_the_etag_and_leaves_the_rest_of_the_graph(metadata: MetadataServiceClient, store: str) -> None:
    above, below = new_context(metadata, store, "above"), new_context(metadata, store, "below")
    data = new_artifact(metadata, store, "data")
    run = new_execution(metadata, store, "train", [data], [])
    metadata.add_context_children(context=above, child_contexts=[below])
    metadata.add_context_artifacts_and_executions(context=above, artifacts=[data], executions=[run])
    with pytest.raises(GoogleAPICallError, match="does not match server `etag`"):
        metadata.delete_context({"name": above, "etag": "1"})
    assert metadata.delete_context({"name": above, "etag": metadata.get_context(name=above).etag}).done()
    assert list(metadata.get_context(name=below).parent_contexts) == []
    assert metadata.get_artifact(name=data).name == data
    metadata.delete_execution(name=run)
    graph = metadata.query_artifact_lineage_subgraph(artifact=data)
    assert (ids(graph.artifacts), list(graph.executions), list(graph.events)) == (["data"], [], [])
    for call, name in ((metadata.delete_context, above), (metadata.delete_execution, run)):
        with pytest.raises(NotFound):
            call(name=name)


def test_unknown_schemas_bad_ids_and_foreign_members_are_refused(metadata: MetadataServiceClient, store: str) -> None:
    with pytest.raises(BadRequest, match=r'no metadata schema "system\.Nothing"'):
        new_artifact(metadata, store, "data", schema_title="system.Nothing")
    with pytest.raises(BadRequest, match=r"version 9\.9\.9"):
        new_artifact(metadata, store, "data", schema_title="system.Dataset", schema_version="9.9.9")
    with pytest.raises(BadRequest, match="no metadata schema"):
        new_artifact(metadata, store, "data", schema_title="system.Experiment")
    with pytest.raises(BadRequest, match="artifact_id"):
        new_artifact(metadata, store, "No")
    context = new_context(metadata, store, "context")
    with pytest.raises(NotFound, match="artifacts/missing"):
        metadata.add_context_artifacts_and_executions(context=context, artifacts=[f"{store}/artifacts/missing"])
    run = metadata.create_execution(parent=store, execution=Execution()).name
    data = new_artifact(metadata, store, "data")
    with pytest.raises(BadRequest, match="INPUT or OUTPUT"):
        metadata.add_execution_events(execution=run, events=[Event(artifact=data)])


def test_contexts_have_parents_without_cycles_and_at_most_ten(metadata: MetadataServiceClient, store: str) -> None:
    top, middle, low = (new_context(metadata, store, name) for name in ("topmost", "middle", "lowest"))
    etag = metadata.get_context(name=middle).etag
    for _ in range(2):
        metadata.add_context_children(context=top, child_contexts=[middle])
    metadata.add_context_children(context=middle, child_contexts=[low])
    assert list(metadata.get_context(name=middle).parent_contexts) == [top]
    # The SDK goes on with the etag that it read before.
    assert metadata.get_context(name=middle).etag == etag
    for above, below in ((low, top), (top, top)):
        with pytest.raises(BadRequest, match="cycle"):
            metadata.add_context_children(context=above, child_contexts=[below])
    for number in range(9):
        other = new_context(metadata, store, f"other-{number}")
        metadata.add_context_children(context=other, child_contexts=[middle])
    eleventh = new_context(metadata, store, "eleventh")
    with pytest.raises(BadRequest, match="10 parents"):
        metadata.add_context_children(context=eleventh, child_contexts=[middle])
    for _ in range(2):
        metadata.remove_context_children(context=top, child_contexts=[middle])
    assert top not in metadata.get_context(name=middle).parent_contexts


def test_lists_filter_by_fields_metadata_and_ties(metadata: MetadataServiceClient, store: str, project: str) -> None:
    context = new_context(metadata, store, "experiment", schema_title="system.Experiment")
    other = new_context(metadata, store, "other", metadata={"field:1": 10, "inner": {"deep": "x"}})
    metadata.add_context_children(context=context, child_contexts=[other])
    good = new_artifact(
        metadata, store, "good", schema_title="system.Model", uri="gs://b/good", state=Artifact.State.LIVE,
        metadata={"accuracy": 0.9, "is_best": True, "framework": "sklearn"},
    )  # fmt: skip
    new_artifact(metadata, store, "poor", schema_title="system.Metrics", metadata={"accuracy": 0.1})
    metadata.add_context_artifacts_and_executions(context=context, artifacts=[good, good])
    with_id = context.replace(store.split("/")[1], project)

    def artifacts(text: str) -> list[str]:
        return ids(metadata.list_artifacts({"parent": store, "filter": text}))

    def contexts(text: str) -> list[str]:
        return ids(metadata.list_contexts({"parent": store, "filter": text}))

    assert artifacts("") == ["good", "poor"]
    assert artifacts("metadata.accuracy.number_value > 0.5") == ["good"]
    assert artifacts('metadata.framework.string_value = "sklearn" AND metadata.is_best.bool_value = true') == ["good"]
    assert artifacts('(schema_title="system.Metrics" OR schema_title="system.Model")') == ["good", "poor"]
    assert artifacts('state=LIVE AND uri = "gs://b/good"') == ["good"]
    assert artifacts(f'in_context("{with_id}")') == ["good"]
    assert artifacts(f'(schema_title="system.Metrics") AND in_context("{context}")') == []
    assert artifacts('create_time > "2100-01-01T00:00:00Z"') == []
    assert contexts('metadata."field:1".number_value = 10.0') == ["other"]
    assert contexts('metadata.inner.struct_value.deep.string_value = "x"') == ["other"]
    assert contexts(f'parent_contexts:"{with_id}"') == ["other"]
    assert contexts(f'parent_contexts:"{other}","{with_id}"') == ["other"]
    assert contexts(f'child_contexts:"{other}"') == ["experiment"]
    for bad in ('colour="red"', "metadata.accuracy = 1", "in_context(", 'nowhere("x")', "((((((state=LIVE))))))"):
        with pytest.raises(BadRequest, match="Invalid filter"):
            artifacts(bad)


def test_lists_are_ordered_and_paged(metadata: MetadataServiceClient, store: str) -> None:
    for name in ("bbbb", "cccc", "aaaa"):
        new_artifact(metadata, store, name, display_name=name)
    assert ids(metadata.list_artifacts({"parent": store, "order_by": "display_name desc"})) == ["cccc", "bbbb", "aaaa"]
    page = metadata.list_artifacts({"parent": store, "page_size": 2})
    assert [len(one.artifacts) for one in page.pages] == [2, 1]
    with pytest.raises(BadRequest):
        metadata.list_artifacts({"parent": store, "order_by": "metadata"})


def test_purge_counts_until_it_is_forced(metadata: MetadataServiceClient, store: str) -> None:
    names = [new_artifact(metadata, store, f"data-{number}", uri="gs://old/one") for number in range(3)]
    new_artifact(metadata, store, "kept")
    request = PurgeArtifactsRequest(parent=store, filter='uri="gs://old/one"')
    counted = metadata.purge_artifacts(request).result()
    assert (counted.purge_count, list(counted.purge_sample)) == (3, names)
    request.force = True
    purged = metadata.purge_artifacts(request).result()
    assert (purged.purge_count, list(purged.purge_sample)) == (3, [])
    assert ids(metadata.list_artifacts(parent=store)) == ["kept"]
    with pytest.raises(BadRequest):
        metadata.purge_artifacts(parent=store)


def test_lineage_goes_through_executions_in_both_directions(metadata: MetadataServiceClient, store: str) -> None:
    raw, clean, model, other = (new_artifact(metadata, store, name) for name in ("rawdata", "clean", "model", "other"))
    prepare = new_execution(metadata, store, "prepare", [raw], [clean])
    train = new_execution(metadata, store, "train", [clean], [model])
    # Nothing is recorded twice.
    metadata.add_execution_events(execution=train, events=[Event(artifact=model, type_=Event.Type.OUTPUT)])

    def shape(graph: LineageSubgraph) -> tuple[list[str], list[str], int]:
        return ids(graph.artifacts), ids(graph.executions), len(graph.events)

    def around(artifact: str, **request: Any) -> tuple[list[str], list[str], int]:
        return shape(metadata.query_artifact_lineage_subgraph({"artifact": artifact, **request}))

    assert around(model) == (["rawdata", "clean", "model"], ["prepare", "train"], 4)
    assert around(other) == (["other"], [], 0)
    assert around(model, max_hops=1) == (["model"], ["train"], 1)
    assert around(model, max_hops=2) == (["clean", "model"], ["train"], 2)
    assert around(raw, filter='name != "' + model + '"') == (["rawdata", "clean"], ["prepare", "train"], 3)
    with pytest.raises(BadRequest, match="max_hops"):
        around(model, max_hops=-1)
    with pytest.raises(NotFound):
        around(f"{store}/artifacts/missing")
    ends = metadata.query_execution_inputs_and_outputs(execution=train)
    assert {(event.artifact, Event.Type(event.type_).name) for event in ends.events} == {
        (clean, "INPUT"), (model, "OUTPUT"),
    }  # fmt: skip
    assert shape(ends) == (["clean", "model"], ["train"], 2)
    context = new_context(metadata, store, "context")
    metadata.add_context_artifacts_and_executions(context=context, artifacts=[raw], executions=[prepare, train])
    assert shape(metadata.query_context_lineage_subgraph(context=context)) == (["rawdata"], ["prepare", "train"], 1)


def test_schemas_are_googles_and_those_that_were_added(metadata: MetadataServiceClient, store: str) -> None:
    listed = {schema.name.rpartition("/")[2] for schema in metadata.list_metadata_schemas(parent=store)}
    assert {"system-dataset-v0-0-1", "google-vertexmodel-v0-0-1", "system-run-v0-0-1"} <= listed
    read = metadata.get_metadata_schema(name=f"{store}/metadataSchemas/system-dataset-v0-0-1")
    assert read.schema_type == MetadataSchema.MetadataSchemaType.ARTIFACT_TYPE
    assert read.schema.startswith("title: system.Dataset\n")
    artifact_type = MetadataSchema.MetadataSchemaType.ARTIFACT_TYPE

    def add(text: str, version: str = "1.0.0") -> MetadataSchema:
        schema = MetadataSchema(schema=text, schema_version=version, schema_type=artifact_type)
        return metadata.create_metadata_schema(parent=store, metadata_schema=schema)

    own = add("title: mine.Table\ntype: object\n")
    assert metadata.get_metadata_schema(name=own.name) == own
    add("title: mine.Table\ntype: object\n", "1.10.0")
    artifact = metadata.get_artifact(name=new_artifact(metadata, store, "table", schema_title="mine.Table"))
    assert artifact.schema_version == "1.10.0"
    for text, version in (
        ("title: mine.Table", "1.0.0"), ("title: [", "1.0.0"), ("type: object", "1.0.0"),
        ("title: system.Mine", "1.0.0"), ("title: mine.Other", "one"),
    ):  # fmt: skip
        with pytest.raises(BadRequest):
            add(text, version)
    with pytest.raises(NotFound):
        metadata.get_metadata_schema(name=f"{store}/metadataSchemas/nothing")
