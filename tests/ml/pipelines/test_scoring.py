"""The batch scoring pipeline: what it compiles to, and its own steps."""

from __future__ import annotations

import json
from pathlib import Path

from kfp import dsl
from ruamel.yaml import YAML

from ml.pipelines import components, scoring
from ml.taxi_tips import features


def test_pipeline_compiles_to_its_steps_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    assert scoring.main(["--code", "/gcs/bucket/ml.zip", "--out", str(file)]) == 0
    compiled = YAML(typ="safe").load(file)
    tasks = compiled["root"]["dag"]["tasks"]
    assert {name: task.get("dependentTasks", []) for name, task in tasks.items()} == {
        "extract": [],
        "make-instances": ["extract"],
        "score": ["make-instances"],
        "summarise": ["score"],
    }
    assert tasks["score"]["cachingOptions"] == {}


def test_instances_are_what_the_model_sees(tmp_path: Path, generated: Path) -> None:
    trips, instances = dsl.Dataset(uri=str(tmp_path / "trips")), dsl.Dataset(uri=str(tmp_path / "instances.jsonl"))
    components.extract.python_func(uri=str(generated), trips=trips)
    components.make_instances.python_func(trips=trips, instances=instances)
    lines = [json.loads(line) for line in Path(instances.path).read_text().splitlines()]
    # Every trip, whether it was paid by card or not.
    assert len(lines) == instances.metadata["rows"] == 4000
    assert all(len(line) == len(features.COLUMNS) for line in lines)


def test_summary_reads_what_batch_prediction_writes(tmp_path: Path) -> None:
    folder = tmp_path / "prediction-model"
    folder.mkdir()
    for shard, answers in enumerate([[1.0, 0.0], [1.0, 1.0]]):
        lines = [json.dumps({"instance": [0.0], "prediction": answer}) for answer in answers]
        (folder / f"prediction.results-{shard:05}-of-00002").write_text("\n".join(lines) + "\n")
    summary = dsl.Metrics(uri=str(tmp_path / "summary"))
    components.summarise.python_func(predictions=dsl.Dataset(uri=str(folder)), summary=summary)
    assert summary.metadata == {"rows": 4, "positive_share": 0.75}
