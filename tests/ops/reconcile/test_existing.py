"""What is there of one kind, listed or declared."""

from __future__ import annotations

from dataclasses import dataclass

from google.api_core.exceptions import NotFound

from ops.reconcile.existing import existing


@dataclass
class Thing:
    name: str


def test_existing_adds_declared_ones_without_the_mark_to_those_listed() -> None:
    asked: list[str] = []

    def get(key: str) -> Thing:
        asked.append(key)
        if key == "missing":
            raise NotFound("no such thing")
        return Thing(f"projects/1/things/{key}")

    listed = [Thing("projects/1/things/marked"), Thing("projects/1/things/left-over")]
    found = existing(listed, ["unmarked", "missing", "marked"], get)
    assert [thing.name.rsplit("/", 1)[-1] for thing in found] == ["marked", "left-over", "unmarked"]
    assert asked == ["missing", "unmarked"]  # what was listed is not fetched again
