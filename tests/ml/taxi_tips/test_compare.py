from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ml.taxi_tips import compare, generate, train


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`good/` learnt from 8,000 trips with up to 300 trees, `poor/` has one tree of two leaves."""
    folder = tmp_path_factory.mktemp("models")
    generate.write(folder / "trips.csv", rows=8000, seed=1)
    common = ["--data", str(folder / "trips.csv"), "--model-dir"]
    train.main([*common, str(folder / "good")])
    train.main([*common, str(folder / "poor"), "--max-iter", "1", "--max-leaf-nodes", "2"])
    return folder


def _compare(models: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = compare.main(["--data", str(models / "trips.csv"), *arguments])
    decision: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, decision


def test_main_accepts_a_better_challenger_and_rejects_a_worse_one(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, poor = (str(models / name / "model.joblib") for name in ("good", "poor"))
    assert _compare(models, capsys, "--challenger", good, "--champion", poor)[0] == 0
    code, decision = _compare(models, capsys, "--challenger", poor, "--champion", good, "--metric", "log_loss")
    assert (code, decision["accepted"]) == (3, False)
    assert decision["gain"] < 0


def test_main_of_equal_models_keeps_the_champion(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(models / "good" / "model.joblib")
    code, decision = _compare(models, capsys, "--challenger", good, "--champion", good)
    assert (code, decision["reason"]) == (3, "a tie: the champion stays")


def test_main_without_a_champion_accepts(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, decision = _compare(models, capsys, "--challenger", str(models / "poor" / "model.joblib"))
    assert (code, decision["champion"]) == (0, None)


def test_main_measures_on_the_rows_that_the_training_was_tested_on(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, decision = _compare(models, capsys, "--challenger", str(models / "good" / "model.joblib"))
    metrics = json.loads((models / "good" / "metrics.json").read_text())
    assert decision["fingerprint"] == metrics["fingerprint"]
    assert decision["challenger"] == metrics["auc_roc"]


def test_main_of_a_champion_that_is_not_there_is_an_error(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = str(models / "good" / "model.joblib")
    with pytest.raises(SystemExit, match="1"):
        _compare(models, capsys, "--challenger", good, "--champion", str(models / "absent.joblib"))
    assert "absent.joblib: No such file or directory" in capsys.readouterr().err


def test_main_of_an_unknown_metric_names_those_there_are(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        compare.main(["--data", "unread.csv", "--challenger", "unread", "--metric", "f1"])
    assert "metric is 'f1'; known: accuracy, auc_pr" in capsys.readouterr().err
