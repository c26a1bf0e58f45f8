"""What is there of one kind: what was listed by its environment's mark, and what is declared by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar


class Named(Protocol):
    name: str


R = TypeVar("R", bound=Named)


def existing(listed: Iterable[R], declared: Iterable[str], get: Callable[[str], R]) -> Iterator[R]:
    """The resources that were listed, then those of the declared ids that are there without the mark.

    get: fetches one by its id; a NotFound of it means that there is none.
    """
    from google.api_core.exceptions import NotFound

    unseen = set(declared)
    for resource in listed:
        unseen.discard(resource.name.rsplit("/", 1)[-1])
        yield resource
    for key in sorted(unseen):
        try:
            resource = get(key)
        except NotFound:
            continue
        yield resource
