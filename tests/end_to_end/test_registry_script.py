"""A script with every operation of the registry and of endpoints runs unchanged inside the exports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Emulator
from tests.emulator.services.aiplatform import registry

SCRIPT = Path(__file__).parent / "registry_script.py"


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_script_of_registry_and_endpoints_runs(
    emulator: Emulator, project: str, transport: str, tmp_path: Path
) -> None:
    for number, version in enumerate(("first", "second"), start=1):
        (tmp_path / version).mkdir()
        (tmp_path / version / "model.joblib").write_bytes(registry.dumped(registry.constant(number)))
    (tmp_path / "third.bst").write_bytes(b"of no interest before it is deployed")
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"of no interest either")
    arguments = (project, f"{project}-{transport}", str(tmp_path), transport)
    done = emulator.run(sys.executable, str(SCRIPT), *arguments, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "told all is well" in done.stdout
