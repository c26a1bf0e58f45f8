"""Payloads that people write, and the comparison of answers."""

from __future__ import annotations

from typing import Any

import pytest

from ops.errors import OpsError
from ops.loop import require_equal
from ops.predict import read_instances


@pytest.mark.parametrize(
    ("payload", "instances"),
    [
        ('{"instances": [[1, 2], [3, 4]]}', [[1, 2], [3, 4]]),
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        ("[1, 2]", [[1, 2]]),
        ('{"a": 1}', [{"a": 1}]),
        ('[{"a": 1}]', [{"a": 1}]),
        ("[1, 2]\n[3, 4]\n", [[1, 2], [3, 4]]),
        ("7", [7]),
    ],
)
def test_read_instances_takes_every_usual_form(payload: str, instances: list[Any]) -> None:
    assert read_instances(payload) == instances


@pytest.mark.parametrize("payload", ["", "[]", '{"instances": []}', "nonsense", "[1, 2"])
def test_read_instances_of_anything_else_shows_how_to_write_it(payload: str) -> None:
    with pytest.raises(OpsError, match="write"):
        read_instances(payload)


def test_require_equal_names_the_instance_that_differs() -> None:
    require_equal([[1], [2]], [0, 1.0], [0, 1])
    with pytest.raises(OpsError, match=r"answers 0 to \[2\], the model itself 1"):
        require_equal([[1], [2]], [0, 0], [0, 1])
    with pytest.raises(OpsError, match="1 answers to 2 instances"):
        require_equal([[1], [2]], [0], [0])
