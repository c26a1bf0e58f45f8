"""Time of `inv --list` beside a plain tasks.py of one task, and of the interpreter alone.

.venv/bin/python -m benchmarks.tasks_list
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

PLAIN = '''"""A plain tasks.py."""

from invoke import task


@task
def hello(c):
    """Say hello."""
    print("hello")
'''


def timed(command: Sequence[str], folder: Path) -> dict[str, float]:
    """Wall time of a command that must succeed."""
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=measure.clean_environment(), capture_output=True, timeout=120, check=True)
    return {"time, s": time.monotonic() - began}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__, runs=15).parse_args(argv)
    inv = measure.program("inv", "invoke")
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        folder = Path(name)
        (folder / "tasks.py").write_text(PLAIN)
        subjects = [
            measure.Subject("inv --list of this repository", lambda: timed([inv, "--list"], measure.ROOT)),
            measure.Subject("inv --list of a plain tasks.py", lambda: timed([inv, "--list"], folder)),
            measure.Subject("the interpreter alone", lambda: timed([sys.executable, "-c", ""], folder)),
        ]
        for subject in subjects:
            subject.run()
        measure.take_turns(subjects, arguments.runs)
    print(measure.heading(arguments.runs, "invoke"))
    print()
    print(measure.table(subjects, {subjects[0].name: subjects[1].name}, {"time, s": "{:.2f}"}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
