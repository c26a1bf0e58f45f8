"""A script written for the real Vertex AI runs unchanged inside the exports, over gRPC and over REST."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ops import data
from ops.config import load_config
from ops.packages import built, package_of
from tests.conftest import Emulator

SCRIPT = Path(__file__).parent / "own_script.py"


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_script_trains_registers_deploys_and_predicts(emulator: Emulator, project: str, transport: str) -> None:
    dataset = load_config("local").datasets["taxi-trips"]
    with built(package_of("ml.taxi_tips.train")) as package, data.generated(dataset, rows=2000) as trips:
        arguments = (project, f"{project}-{transport}", str(package), str(trips), transport)
        done = emulator.run(sys.executable, str(SCRIPT), *arguments, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("told ")).removeprefix("told "))
    assert [prediction in (0, 1) for prediction in told["predictions"]] == [True, True]
    assert told["version"] == "1"
    assert told["listed"]
    assert told["labels"]["team"] == "a"
    assert told["uri"].startswith(f"gs://{project}-{transport}/aiplatform-custom-training-")
    assert told["left"] == 0
