"""Datasets of training pipelines: their export, and what becomes of a pipeline meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.api_core.exceptions import MethodNotImplemented, NotFound
from selfloop_apis import aiplatform_v1 as api

from emulator.services.aiplatform.csv_table import CsvTable
from emulator.services.aiplatform.dataset_exports import Exporter
from tests.emulator.services.aiplatform.fakes import SUCCESS, MemoryObjects
from tests.emulator.services.aiplatform.world import CONTEXT, PARENT, PipelineState, World, training_pipeline, until

TABULAR = "gs://google-cloud-aiplatform/schema/dataset/metadata/tabular_1.0.0.yaml"
DATA = "n\n" + "".join(f"{number}\n" for number in range(100))


class GatedObjects(MemoryObjects):
    """Reads wait until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__(a=DATA)
        self.gate = threading.Event()
        self.asked = threading.Event()

    def read(self, uri: str) -> Iterator[bytes]:
        self.asked.set()
        self.gate.wait(30)
        return super().read(uri)


def dataset(world: World, *, bigquery: bool = False, schema: str = TABULAR) -> str:
    """Make one; its id."""
    made = api.Dataset(display_name="trips", metadata_schema_uri=schema)
    source = {"bigquerySource": {"uri": "bq://p.d.t"}} if bigquery else {"gcsSource": {"uri": ["gs://data/a.csv"]}}
    made.metadata.struct_value.update({"inputConfig": source})
    operation = world.datasets.create_dataset(api.CreateDatasetRequest(parent=PARENT, dataset=made), CONTEXT)
    return str(operation.name.split("/")[5])


def pipeline(dataset_id: str) -> api.TrainingPipeline:
    made = training_pipeline(upload=False)
    made.input_data_config.dataset_id = dataset_id
    made.input_data_config.gcs_destination.output_uri_prefix = "gs://data/out"
    return made


def test_data_are_exported_before_the_job_starts(worlds: Callable[..., World]) -> None:
    objects = GatedObjects()
    world = worlds(SUCCESS, objects=objects)
    created = world.train(pipeline(dataset(world)))
    assert objects.asked.wait(10)
    assert world.get_pipeline(created.name).state == PipelineState.PIPELINE_STATE_PENDING
    assert not world.listed()
    assert world.training.unfinished() == [created.name]
    objects.gate.set()
    world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_SUCCEEDED)
    env = world.runner.started[0].container.env
    folder = env["AIP_TRAINING_DATA_URI"].removesuffix("/training-*.csv")
    assert folder.startswith("gs://data/out/dataset-")
    assert env["AIP_TEST_DATA_URI"] == f"{folder}/test-*.csv"
    assert objects.content[f"{folder}/validation-00001-of-00001.csv"].count(b"\n") == pytest.approx(11, abs=1)
    assert "Exported the rows of dataset" in str(world.logs.of_task("service")[0].payload)


def test_training_ties_the_dataset_to_the_model(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS, objects=MemoryObjects(a=DATA, **{"out/model/model.joblib": "x"}))
    asked = pipeline(dataset(world))
    asked.model_to_upload.display_name = "taxi"
    asked.model_to_upload.artifact_uri = "gs://data/out/model"
    created = world.train(asked)
    world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_SUCCEEDED)
    store = f"{created.name.partition('/trainingPipelines/')[0]}/metadataStores/default"
    (execution,) = world.graph.executions.list(store)
    assert (execution.display_name, execution.schema_title) == ("taxi", "system.CustomJobExecution")
    assert execution.metadata["resourceName"] == created.name
    (event,) = world.graph.events(executions=[execution.name])
    artifact = world.graph.artifacts.get(event.artifact)
    assert (artifact.schema_title, event.type_) == ("google.VertexDataset", api.Event.INPUT)
    assert artifact.uri.startswith("https://us-central1-aiplatform.googleapis.com/v1/projects/")


def test_pipeline_is_cancelled_while_its_data_are_exported(worlds: Callable[..., World]) -> None:
    objects = GatedObjects()
    world = worlds(SUCCESS, objects=objects)
    created = world.train(pipeline(dataset(world)))
    assert objects.asked.wait(10)
    world.pipelines.cancel_training_pipeline(api.CancelTrainingPipelineRequest(name=created.name), CONTEXT)
    assert world.get_pipeline(created.name).state == PipelineState.PIPELINE_STATE_CANCELLING
    objects.gate.set()
    ended = world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_CANCELLED)
    assert ended.error.code == 1
    assert not world.listed()
    until(lambda: not world.training.unfinished())


def test_pipeline_whose_data_cannot_be_read_fails(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS, objects=MemoryObjects())
    created = world.train(pipeline(dataset(world)))
    ended = world.pipeline_reaches(created.name, PipelineState.PIPELINE_STATE_FAILED)
    assert ended.error.code == 5
    assert "gs://data/a.csv" in ended.error.message
    assert not world.listed()


def test_pipeline_that_exported_when_the_emulator_ended_is_failed(worlds: Callable[..., World]) -> None:
    objects = GatedObjects()
    world = worlds(SUCCESS, objects=objects)
    created = world.train(pipeline(dataset(world)))
    assert objects.asked.wait(10)
    threading.Timer(0.2, objects.gate.set).start()
    world.training.close()
    ended = worlds(SUCCESS).get_pipeline(created.name)
    assert ended.state == PipelineState.PIPELINE_STATE_FAILED
    assert "The emulator stopped while this training pipeline was running" in ended.error.message


def test_data_that_cannot_be_exported_are_refused_by_name(world: World) -> None:
    with pytest.raises(NotFound, match="datasets/404` does not exist"):
        world.train(pipeline("404"))
    with pytest.raises(MethodNotImplemented, match="rows in BigQuery, which is not emulated yet"):
        world.train(pipeline(dataset(world, bigquery=True)))
    with pytest.raises(MethodNotImplemented, match="data items of image datasets are not emulated yet"):
        world.train(pipeline(dataset(world, schema=TABULAR.replace("tabular", "image"))))
    to_bigquery = pipeline(dataset(world))
    to_bigquery.input_data_config.bigquery_destination.output_uri = "bq://p"
    with pytest.raises(MethodNotImplemented, match="bigquery_destination is not emulated yet"):
        world.train(to_bigquery)


def test_many_rows_become_several_files_with_a_header_each(tmp_path: Path) -> None:
    objects = MemoryObjects(a=DATA)
    table = CsvTable(objects, ["gs://data/a.csv"])
    exporter = Exporter(objects, tmp_path, file_bytes=100)
    export = exporter.write(table, lambda row: "all", ("all", "none"), "gs://data/x")
    assert export.files["all"] == [f"gs://data/x/all-0000{index}-of-00003.csv" for index in (1, 2, 3)]
    assert [objects.content[uri].split(b"\n")[0] for uri in export.files["all"]] == [b"n"] * 3
    assert max(len(objects.content[uri]) for uri in export.files["all"]) <= 100
    assert "".join(objects.content[uri].decode().removeprefix("n\n") for uri in export.files["all"]) == DATA[2:]
    assert [objects.content[uri] for uri in export.files["none"]] == [b"n\n"]
    assert export.rows == {"all": 100, "none": 0}
    assert not list(tmp_path.iterdir())
