"""Secrets are found by file and line, and never printed. The samples are put together here and belong to nobody."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from ops.secrets_scan import leaks, scan

SAMPLES = {
    "a private key": "-----BEGIN PRIVATE " + "KEY-----\n" + base64.b64encode(b"x" * 60).decode(),
    "a Google API key": "AI" + "za" + "x" * 35,
    "a GitHub token": "gh" + "p_" + "a" * 36,
    "an AWS access key": "AK" + "IA" + "A" * 16,
    "a Slack token": "xox" + "b-" + "1" * 24,
}


@pytest.mark.parametrize("what", SAMPLES)
def test_leaks_finds_each_kind_with_its_line(what: str) -> None:
    found = list(leaks(f"first\nkey = {SAMPLES[what]}\n", Path("a.py")))
    assert [(leak.line, leak.what) for leak in found] == [(2, what)]
    assert SAMPLES[what] not in str(found[0])


@pytest.mark.parametrize("text", ["-----BEGIN CERTIFICATE-----", "AIza", "ghp_short", "a private key"])
def test_leaks_leaves_harmless_text_alone(text: str) -> None:
    assert not list(leaks(text, Path("a.py")))


def test_scan_of_this_repository_finds_nothing() -> None:
    assert [str(leak) for leak in scan()] == []
