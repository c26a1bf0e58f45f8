"""Bytes to lines."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from emulator.core.interfaces import OutputLine
from emulator.runners.output import LINE_BYTES, TAIL_BYTES, Lines, Tail


def texts(lines: list[OutputLine]) -> list[str]:
    return [line.text for line in lines]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    whole = Lines(is_error=False)
    expected = texts(whole.feed(data) + whole.end())
    splitter = Lines(is_error=False)
    found: list[OutputLine] = []
    ends = sorted({*cuts, 0, len(data)})
    for start, end in pairwise(ends):
        found += splitter.feed(data[start:end])
    assert texts(found + splitter.end()) == expected


def test_line_ends_of_windows_are_taken_off_and_others_kept() -> None:
    assert texts(Lines(is_error=False).feed(b"a\r\n\r10%\r20%\n\n")) == ["a", "\r10%\r20%", ""]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert texts(Lines(is_error=False).feed(b"a\xff\n")) == ["a\N{REPLACEMENT CHARACTER}"]


def test_long_line_is_cut_between_characters() -> None:
    for shift in range(4):
        text = "a" * shift + "\N{GRINNING FACE}" * (LINE_BYTES // 2)
        splitter = Lines(is_error=False)
        lines = texts(splitter.feed(text.encode()) + splitter.end())
        assert "".join(lines) == text
        assert all(len(line.encode()) <= LINE_BYTES for line in lines)


def test_tail_is_bounded_by_bytes() -> None:
    tail = Tail()
    tail.add([OutputLine("é" * TAIL_BYTES, is_error=True)])
    assert len(tail.text.encode()) <= TAIL_BYTES
    tail.add([OutputLine("last", is_error=True)])
    assert tail.text.endswith("last")
