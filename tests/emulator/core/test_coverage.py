"""The coverage tables in the services' READMEs say what is so."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulator.app import Emulator as App
from emulator.core import coverage
from emulator.settings import Settings
from tests.conftest import Emulator


def test_coverage_of_a_readme_is_what_is_written_in_code(tmp_path: Path) -> None:
    app = App(Settings(state=tmp_path / "state"))
    try:
        tables = app.coverage_tables()
    finally:
        app.close()
    assert len(tables) >= 3
    for readme, table in tables.items():
        written = coverage.written_table(readme.read_text())
        assert written == table, f"{readme} is behind the code; `python -m emulator coverage` writes it anew"


def test_coverage_of_the_control_api_has_every_method_of_a_service(emulator: Emulator) -> None:
    jobs = emulator.control("GET", "coverage")["google.cloud.aiplatform.v1.JobService"]
    assert jobs["CreateCustomJob"] == "behaves"
    assert jobs["ListNasJobs"] == "absent"


@pytest.mark.parametrize("readme", ["# Title\n\nText.\n", "# Title\n"])
def test_table_is_replaced_where_it_stands(readme: str) -> None:
    once = coverage.with_table(readme, "| a |\n")
    twice = coverage.with_table(once + "\nBehind.\n", "| b |\n")
    assert coverage.written_table(twice) == "| b |\n"
    assert twice.startswith("# Title")
    assert twice.endswith("Behind.\n")
    assert "| a |" not in twice
