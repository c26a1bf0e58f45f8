"""How good a model is, in plain numbers.

python -m ml.taxi_tips.evaluate --model out/model.joblib --data trips.csv
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics as measures

from ml.errors import one_line_errors
from ml.paths import input_files
from ml.taxi_tips import data, features, model

THRESHOLD = 0.5
LABELS = ("below 20 %", "20 % or more")
# "0.00,0.05,0.10,...,0.95,0.96,0.97,0.98,0.99"
# Source: ClassificationEvaluationMetrics.confidenceMetrics, the classification_metrics_1.0.0 schema.
CONFIDENCE_THRESHOLDS = tuple(n / 100 for n in (*range(0, 96, 5), *range(96, 100)))
# Groups of trips that a model must not be bad at while it is good on the whole.
SLICES: dict[str, Callable[[pd.DataFrame], pd.Series[bool]]] = {
    "under 2 miles": lambda rows: rows["trip_distance"] < 2,
    "2 to 8 miles": lambda rows: rows["trip_distance"].between(2, 8, inclusive="left"),
    "8 miles and more": lambda rows: rows["trip_distance"] >= 8,
    "day (6 to 20)": lambda rows: rows["trip_hour"].between(6, 19),
    "night (20 to 6)": lambda rows: ~rows["trip_hour"].between(6, 19),
    "weekend": lambda rows: rows["trip_day_of_week"].isin([1, 7]),
}

Truth = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


def evaluate(truth: Truth, scores: Scores) -> dict[str, Any]:
    """Measures of some rows, JSON-ready, never NaN.

    truth: 0 or 1 a row. scores: the probability of 1. `auc_pr` is average precision; accuracy,
    precision, recall and the confusion matrix [[tn, fp], [fn, tp]] are those at THRESHOLD; the baseline
    answers every row with the base rate. What is not defined, an area when there is one kind of label
    and a precision when nothing is predicted positive, is None.
    Raises ValueError when there are no rows or a score is no probability.
    """
    if len(truth) == 0 or len(truth) != len(scores):
        raise ValueError(f"{len(truth)} labels and {len(scores)} scores")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be probabilities")
    true_negatives, false_positives, false_negatives, true_positives = _counts(truth, scores, THRESHOLD)
    both = 0 < truth.sum() < len(truth)
    base_rate = float(truth.mean())
    return {
        "rows": len(truth),
        "base_rate": base_rate,
        "threshold": THRESHOLD,
        "auc_pr": float(measures.average_precision_score(truth, scores)) if both else None,
        "auc_roc": float(measures.roc_auc_score(truth, scores)) if both else None,
        "log_loss": float(measures.log_loss(truth, scores, labels=[0, 1])),
        "accuracy": (true_positives + true_negatives) / len(truth),
        "precision": _ratio(true_positives, true_positives + false_positives),
        "recall": _ratio(true_positives, true_positives + false_negatives),
        "confusion_matrix": [[true_negatives, false_positives], [false_negatives, true_positives]],
        "baseline": {
            "auc_pr": base_rate,
            "auc_roc": 0.5,
            "log_loss": float(measures.log_loss(truth, np.full(len(truth), base_rate), labels=[0, 1])),
            "accuracy": max(base_rate, 1 - base_rate),
        },
    }


def evaluate_slices(rows: pd.DataFrame, scores: Scores) -> dict[str, dict[str, Any]]:
    """Measures of each slice that has rows, by its name."""
    truth = rows[data.LABEL].to_numpy(dtype=np.int64)
    masks = {name: chosen(rows).to_numpy() for name, chosen in SLICES.items()}
    return {name: evaluate(truth[mask], scores[mask]) for name, mask in masks.items() if mask.any()}


def classification_metrics(truth: Truth, scores: Scores) -> dict[str, Any]:
    """The same in the published schema of model evaluations, classification_metrics_1.0.0.

    The positive class is a tip of 20 % or more. Where nothing reaches a threshold precision is 1, the
    end of the precision-recall curve; an area that is not defined is left out.
    """
    whole = evaluate(truth, scores)
    schema = {"auPrc": whole["auc_pr"], "auRoc": whole["auc_roc"], "logLoss": whole["log_loss"]}
    return {
        **{name: value for name, value in schema.items() if value is not None},
        "confidenceMetrics": [_confidence_metrics(truth, scores, threshold) for threshold in CONFIDENCE_THRESHOLDS],
        "confusionMatrix": {
            "annotationSpecs": [{"id": str(label), "displayName": name} for label, name in enumerate(LABELS)],
            # rows[i][j]: how many are i in truth and j by the model.
            "rows": whole["confusion_matrix"],
        },
    }


def _confidence_metrics(truth: Truth, scores: Scores, threshold: float) -> dict[str, Any]:
    true_negatives, false_positives, false_negatives, true_positives = _counts(truth, scores, threshold)
    precision = _ratio(true_positives, true_positives + false_positives)
    recall = _ratio(true_positives, true_positives + false_negatives) or 0.0
    precision = 1.0 if precision is None else precision
    return {
        "confidenceThreshold": threshold,
        "recall": recall,
        "precision": precision,
        "f1Score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "falsePositiveRate": _ratio(false_positives, false_positives + true_negatives) or 0.0,
        "truePositiveCount": true_positives,
        "falsePositiveCount": false_positives,
        "falseNegativeCount": false_negatives,
        "trueNegativeCount": true_negatives,
    }


def _counts(truth: Truth, scores: Scores, threshold: float) -> tuple[int, int, int, int]:
    """True negatives, false positives, false negatives, true positives."""
    predicted = scores >= threshold
    positive = truth == 1
    pairs = (
        (~positive & ~predicted),
        (~positive & predicted),
        (positive & ~predicted),
        (positive & predicted),
    )
    tn, fp, fn, tp = (int(pair.sum()) for pair in pairs)
    return tn, fp, fn, tp


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a saved model on the test split of some trips; prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m ml.taxi_tips.evaluate", description=main.__doc__)
    parser.add_argument("--model", required=True, help="model.joblib, one that you trust: loading it runs its code")
    parser.add_argument("--data", required=True, help="CSV files of trips: a comma list, `*` and gs:// allowed")
    parser.add_argument("--all-rows", action="store_true", help="every row, for trips that no training has seen")
    arguments = parser.parse_args(argv)
    with one_line_errors():
        rows = data.read(input_files(arguments.data)).examples
        if not arguments.all_rows:
            rows = data.split(rows)["test"]
        scores = model.scores(arguments.model, features.matrix(rows))
        truth = rows[data.LABEL].to_numpy(dtype=np.int64)
        print(json.dumps({**evaluate(truth, scores), "slices": evaluate_slices(rows, scores)}, allow_nan=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
