"""Worlds of training services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.core.interfaces import ContainerResult
from tests.emulator.services.aiplatform.fakes import FakeModels, FakeObjects, FakeRunner
from tests.emulator.services.aiplatform.world import World


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "emulator.db"


@pytest.fixture
def worlds(path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(
        result: ContainerResult | None = None,
        *,
        objects: FakeObjects | None = None,
        models: FakeModels | None = None,
    ) -> World:
        made.append(World(path, FakeRunner(result), objects or FakeObjects(), models or FakeModels()))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()
