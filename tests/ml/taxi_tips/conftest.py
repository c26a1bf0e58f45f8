"""Trips to train on: made up, and TLC's own where they lie beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml.taxi_tips import generate

_REAL = Path(__file__).parents[4] / "shared" / "data" / "tlc-trips-2019-03.csv"


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 made-up trips."""
    file = tmp_path_factory.mktemp("generated") / "trips.csv"
    generate.write(file, rows=4000, seed=1)
    return file


@pytest.fixture(scope="session")
def real() -> Path:
    """6,500 trips of March 2019 as TLC publishes them."""
    if not _REAL.is_file():
        # Data that the repository does not ship cannot be required, not even by SELFLOOP_REQUIRE_ALL.
        pytest.skip(f"{os.path.relpath(_REAL)} is not there")
    return _REAL
