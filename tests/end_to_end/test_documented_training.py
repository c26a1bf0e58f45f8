"""What the documentation teaches of training, run unchanged inside the exports, over gRPC and over REST."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import Emulator

SCRIPT = Path(__file__).parent / "documented_training.py"
POOLS = [f"workerpool{pool}" for pool in range(4)]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_every_documented_way_to_train_works(emulator: Emulator, project: str, tmp_path: Path, transport: str) -> None:
    done = emulator.run(sys.executable, str(SCRIPT), project, str(tmp_path), transport, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ", 2) for line in done.stdout.splitlines() if line.startswith("told ")]
    told = {name: json.loads(value) for _, name, value in lines}
    assert told["package"] == [
        {"rows": 6, "format": "csv", "slope": 3.0}, "1", "line", ["package/logs/events.out.tfevents.1"],
    ]  # fmt: skip
    assert told["generated"] == ["PIPELINE_STATE_SUCCEEDED", 4.0, "1"]
    types = ("chief", "worker", "ps", "evaluator")
    assert told["spread"] == [
        "JOB_STATE_SUCCEEDED",
        {f"{pool}-0.json": [POOLS, type_] for pool, type_ in zip(POOLS, types, strict=True)},
        told["spread"][2],
    ]
    assert told["spread"][2][0] == "spread"
    assert sorted(told["spread"][2]) == ["generated-custom-job", "on-kept", "package-custom-job", "spread"]
    assert told["generated_job"] == ["JOB_STATE_CANCELLED", "CANCELED", ["slow"]]
    assert told["persistent"] == ["JOB_STATE_SUCCEEDED", "kept"]
    assert told["rest"] == ["JOB_STATE_PENDING", "JOB_STATE_FAILED", 3, True, 404]
