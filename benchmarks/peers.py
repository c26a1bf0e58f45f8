"""Peers in environments of their own, so that what they pin never meets what selfloop pins.

Each is made once, below `.venv/benchmarks`, of the file `constraints/benchmarks-NAME.txt`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import measure

INSTALL_SECONDS = 600


def environment(name: str) -> Path:
    """The folder of a peer's environment. Raises measure.NotMeasurable when it cannot be made."""
    pins = measure.ROOT / "constraints" / f"benchmarks-{name}.txt"
    folder = Path(sys.prefix) / "benchmarks" / name
    made_of = folder / "made-of.txt"
    if made_of.exists() and made_of.read_bytes() == pins.read_bytes():
        return folder
    measure.say(f"setting up {name}")
    shutil.rmtree(folder, ignore_errors=True)
    uv = measure.program("uv", "`make setup`")
    python = folder / "bin" / "python"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), "--requirements", str(pins)],
    ):
        done = subprocess.run(
            command, env=measure.clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=INSTALL_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise measure.NotMeasurable(f"{name} cannot be installed: {done.stdout.strip()}")
    made_of.write_bytes(pins.read_bytes())
    return folder
