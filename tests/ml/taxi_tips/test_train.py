from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml import paths
from ml.taxi_tips import data, generate, train

ROOT = Path(__file__).parents[3]


def _train(*arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AIP_")}
    return subprocess.run(
        [sys.executable, "-m", "ml.taxi_tips.train", *arguments],
        cwd=ROOT, env=plain, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _metrics(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return loaded


def test_main_leaves_a_model_and_its_measures(generated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "model"
    done = _train("--data", str(generated), "--model-dir", str(out))
    assert done.returncode == 0, done.stderr
    assert {file.name for file in out.iterdir()} == {"model.joblib", "metrics.json", "examples.jsonl"}
    # Vertex AI's prebuilt serving image loads it into every replica: small is quick.
    assert (out / "model.joblib").stat().st_size < 5_000_000
    (line,) = done.stdout.splitlines()
    assert json.loads(line).items() <= _metrics(out).items()
    assert "trees on" in done.stderr


def test_main_with_the_same_seed_makes_the_same_bytes(generated: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert _train("--data", str(generated), "--model-dir", str(tmp_path / name)).returncode == 0
    for file in ("model.joblib", "metrics.json", "examples.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_main_learns_more_than_the_base_rate_from_made_up_trips(tmp_path: Path) -> None:
    generate.write(tmp_path / "trips.csv", rows=20_000, seed=1)
    train.main(["--data", str(tmp_path / "trips.csv"), "--model-dir", str(tmp_path)])
    metrics = _metrics(tmp_path)
    assert metrics["auc_roc"] > 0.63
    assert metrics["log_loss"] < metrics["baseline"]["log_loss"] - 0.02


def test_main_learns_from_real_trips_unchanged(real: Path, tmp_path: Path) -> None:
    train.main(["--data", str(real), "--model-dir", str(tmp_path)])
    metrics = _metrics(tmp_path)
    assert metrics["auc_roc"] > 0.66
    assert metrics["log_loss"] < metrics["baseline"]["log_loss"] - 0.05


def test_main_model_answers_where_only_scikit_learn_is(generated: Path, tmp_path: Path) -> None:
    train.main(["--data", str(generated), "--model-dir", str(tmp_path)])
    examples = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    # -I: neither the repository nor the current folder is importable, as in the serving image.
    script = (
        "import joblib, json, sys; model = joblib.load(sys.argv[1]);"
        "rows = json.load(sys.stdin); print(json.dumps(model.predict(rows).tolist()));"
        "assert not any(name == 'ml' or name.startswith('ml.') for name in sys.modules)"
    )
    answered = subprocess.run(
        [sys.executable, "-I", "-c", script, str(tmp_path / "model.joblib")],
        input=json.dumps([example["instance"] for example in examples]),
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout) == [example["prediction"] for example in examples]
    assert len(examples) == 20


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import joblib

    folder = tmp_path_factory.mktemp("model")
    generate.write(folder / "trips.csv", rows=4000, seed=1)
    train.main(["--data", str(folder / "trips.csv"), "--model-dir", str(folder)])
    return joblib.load(folder / "model.joblib")


def test_model_answers_alike_for_every_way_json_writes_a_number(fitted: Any) -> None:
    rows = [[7, 20, 375, 1.6, 141, 233], [7.0, 20.0, 375.0, 1.6, 141.0, 233.0], ["7", "20", "375", "1.6", "141", "233"]]
    answers = [fitted.predict_proba([row])[0, 1] for row in rows]
    assert answers == [answers[0]] * 3


def test_model_answers_for_a_zone_never_seen_and_a_value_left_out(fitted: Any) -> None:
    assert fitted.predict([[7, 20, 375, 1.6, 9999, 233], [7, 20, None, 1.6, 141, None]]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[7, 20, 375, 1.6, 141]], "expecting 6 features"),
        ([[7, 20, "long", 1.6, 141, 233]], "could not convert string to float: 'long'"),
        ([7, 20, 375, 1.6, 141, 233], "does not contain any features"),
    ],
)
def test_model_says_what_is_wrong_with_an_instance(fitted: Any, rows: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.predict(rows)


def test_main_reads_and_writes_gs_through_the_mount(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MOUNT", tmp_path)
    (tmp_path / "bucket").mkdir()
    header, *rows = generated.read_text().splitlines(keepends=True)
    for number in (0, 1):
        (tmp_path / "bucket" / f"trips-{number}.csv").write_text(header + "".join(rows[number::2]))
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://bucket/out/model/")
    train.main(["--data", "gs://bucket/trips-*.csv"])
    assert sum(_metrics(tmp_path / "bucket" / "out" / "model")["splits"].values()) == len(
        data.read([generated]).examples
    )


def test_main_takes_the_splits_of_a_managed_dataset(
    generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MOUNT", tmp_path)
    header, *rows = generated.read_text().splitlines(keepends=True)
    for name, part in (("training", rows[:3000]), ("validation", rows[3000:3500]), ("test", rows[3500:])):
        folder = tmp_path / "bucket"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}-00001-of-00001.csv").write_text(header + "".join(part))
        monkeypatch.setenv(f"AIP_{name.upper()}_DATA_URI", f"gs://bucket/{name}-*.csv")
    monkeypatch.setenv("AIP_DATA_FORMAT", "csv")
    monkeypatch.setenv("AIP_MODEL_DIR", "gs://bucket/model/")
    train.main([])
    assert _metrics(tmp_path / "bucket" / "model")["splits"].keys() == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "no data: give --data, or run in a job with a dataset"),
        ({"AIP_DATA_FORMAT": "bigquery"}, "AIP_DATA_FORMAT is bigquery; this trainer reads csv"),
        ({"AIP_TRAINING_DATA_URI": "gs://bucket/training-*.csv"}, "gcs is not mounted here"),
    ],
)
def test_main_without_usable_data_ends_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr(paths, "MOUNT", tmp_path / "gcs")
    for name in ("AIP_DATA_FORMAT", "AIP_TRAINING_DATA_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="1"):
        train.main(["--model-dir", str(tmp_path / "out")])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model-dir is needed where AIP_MODEL_DIR is not set"),
        (["--model-dir", "out", "--max-leaf-nodes", "1"], "1 is not a whole number of 2 or more"),
        (["--model-dir", "out", "--learning_rate=0"], "0 is not above 0"),
        (["--model-dir", "out", "--seed", "many"], "invalid whole number value: 'many'"),
    ],
)
def test_main_refuses_wrong_arguments(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AIP_MODEL_DIR", raising=False)
    with pytest.raises(SystemExit, match="2"):
        train.main(arguments)
    assert message in capsys.readouterr().err


def test_main_takes_parameters_the_way_tuning_jobs_write_them(generated: Path, tmp_path: Path) -> None:
    train.main(["--data", str(generated), "--model-dir", str(tmp_path), "--max_iter=3.0", "--learning_rate=0.05"])
    model = _metrics(tmp_path)["model"]
    assert (model["max_iter"], model["learning_rate"]) == (3, 0.05)
    assert 1 <= model["trees"] <= 3
