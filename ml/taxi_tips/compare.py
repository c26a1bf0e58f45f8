"""Compare a challenger with the champion on the same frozen trips; the gate before a deployment.

    python -m ml.taxi_tips.compare --challenger new/model.joblib --champion old/model.joblib --data trips.csv

Both are measured on the test split, which by its key neither has seen, whatever files they were trained on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from ml import comparison
from ml.errors import one_line_errors
from ml.paths import input_files
from ml.taxi_tips import data, evaluate, features, model

REJECTED = 3
"""exit code of a gate that says no"""


def main(argv: Sequence[str] | None = None) -> int:
    """Say whether a challenger is better than the champion; exit code 0 when it is, 3 when it is not."""
    parser = argparse.ArgumentParser(prog="python -m ml.taxi_tips.compare", description=main.__doc__)
    parser.add_argument("--challenger", required=True, help="its model.joblib, a path or gs:// URI")
    parser.add_argument("--champion", help="its model.joblib; leave it out when there is none yet")
    parser.add_argument("--data", required=True, help="CSV files of trips: a comma list, `*` and gs:// allowed")
    parser.add_argument("--metric", default="auc_roc", help="the measure that counts (default %(default)s)")
    parser.add_argument(
        "--margin", type=float, default=0.0, help="by how much it must be better; below 0: may be worse (default 0)"
    )
    arguments = parser.parse_args(argv)
    with one_line_errors():
        # Before anything is read, so that a wrong name costs nothing.
        comparison.compare(None, None, arguments.metric, arguments.margin)
        rows = data.split(data.read(input_files(arguments.data)).examples)["test"]
        truth = rows[data.LABEL].to_numpy(dtype="int64")

        def measure(location: str | None) -> float | None:
            if location is None:
                return None
            scores = model.scores(location, features.matrix(rows))
            value: float | None = evaluate.evaluate(truth, scores)[arguments.metric]
            return value

        decision = comparison.compare(
            measure(arguments.challenger), measure(arguments.champion), arguments.metric, arguments.margin
        )
        print(json.dumps({**asdict(decision), "rows": len(rows), "fingerprint": data.fingerprint(rows)}))
    return 0 if decision.accepted else REJECTED


if __name__ == "__main__":
    raise SystemExit(main())
