"""Train the model: trips in, `model.joblib` and `metrics.json` out.

    python -m ml.taxi_tips.train --data trips.csv --model-dir out/

In a training job the folder comes from AIP_MODEL_DIR and, with a managed dataset, the rows from
AIP_TRAINING_DATA_URI, AIP_VALIDATION_DATA_URI and AIP_TEST_DATA_URI. Progress goes to stderr; the last
thing, on stdout, is one JSON line of the test split's measures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import sklearn

from ml.errors import InputError, one_line_errors
from ml.paths import input_files, output_folder
from ml.taxi_tips import data, evaluate, features, model

MODEL_FILE = "model.joblib"
METRICS_FILE = "metrics.json"
EXAMPLES_FILE = "examples.jsonl"
_EXAMPLES = 20
_DATASET_VARIABLES = {
    "train": "AIP_TRAINING_DATA_URI",
    "validation": "AIP_VALIDATION_DATA_URI",
    "test": "AIP_TEST_DATA_URI",
}


def train(
    splits: Mapping[str, pd.DataFrame], parameters: model.Parameters
) -> tuple[bytes, dict[str, Any], list[dict[str, Any]]]:
    """A model as the bytes of `model.joblib`, its measures, and examples of what it answers.

    splits: the labelled rows of "train", "validation" and "test"; see `ml.taxi_tips.data`. Same splits and
    parameters, same bytes. The examples are rows of the test split with the model's answers, so that
    whoever serves the model can tell that it is this one.
    """
    matrices = {
        name: (features.matrix(rows), rows[data.LABEL].to_numpy(dtype=np.int64)) for name, rows in splits.items()
    }
    started = time.monotonic()
    fitted, trees = model.fit(matrices["train"], matrices["validation"], parameters)
    _say(f"fitted {trees} trees on {len(splits['train'])} rows in {time.monotonic() - started:.1f} s")

    rows, truth = matrices["test"]
    scores = model.probabilities(fitted, rows)
    answers = fitted.predict(rows[:_EXAMPLES])
    metrics = {
        **evaluate.evaluate(truth, scores),
        "slices": evaluate.evaluate_slices(splits["test"], scores),
        "validation": evaluate.evaluate(
            matrices["validation"][1], model.probabilities(fitted, matrices["validation"][0])
        ),
        "classification_metrics": evaluate.classification_metrics(truth, scores),
        "model": {"columns": features.COLUMNS, "label": data.LABEL, "trees": trees, **asdict(parameters)},
        "splits": {name: len(part) for name, part in splits.items()},
        "fingerprint": data.fingerprint(splits["test"]),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }
    examples = [
        {"instance": instance, "prediction": int(answer), "probability": float(score)}
        for instance, answer, score in zip(
            features.instances(splits["test"].head(_EXAMPLES)), answers, scores[:_EXAMPLES], strict=True
        )
    ]
    buffer = io.BytesIO()
    joblib.dump(fitted, buffer, compress=3)
    return buffer.getvalue(), metrics, examples


def write(folder: Path, artifact: bytes, metrics: dict[str, Any], examples: list[dict[str, Any]]) -> dict[str, Any]:
    """Lay out what `train` gave in a folder, made when it is not there; gives back the measures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(artifact)
    (folder / EXAMPLES_FILE).write_text("".join(f"{json.dumps(example)}\n" for example in examples))
    # Last: whoever finds the measures finds everything.
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parse(argv)
    parameters = model.Parameters(
        learning_rate=arguments.learning_rate,
        max_leaf_nodes=arguments.max_leaf_nodes,
        max_iter=arguments.max_iter,
        min_samples_leaf=arguments.min_samples_leaf,
        seed=arguments.seed,
    )
    with one_line_errors():
        # First, because finding out after the training that it cannot be kept would be a pity.
        folder = output_folder(arguments.model_dir)
        metrics = write(folder, *train(_splits(arguments.data), parameters))
        _say(f"wrote {MODEL_FILE}, {METRICS_FILE}, {EXAMPLES_FILE} to {arguments.model_dir}")
    shown = ("auc_roc", "auc_pr", "log_loss", "accuracy", "precision", "recall", "base_rate", "rows")
    print(json.dumps({name: metrics[name] for name in shown}), flush=True)
    return 0


def _splits(locations: str | None) -> dict[str, pd.DataFrame]:
    """The rows of each split: of the files given, else of the managed dataset, which comes split."""
    if locations:
        dataset = _read(locations)
        return data.split(dataset.examples)
    if os.environ.get("AIP_DATA_FORMAT", "csv") != "csv":
        raise InputError(f"AIP_DATA_FORMAT is {os.environ['AIP_DATA_FORMAT']}; this trainer reads csv")
    splits = {}
    for name, variable in _DATASET_VARIABLES.items():
        if not os.environ.get(variable):
            raise InputError(f"no data: give --data, or run in a job with a dataset ({variable} is not set)")
        splits[name] = _read(os.environ[variable]).examples
        data.require_usable(name, splits[name])
    return splits


def _read(locations: str) -> data.Dataset:
    dataset = data.read(input_files(locations))
    left_out = "".join(f", {rows} left out: {reason}" for reason, rows in dataset.dropped.items())
    share = dataset.examples[data.LABEL].mean()
    _say(f"read {dataset.rows_read} trips from {locations}{left_out}")
    _say(f"{len(dataset.examples)} trips with a label, {share:.1%} with a tip of 20 % or more")
    return dataset


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    defaults = model.Parameters()
    parser = argparse.ArgumentParser(
        prog="python -m ml.taxi_tips.train",
        description="Train a model that tells whether a taxi trip's tip will be 20 % of the fare or more.",
        epilog=f"Writes {MODEL_FILE}, {METRICS_FILE} and {EXAMPLES_FILE} (test rows and their answers).",
    )
    parser.add_argument(
        "--data",
        help="CSV files of trips: a comma list, `*` and gs:// allowed "
        "(default: the job's dataset, AIP_TRAINING_DATA_URI)",
    )
    parser.add_argument(
        "--model-dir",
        default=os.environ.get("AIP_MODEL_DIR"),
        help="folder or gs:// URI for what is made (default: AIP_MODEL_DIR)",
    )
    for name, kind, text in (
        ("learning_rate", _positive_float, "weight of each tree"),
        ("max_leaf_nodes", _whole(2), "leaves of a tree"),
        ("max_iter", _whole(1), "the most trees; validation decides how many stay"),
        ("min_samples_leaf", _whole(1), "rows in a leaf at least"),
        ("seed", _whole(0), "same seed and rows, same model"),
    ):
        # Tuning jobs pass parameters under their ids, which are often written with underscores.
        flags = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        parser.add_argument(
            *flags,
            dest=name,
            type=kind,
            default=getattr(defaults, name),
            help=f"{text} (default %(default)s)",
        )
    arguments = parser.parse_args(argv)
    if not arguments.model_dir:
        parser.error("--model-dir is needed where AIP_MODEL_DIR is not set")
    return arguments


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


class _whole:  # noqa: N801  # argparse names the type in its message
    """An argument type: a whole number, also written as 8.0, the way tuning jobs write one."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, text: str) -> int:
        value = float(text)
        if not value.is_integer() or value < self._least:
            raise argparse.ArgumentTypeError(f"{text} is not a whole number of {self._least} or more")
        return int(value)

    def __repr__(self) -> str:
        return "whole number"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
