"""A trained model asked directly, without any service: `python -m ops.local_model --model FILE < instances`.

It runs as a process of its own, because reading a pickle runs the code it names. Only files that a training of ours
wrote are given to it. Reads one JSON instance a line, writes one JSON prediction a line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path


def predictions(model_file: Path, instances: list[object]) -> list[object]:
    """What the model answers for the instances, as the prebuilt sklearn container does: `predict` on their array."""
    import joblib
    import numpy as np

    model = joblib.load(model_file)
    answers: list[object] = np.asarray(model.predict(np.asarray(instances))).tolist()
    return answers


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.local_model", description=predictions.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model.joblib file")
    arguments = parser.parse_args(argv)
    instances = [json.loads(line) for line in sys.stdin if line.strip()]
    for prediction in predictions(arguments.model, instances):
        print(json.dumps(prediction))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
