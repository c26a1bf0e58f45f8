"""Trips as instances, for `predict` and batch prediction.

python -m ml.taxi_tips.instances --data trips.csv --out instances.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ml.errors import one_line_errors
from ml.paths import input_files, local_path
from ml.taxi_tips import data, features


def main(argv: Sequence[str] | None = None) -> int:
    """Turn trips into instances, one JSON list a line: what `predict` and batch prediction read."""
    parser = argparse.ArgumentParser(prog="python -m ml.taxi_tips.instances", description=main.__doc__)
    parser.add_argument("--data", required=True, help="CSV files of trips: a comma list, `*` and gs:// allowed")
    parser.add_argument("--out", default="-", help="the JSON Lines file to write; - is stdout")
    parser.add_argument("--limit", type=int, help="stop after this many rows")
    arguments = parser.parse_args(argv)
    with one_line_errors():
        rows = features.instances(
            data.read_unlabelled(input_files(arguments.data)).head(arguments.limit or sys.maxsize)
        )
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        if arguments.out == "-":
            sys.stdout.write(text)
        else:
            local_path(arguments.out).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
