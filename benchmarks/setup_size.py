"""Time and size of set-up: what `make loop` installs, beside the clients and libraries that any such project needs.

    .venv/bin/python -m benchmarks.setup_size

Each run copies the files that git knows to a new folder and makes its `.venv` there, so it takes minutes. Files come
out of uv's cache once a first run, which does not count, has filled it; the first run on a new machine takes the
time of the download besides. The peer is `uv pip install google-cloud-aiplatform google-cloud-storage scikit-learn
pandas`, byte code compiled, in the same versions. Size is what the folder adds to the disk, hard links counted once
in each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

PEER = ("google-cloud-aiplatform", "google-cloud-storage", "scikit-learn", "pandas")
SETUP_SECONDS = 1800


def make_run(target: str) -> dict[str, float]:
    """`make TARGET` in a copy of the repository, and once more."""
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        folder = Path(name)
        copy_repository(folder)
        first = _timed(["make", target, f"PYTHON={sys.executable}"], folder)
        size, files = disk_use(folder / ".venv")
        again = _timed(["make", target, f"PYTHON={sys.executable}"], folder)
    return {"set-up, s": first, "a second time, s": again, "size, MB": size, "files": files}


def peer_run() -> dict[str, float]:
    """The same clients and libraries alone."""
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        folder = Path(name)
        began = time.monotonic()
        _timed([sys.executable, "-m", "venv", ".venv"], folder)
        constraints = measure.ROOT / "constraints" / "main.txt"
        _timed(
            [measure.program("uv", "uv"), "pip", "install", "--python", ".venv/bin/python", "--compile-bytecode",
             "--constraint", str(constraints), *PEER],
            folder,
        )  # fmt: skip
        took = time.monotonic() - began
        size, files = disk_use(folder / ".venv")
    return {"set-up, s": took, "size, MB": size, "files": files}


def copy_repository(folder: Path) -> None:
    """The files that git tracks, or would, as a clone has them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=measure.ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source = measure.ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)


def disk_use(folder: Path) -> tuple[float, float]:
    """Megabytes and number of files below a folder."""
    sizes = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values()) / 1e6, float(len(sizes))


def _timed(command: Sequence[str], folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=measure.clean_environment(), capture_output=True, text=True,
        timeout=SETUP_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise measure.NotMeasurable(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> int:
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--dev", action="store_true", help="also `make setup`, what the tests need")
    arguments = parser.parse_args(argv)
    # The stamp file behind `make loop`: the target itself would go on to run the loop.
    subjects = [measure.Subject("make loop, its set-up", lambda: make_run(".venv/.loop"))]
    if arguments.dev:
        subjects.append(measure.Subject("make setup", lambda: make_run("setup")))
    peer = measure.Subject("the libraries alone", peer_run)
    subjects.append(peer)
    for subject in subjects:
        measure.say(f"filling the cache: {subject.name}")
        subject.run()
    measure.take_turns(subjects, arguments.runs)
    print(measure.heading(arguments.runs, "uv"))
    print()
    formats = {"set-up, s": "{:.1f}", "a second time, s": "{:.1f}", "size, MB": "{:.0f}", "files": "{:,.0f}"}
    print(measure.table(subjects, {subject.name: peer.name for subject in subjects if subject is not peer}, formats))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
