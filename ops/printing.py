"""What tasks print in the format that was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ops.errors import OpsError

ALL_FORMATS = ("text", "json", "markdown")
TEXT_OR_JSON = ("text", "json")


def output_format(chosen: str, known: Sequence[str] = ALL_FORMATS) -> str:
    """What `--output` names. Raises OpsError for a format that the task does not have."""
    if chosen not in known:
        raise OpsError(f"--output {chosen} is not known; write one of: {', '.join(known)}")
    return chosen


def print_rows(found: Sequence[Mapping[str, object]], output: str) -> None:
    """As JSON, or as text: a line a row, its columns aligned and without a heading; nothing where there is none."""
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    cells = [[str(value) for value in row.values()] for row in found]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def print_table(found: Sequence[Mapping[str, object]], output: str) -> None:
    """As JSON, or with a heading: as aligned text, or as a table of Markdown; nothing where there is none."""
    if output == "json" or not found:
        print_rows(found, output)
        return
    heading = {key: key for key in found[0]}
    found = [{key: f"{one:.6g}" if isinstance(one, float) else one for key, one in row.items()} for row in found]
    if output == "text":
        print_rows([heading, *found], output)
        return
    lines = [[str(value).replace("|", "\\|") for value in row.values()] for row in (heading, *found)]
    lines.insert(1, ["---"] * len(heading))
    for line in lines:
        print(f"| {' | '.join(line)} |")
