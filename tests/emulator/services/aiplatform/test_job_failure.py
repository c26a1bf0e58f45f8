"""The wording of failed jobs."""

from __future__ import annotations

import pytest

from emulator.services.aiplatform.job_failure import shorten

TRACEBACK = "Traceback (most recent call last):"


def frames(count: int) -> str:
    return "".join(
        f'  File "module_{number}.py", line {number}, in call\n    call({number})\n' for number in range(count)
    )


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("", ""),
        ("\nboom\n", "boom"),
        (f"warning\n{TRACEBACK}\n{frames(1)}KeyError: 'x'\n", f"{TRACEBACK}\n{frames(1)}KeyError: 'x'"),
        (f"{TRACEBACK}\nfirst\n\nDuring it:\n\n{TRACEBACK}\nsecond\n", f"{TRACEBACK}\nsecond"),
    ],
)
def test_shorten_keeps_the_last_traceback(stderr: str, expected: str) -> None:
    assert shorten(stderr) == expected


def test_shorten_leaves_out_the_middle_of_a_long_traceback() -> None:
    shown = shorten(f"{TRACEBACK}\n{frames(60)}RecursionError: too deep\n")
    lines = shown.splitlines()
    assert lines[:2] == [TRACEBACK, "  [...]"]
    assert lines[-1] == "RecursionError: too deep"
    assert lines[2].startswith(("  File", "    call"))
    assert len(shown) < 1300


def test_shorten_keeps_the_end_of_what_is_no_traceback() -> None:
    shown = shorten("x" * 5000 + " end")
    assert shown.startswith("[...]\nx")
    assert shown.endswith("x end")
    assert len(shown) < 1300
