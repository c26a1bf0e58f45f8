"""What the service itself writes down of models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selfloop_apis.aiplatform_v1 import Execution, Model

from emulator.core.clock import MovableClock
from emulator.core.state import Database
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.names import Location

HERE = Location("projects/1/locations/us-central1", "a-project", "1", "us-central1")
VERSION = Model(name=f"{HERE.parent}/models/7@2")


@pytest.fixture
def graph(path: Path) -> Iterator[MetadataGraph]:
    database = Database(path)
    yield MetadataGraph(database, MovableClock())
    database.close()


def test_model_of_a_pipeline_job_is_an_output_of_its_run(graph: MetadataGraph) -> None:
    _, run = graph.open_run(HERE, "train", "train-1")
    store = graph.default_store(HERE)
    root = graph.create_execution(Execution(name=f"{store}/executions/77", schema_title="system.Run"), run.name)
    job = f"{HERE.parent}/pipelineJobs/train-1"
    name = TrackedResources(graph).add_model(HERE, VERSION, "taxi", job)
    assert graph.members(run.name) == {root.name, name}
    (event,) = graph.events(artifacts=[name])
    assert event.execution == root.name


def test_model_of_an_unknown_pipeline_job_stands_alone(graph: MetadataGraph) -> None:
    name = TrackedResources(graph).add_model(HERE, VERSION, "taxi", f"{HERE.parent}/pipelineJobs/gone")
    assert graph.artifacts.get(name).metadata["resourceName"] == VERSION.name
    assert graph.events(artifacts=[name]) == []
