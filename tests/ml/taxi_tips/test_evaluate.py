from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ml.taxi_tips import evaluate, train

TRUTH = np.array([0, 0, 1, 1, 1])
SCORES = np.array([0.1, 0.6, 0.4, 0.7, 0.9])


def test_evaluate_counts_by_hand() -> None:
    measured = evaluate.evaluate(TRUTH, SCORES)
    assert measured["confusion_matrix"] == [[1, 1], [1, 2]]
    assert measured["accuracy"] == pytest.approx(3 / 5)
    assert measured["precision"] == pytest.approx(2 / 3)
    assert measured["recall"] == pytest.approx(2 / 3)
    # Of the six pairs of one positive and one negative, one is in the wrong order.
    assert measured["auc_roc"] == pytest.approx(5 / 6)
    assert measured["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.7, 0.9]).mean())
    assert measured["baseline"]["accuracy"] == pytest.approx(3 / 5)


def test_evaluate_of_one_kind_of_label_has_no_area_and_no_nan() -> None:
    measured = evaluate.evaluate(np.array([1, 1]), np.array([0.2, 0.3]))
    assert measured["auc_roc"] is None
    assert measured["auc_pr"] is None
    assert measured["precision"] is None
    assert measured["recall"] == 0
    json.dumps(measured, allow_nan=False)


@pytest.mark.parametrize(("truth", "scores"), [([], []), ([1], [0.5, 0.5]), ([1], [1.5]), ([1], [float("nan")])])
def test_evaluate_refuses_what_it_cannot_measure(truth: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"labels and|probabilities"):
        evaluate.evaluate(np.array(truth, dtype=np.int64), np.array(scores))


def test_classification_metrics_have_the_published_shape() -> None:
    metrics = evaluate.classification_metrics(TRUTH, SCORES)
    assert set(metrics) == {"auPrc", "auRoc", "logLoss", "confidenceMetrics", "confusionMatrix"}
    thresholds = [entry["confidenceThreshold"] for entry in metrics["confidenceMetrics"]]
    assert thresholds[:3] == [0.0, 0.05, 0.1]
    assert thresholds[-5:] == [0.95, 0.96, 0.97, 0.98, 0.99]
    half = metrics["confidenceMetrics"][thresholds.index(0.5)]
    assert (half["truePositiveCount"], half["falsePositiveCount"]) == (2, 1)
    assert half["f1Score"] == pytest.approx(2 / 3)
    assert metrics["confidenceMetrics"][0]["recall"] == 1
    # Nothing scores 0.99.
    assert (metrics["confidenceMetrics"][-1]["precision"], metrics["confidenceMetrics"][-1]["recall"]) == (1, 0)
    assert metrics["confusionMatrix"]["rows"] == [[1, 1], [1, 2]]
    assert [spec["id"] for spec in metrics["confusionMatrix"]["annotationSpecs"]] == ["0", "1"]


def test_main_measures_a_saved_model_as_its_training_did(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main(["--data", str(generated), "--model-dir", str(tmp_path)])
    trained = json.loads(capsys.readouterr().out)
    evaluate.main(["--model", str(tmp_path / "model.joblib"), "--data", str(generated)])
    measured = json.loads(capsys.readouterr().out)
    assert {name: measured[name] for name in trained} == trained
    assert set(measured["slices"]) == set(evaluate.SLICES)


def test_main_of_a_file_that_is_no_model_says_so(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.joblib").write_text("not a model")
    with pytest.raises(SystemExit, match="1"):
        evaluate.main(["--model", str(tmp_path / "model.joblib"), "--data", str(generated)])
    assert "model.joblib: is not a model of these columns" in capsys.readouterr().err
