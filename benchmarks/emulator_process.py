"""An emulator of a benchmark's own: a free port, a state directory of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure


@dataclass(frozen=True)
class RunningEmulator:
    """One that has said that it is ready."""

    process: subprocess.Popen[str]
    port: int
    state: Path

    @property
    def token(self) -> str:
        return (self.state / "token").read_text()

    def variables(self) -> dict[str, str]:
        """What `inv emulator.env` exports."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/emulator/env", headers={"Authorization": f"Bearer {self.token}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as response:
            found: dict[str, str] = json.load(response)
        return found


@contextmanager
def started_emulator(state: Path) -> Iterator[RunningEmulator]:
    """Start one and yield it when its line with `ready` has come. Raises measure.NotMeasurable."""
    command = [sys.executable, "-m", "emulator", "serve", "--state", str(state), "--port", "0"]
    with measure.running(command, measure.clean_environment(SELFLOOP_PORT="0")) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready" not in line:
            raise measure.NotMeasurable(f"the emulator did not start: {line or process.wait(30)}")
        yield RunningEmulator(process, int(line.strip().rpartition(":")[2]), state)
