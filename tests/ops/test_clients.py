"""Calls that only look survive a bad moment, and the person hears of it."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from google.api_core.exceptions import NotFound, ServiceUnavailable

from ops.clients import patient


def test_patient_tries_again_and_says_so_once() -> None:
    told: list[str] = []
    look = Mock(side_effect=[ServiceUnavailable("gone"), ServiceUnavailable("gone"), "there"])
    assert patient(told.append)(look)() == "there"
    assert told == ["no answer (ServiceUnavailable); trying again for up to 300 s"]


def test_patient_raises_what_will_not_pass() -> None:
    told: list[str] = []
    with pytest.raises(NotFound):
        patient(told.append)(Mock(side_effect=NotFound("no such job")))()
    assert told == []
