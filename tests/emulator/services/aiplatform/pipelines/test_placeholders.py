"""What placeholders become, in command lines and inside values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.pipelines.placeholders import OutputPlaces, Scope
from emulator.services.aiplatform.pipelines.values import Artifact, RunFacts

RUN = RunFacts(
    location=Location("projects/7/locations/us-central1", "my-project", "7", "us-central1"),
    name="projects/7/locations/us-central1/pipelineJobs/p-1",
    job_id="p-1",
    uuid="123456",
    pipeline_name="p",
    root="gs://b/root",
    create_time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    schedule_time=datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC),
    service_account="me@example.com",
)
DATA = Artifact("projects/7/…/artifacts/1", "system.Dataset", "0.0.1", "gs://b/in.csv", {"rows": 3, "kind": "csv"})
MODEL = Artifact("projects/7/…/artifacts/2", "system.Model", "0.0.1", "gs://b/root/7/p-1/t_5/model")
SCOPE = Scope(
    RUN,
    "t",
    -5,
    {"s": 'a "b"', "n": 3, "r": 0.5, "xs": [1, "two"], "flag": True, "d": {"k": 1}},
    {"data": [DATA]},
    OutputPlaces({"o": "/gcs/b/root/o"}, {"model": MODEL}, "/gcs/b/root/executor_output.json"),
    '{"inputs": {}}',
)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("{{$}}", '{"inputs": {}}'),
        ("a {{$.inputs.parameters['s']}} z", 'a a "b" z'),
        ("{{$.inputs.parameters.n}}/{{$.inputs.parameters['r']}}", "3/0.5"),
        ("{{$.inputs.parameters['xs']}} {{$.inputs.parameters['flag']}}", '[1, "two"] true'),
        ("{{$.inputs.parameters['d']}}", '{"k": 1}'),
        ("{{$.inputs.parameters['s'].json_escape[1]}}", r"a \"b\""),
        ("{{$.inputs.parameters['none']}}", ""),
        ("{{$.inputs.artifacts['data'].uri}}", "gs://b/in.csv"),
        ("{{$.inputs.artifacts['data'].path}}", "/gcs/b/in.csv"),
        ("{{$.inputs.artifacts['data'].metadata['rows']}}", "3"),
        ("{{$.inputs.artifacts['data'].name}}", DATA.name),
        ("{{$.outputs.parameters['o'].output_file}}", "/gcs/b/root/o"),
        ("{{$.outputs.artifacts['model'].uri}}", MODEL.uri),
        ("{{$.outputs.artifacts['model'].path}}", "/gcs/b/root/7/p-1/t_5/model"),
        ("{{$.outputs.output_file}} {{$.outputMetadataUri}}", " ".join(["/gcs/b/root/executor_output.json"] * 2)),
        ("{{$.pipeline_job_name}} {{$.pipeline_job_uuid}} {{$.pipeline_task_uuid}}", "p-1 123456 -5"),
        ("{{$.pipeline_job_resource_name}}", RUN.name),
        ("{{$.pipeline_google_cloud_project_id}}:{{$.pipeline_google_cloud_location}}", "my-project:us-central1"),
        ("{{$.pipeline_job_create_time_utc}}", "2026-01-02T03:04:05Z"),
        ("{{$.unknown}} {{ jinja }} {{$.outputs.parameters['x'].output_file}}",
         "{{$.unknown}} {{ jinja }} {{$.outputs.parameters['x'].output_file}}"),
    ],
)  # fmt: skip
def test_placeholder_becomes(text: str, becomes: str) -> None:
    assert SCOPE.text(text) == becomes


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("plain", ["plain"]),
        ('{"Concat": ["a=", "{{$.inputs.parameters[\'n\']}}", "!"]}', ["a=3!"]),
        ('{"IfPresent": {"InputName": "s", "Then": ["--s", "x"]}}', ["--s", "x"]),
        ('{"IfPresent": {"InputName": "none", "Then": ["--none"]}}', []),
        ('{"IfPresent": {"InputName": "none", "Then": ["--none"], "Else": "--no"}}', ["--no"]),
        ('{"IfPresent": {"InputName": "data", "Then": "--data"}}', ["--data"]),
        ('{"Concat": ["a", {"IfPresent": {"InputName": "n", "Then": ["b", "c"]}}]}', ["abc"]),
        ('{"Concat": broken', ['{"Concat": broken']),
    ],
)
def test_word_becomes_words(word: str, words: list[str]) -> None:
    assert list(SCOPE.words([word])) == words


def test_texts_inside_values_are_replaced_too() -> None:
    value: dict[str, Any] = {"a": ["{{$.inputs.parameters['n']}}", 1], "b": {"c": "{{$.pipeline_root}}"}}
    assert SCOPE.value(value) == {"a": ["3", 1], "b": {"c": "gs://b/root"}}


def test_replacement_is_not_read_again() -> None:
    scope = Scope(RUN, "t", 1, {"evil": "{{$.pipeline_root}}"})
    assert scope.text("{{$.inputs.parameters['evil']}}") == "{{$.pipeline_root}}"
