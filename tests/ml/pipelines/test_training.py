"""The training pipeline: what it compiles to, and its steps one after the other, without any cloud."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from ruamel.yaml import YAML

from ml.errors import InputError
from ml.pipelines import components, training

CODE = "/gcs/bucket/packages/ml.zip"
METRICS_FILE = "metrics.json"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    assert training.main(["--code", CODE, "--out", str(file)]) == 0
    return YAML(typ="safe").load(file)


def test_pipeline_compiles_to_its_steps_in_their_order(compiled: Any) -> None:
    assert compiled["pipelineInfo"]["name"] == "taxi-tips-training"
    tasks = compiled["root"]["dag"]["tasks"]
    steps = {"extract", "validate", "prepare", "train", "evaluate", "find-champion", "compare", "condition-1"}
    assert set(tasks) == steps
    assert set(tasks["prepare"]["dependentTasks"]) == {"extract", "validate"}
    assert tasks["condition-1"]["taskInfo"]["name"] == "accepted"
    assert "register" in compiled["components"]["comp-condition-1"]["dag"]["tasks"]


def test_every_step_that_needs_ml_finds_it(compiled: Any) -> None:
    for name, executor in compiled["deploymentSpec"]["executors"].items():
        container = executor["container"]
        needs_code = container["image"] == components.TRAINING_IMAGE
        assert (container.get("env") == [{"name": "PYTHONPATH", "value": CODE}]) is needs_code, name


def test_what_changes_by_itself_is_never_taken_from_the_cache(compiled: Any) -> None:
    inner = compiled["components"]["comp-condition-1"]["dag"]["tasks"]
    assert compiled["root"]["dag"]["tasks"]["find-champion"]["cachingOptions"] == {}
    assert inner["register"]["cachingOptions"] == {}
    assert compiled["root"]["dag"]["tasks"]["train"]["cachingOptions"] == {"enableCache": True}


class Steps:
    """The steps' own functions, their artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def artifact(self, kind: Callable[..., Any], name: str) -> Any:
        return kind(uri=str(self._folder / name))

    def prepared(self, trips_file: Path) -> tuple[Any, dict[str, Any]]:
        trips = self.artifact(dsl.Dataset, "trips")
        components.extract.python_func(uri=str(trips_file), trips=trips)
        rows = {name: self.artifact(dsl.Dataset, name) for name in ("train_rows", "validation_rows", "test_rows")}
        components.prepare.python_func(trips=trips, **rows)
        return trips, rows

    def trained(self, rows: dict[str, Any], name: str, max_iter: int) -> Any:
        model = self.artifact(dsl.Model, name)
        given = {"learning_rate": 0.1, "max_leaf_nodes": 8, "max_iter": max_iter}
        components.train.python_func(**rows, **given, model=model)
        return model

    def compared(self, challenger: Any, rows: dict[str, Any], champion: str, **gate: Any) -> tuple[Any, Any]:
        comparison = self.artifact(dsl.Metrics, "comparison")
        decision = components.compare.python_func(
            challenger=challenger,
            test_rows=rows["test_rows"],
            champion_name="models/1@1" if champion else "",
            champion_uri=champion,
            comparison=comparison,
            **{"metric": "auc_roc", "margin": 0.0} | gate,
        )
        return decision, comparison.metadata


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def test_steps_train_measure_and_compare(steps: Steps, generated: Path, tmp_path: Path) -> None:
    trips, rows = steps.prepared(generated)
    assert trips.metadata["files"] == 1
    assert sum(part.metadata["rows"] for part in rows.values()) > 2000
    report = steps.artifact(dsl.HTML, "report.html")
    components.validate.python_func(trips=trips, report=report)
    assert report.metadata["missed"] == 0
    assert "<td>met</td><td>rows</td>" in Path(report.path).read_text()

    champion = steps.trained(rows, "champion", max_iter=60)
    measured = json.loads((Path(champion.path) / METRICS_FILE).read_text())
    metrics, classification = steps.artifact(dsl.Metrics, "m"), steps.artifact(dsl.ClassificationMetrics, "c")
    components.evaluate.python_func(
        model=champion, test_rows=rows["test_rows"], metrics=metrics, classification=classification
    )
    assert metrics.metadata["auRoc"] == pytest.approx(measured["auc_roc"])
    matrix = classification.metadata["confusionMatrix"]["rows"]
    assert [row["row"] for row in matrix] == measured["confusion_matrix"]

    decision, told = steps.compared(champion, rows, champion="")
    assert decision.accepted
    assert told["reason"] == "there is no champion with a measure"
    # The same model: a tie, which the champion wins; and an untrained one, which is worse.
    decision, told = steps.compared(champion, rows, champion=champion.path)
    assert not decision.accepted
    assert told["reason"] == "a tie: the champion stays"
    assert told["gain"] == 0
    worse = steps.trained(rows, "worse", max_iter=1)
    decision, told = steps.compared(worse, rows, champion=champion.path)
    assert not decision.accepted
    assert told["gain"] < 0
    # Less of a loss is better.
    decision, _ = steps.compared(champion, rows, champion=worse.path, metric="log_loss", margin=0.001)
    assert decision.accepted


def test_validate_names_what_is_wrong_and_leaves_its_report(steps: Steps, generated: Path, tmp_path: Path) -> None:
    head = tmp_path / "few.csv"
    head.write_text("".join(generated.read_text().splitlines(keepends=True)[:100]))
    trips = steps.artifact(dsl.Dataset, "trips")
    components.extract.python_func(uri=str(head), trips=trips)
    report = steps.artifact(dsl.HTML, "report.html")
    with pytest.raises(InputError, match=r"rows is [0-9]+, not 1000 or more"):
        components.validate.python_func(trips=trips, report=report)
    assert "NOT MET" in Path(report.path).read_text()
