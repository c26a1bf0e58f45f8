from __future__ import annotations

import time

import pytest
from google.api_core.exceptions import BadRequest

from emulator.services.storage.glob import compile_glob, literal_prefix


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.txt", ["a.txt", ".txt"], ["d/a.txt", "a.txt2"]),
        ("**.txt", ["a.txt", "d/e/a.txt"], ["a.txt/b"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz"]),
        ("fo?.bin", ["foo.bin"], ["fo.bin", "fo/.bin"]),
        ("run-[0-9]", ["run-3"], ["run-x", "run-"]),
        ("run-[!0-9]", ["run-x"], ["run-3", "run-/"]),
        ("*.{jpg,png}", ["a.jpg", "b.png"], ["c.gif"]),
        ("{a,b{c,d}}", ["a", "bc", "bd"], ["b", "ac"]),
        ("a\\*b", ["a*b"], ["axb"]),
        ("", [""], ["a"]),
        ("é*", ["é", "éa"], ["e"]),
    ],
)
def test_glob_matches_as_documented(pattern: str, matching: list[str], other: list[str]) -> None:
    glob = compile_glob(pattern)
    assert [name for name in matching if not glob.matches(name)] == []
    assert [name for name in other if glob.matches(name)] == []


@pytest.mark.parametrize("pattern", ["[abc", "{a,b", "{" + ",".join("ab" * 200) + "}" * 1])
def test_glob_that_is_malformed_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest, match="Invalid glob pattern"):
        compile_glob(pattern)


def test_glob_made_to_backtrack_takes_linear_time() -> None:
    glob = compile_glob("*a" * 30 + "b")
    began = time.perf_counter()
    assert not glob.matches("a" * 1000)
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("pattern", "prefix"), [("data/*.csv", "data/"), ("a[b", "a"), ("plain", "plain"), ("{a}", "")]
)
def test_literal_prefix_ends_at_the_first_special_character(pattern: str, prefix: str) -> None:
    assert literal_prefix(pattern) == prefix
