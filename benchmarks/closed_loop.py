"""Time of `inv loop`, from no emulator to checked predictions, beside the same work by hand and without any cloud:
trips generated, a model trained, loaded and asked, each by its own command.

.venv/bin/python -m benchmarks.closed_loop
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

LOOP_SECONDS = 300
ROWS = "20000"


def new_loop(inv: str) -> dict[str, float]:
    """The loop on a state directory in which no emulator has run, then once more on the running one."""
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        environment = measure.clean_environment(SELFLOOP_STATE=str(Path(name) / "state"), SELFLOOP_PORT="0")
        try:
            return {
                "first, s": timed([inv, "loop"], environment),
                "again, s": timed([inv, "loop"], environment),
            }
        finally:
            timed([inv, "emulator.down"], environment)


def by_hand() -> dict[str, float]:
    """The example model's own commands."""
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        trips, model, python = f"{name}/trips.csv", f"{name}/model", sys.executable
        environment = measure.clean_environment()
        began = time.monotonic()
        timed([python, "-m", "ml.taxi_tips.generate", "--out", trips, "--rows", ROWS], environment)
        timed([python, "-m", "ml.taxi_tips.train", "--data", trips, "--model-dir", model], environment)
        rows = [python, "-m", "ml.taxi_tips.instances", "--data", trips, "--limit", "100"]
        instances = subprocess.run(rows, cwd=measure.ROOT, env=environment, capture_output=True, check=True).stdout
        ask = [python, "-m", "ops.local_model", "--model", f"{model}/model.joblib"]
        timed(ask, environment, given=instances)
        return {"first, s": time.monotonic() - began}


def timed(command: Sequence[str], environment: dict[str, str], given: bytes = b"") -> float:
    """Wall seconds of a command that must succeed."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=measure.ROOT, env=environment, input=given, capture_output=True, timeout=LOOP_SECONDS, check=False
    )
    if done.returncode:
        raise measure.NotMeasurable(f"{' '.join(command)} failed:\n{done.stderr.decode()[-2000:]}")
    return time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__, runs=3).parse_args(argv)
    inv = measure.program("inv", "invoke")
    subjects = [
        measure.Subject("inv loop", lambda: new_loop(inv)),
        measure.Subject("the same by hand, no cloud", by_hand),
    ]
    by_hand()  # byte code and the file cache, for both
    measure.take_turns(subjects, arguments.runs)
    print(measure.heading(arguments.runs, "scikit-learn"))
    print()
    formats = {"first, s": "{:.1f}", "again, s": "{:.1f}"}
    print(measure.table(subjects, {subjects[0].name: subjects[1].name}, formats))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
