"""How soon the emulator answers, and what it weighs at rest, beside moto's server (an emulator of AWS).

    .venv/bin/python -m benchmarks.start_and_idle

Ready is the time from starting the process to its first answer over HTTP. Both are warm: byte code is compiled,
and the emulator's tables and keys are made, by a run that does not count. Memory is that of the whole process tree,
two seconds after.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.emulator_process import started_emulator

SETTLE_SECONDS = 2.0


def emulator_run(state: Path) -> dict[str, float]:
    began = time.monotonic()
    with started_emulator(state) as emulator:
        measure.wait_for_http(emulator.process, emulator.port, "/emulator/health")
        return _weigh(time.monotonic() - began, emulator.process.pid)


def moto_run() -> dict[str, float]:
    port = measure.free_port()
    command = [measure.program("moto_server", "moto[server], the extra dev"), "-H", "127.0.0.1", "-p", str(port)]
    began = time.monotonic()
    with measure.running(command) as process:
        measure.wait_for_http(process, port, "/moto-api/")
        return _weigh(time.monotonic() - began, process.pid)


def _weigh(ready: float, pid: int) -> dict[str, float]:
    time.sleep(SETTLE_SECONDS)
    memory = measure.tree_memory(pid)
    return {"ready, s": ready, "idle RSS, MB": memory["rss"], "idle PSS, MB": memory["pss"]}


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as folder:
        state = Path(folder)
        subjects = [
            measure.Subject("selfloop", lambda: emulator_run(state)),
            measure.Subject("moto server", moto_run),
        ]
        for subject in subjects:
            subject.run()
        measure.take_turns(subjects, arguments.runs)
    print(measure.heading(arguments.runs, "moto"))
    print()
    formats = {"ready, s": "{:.2f}", "idle RSS, MB": "{:.0f}", "idle PSS, MB": "{:.0f}"}
    print(measure.table(subjects, {"selfloop": "moto server"}, formats))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
