"""Configurations for the tests of `ops`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.config import CONFIG, Config, load_config

MakeConfig = Callable[[str], Config]


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    """A folder like config/, with the repository's base.yaml."""
    folder = tmp_path / "config"
    folder.mkdir()
    shutil.copy(CONFIG / "base.yaml", folder)
    return folder


@pytest.fixture
def make_config(config_folder: Path) -> MakeConfig:
    """Reads an overlay of the given text over the repository's base.yaml."""

    def make(overlay: str) -> Config:
        (config_folder / "test.yaml").write_text(f"world: emulator\nproject: my-project\n{overlay}", "utf-8")
        return load_config("test", folder=config_folder, environ={})

    return make


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config("")
