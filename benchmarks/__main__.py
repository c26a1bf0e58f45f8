"""`python -m benchmarks [NAME]`: one benchmark, or all of them; what is behind NAME goes to it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from benchmarks import measure

#: In order of the time they take.
ALL = (
    "tasks_list", "start_and_idle", "calls", "storage", "custom_job", "predictions", "pipelines", "closed_loop",
    "setup_size",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    chosen, options = (ALL, []) if not argv else ((argv[0].replace("-", "_"),), list(argv[1:]))
    if not set(chosen) <= set(ALL):
        print(f"there is no benchmark {argv[0]}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 1
    failed = 0
    for name in chosen:
        print(f"## {name}\n", flush=True)
        try:
            importlib.import_module(f"benchmarks.{name}").main(options)
        except measure.NotMeasurable as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
        print(flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
