"""What a step of a pipeline costs, its component being a function that adds one, beside `kfp.local`.

    .venv/bin/python -m benchmarks.pipelines

Five such steps in a row, from the call that creates the job to the first answer in which it has SUCCEEDED, asked for
every 20 ms, by five; the environment is there, nothing comes from the cache. `kfp.local` runs the same pipeline with
its SubprocessRunner: with a virtual environment for each step (its default; one step is measured), and without.
Then: two branches of a second each side by side, and what 100 steps in a ParallelFor add to the emulator's memory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.custom_job import BUCKET, PARENT, call
from benchmarks.emulator_process import RunningEmulator, started_emulator

STEPS = 5
_SECONDS_FOR_A_RUN = 300.0
#: Asking oftener would take the processor from what is measured.
_LOOK_SECONDS = 0.02
_WRITTEN = """
import sys, time, warnings
warnings.simplefilter("ignore")
from kfp import compiler, dsl, local

@dsl.component(base_image="python:3.11")
def add(n: int) -> int:
    return n + 1

@dsl.component(base_image="python:3.11")
def rest(seconds: float):
    import time
    time.sleep(seconds)

@dsl.pipeline(name="row")
def row(n: int = 0) -> int:
    step = add(n=n)
    for _ in range(STEPS - 1):
        step = add(n=step.output)
    return step.output

@dsl.pipeline(name="one")
def one(n: int = 0) -> int:
    return add(n=n).output

@dsl.pipeline(name="branches")
def branches():
    rest(seconds=1.0)
    rest(seconds=1.0)

@dsl.pipeline(name="wide")
def wide():
    with dsl.ParallelFor(list(range(100))) as n:
        add(n=n)
""".replace("STEPS", str(STEPS))
_COMPILE = (
    _WRITTEN
    + """
for each in (row, branches, wide):
    compiler.Compiler().compile(each, f"{each.name}.yaml")
"""
)
_LOCAL = (
    _WRITTEN
    + """
with_venv = sys.argv[1] == "venv"
local.init(runner=local.SubprocessRunner(use_venv=with_venv))
began = time.perf_counter()
task = (one if with_venv else row)(n=0)
print("took", (time.perf_counter() - began) / (1 if with_venv else STEPS), task.output)
""".replace("STEPS", str(STEPS))
)


def step_run(emulator: RunningEmulator, spec: Any) -> dict[str, float]:
    return {"a step, s": run(emulator, spec) / STEPS}


def run(emulator: RunningEmulator, spec: Any) -> float:
    """Seconds of one run. Raises measure.NotMeasurable when it does not succeed."""
    body = {"displayName": "run", "pipelineSpec": spec, "runtimeConfig": {"gcsOutputDirectory": f"gs://{BUCKET}/root"}}
    path = f"/v1/{PARENT}/pipelineJobs?pipelineJobId=run-{time.monotonic_ns()}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:
        began = time.perf_counter()
        job = call(connection, emulator, "POST", path, json.dumps(body).encode())
        while job["state"] in ("PIPELINE_STATE_PENDING", "PIPELINE_STATE_RUNNING"):
            if time.perf_counter() - began > _SECONDS_FOR_A_RUN:
                raise measure.NotMeasurable(f"{job['name']} takes more than {_SECONDS_FOR_A_RUN:g} s")
            time.sleep(_LOOK_SECONDS)
            job = call(connection, emulator, "GET", f"/v1/{job['name']}")
        took = time.perf_counter() - began
    if job["state"] != "PIPELINE_STATE_SUCCEEDED":
        raise measure.NotMeasurable(f"the run ended as {job['state']}: {job.get('error', {}).get('message')}")
    return took


def local_run(folder: Path, mode: str) -> dict[str, float]:
    """Seconds that a step takes `kfp.local`. mode: venv or plain."""
    done = subprocess.run(
        [sys.executable, "local.py", mode], cwd=folder, env=measure.clean_environment(), capture_output=True,
        text=True, timeout=_SECONDS_FOR_A_RUN, check=False,
    )  # fmt: skip
    told = [line.split() for line in done.stdout.splitlines() if line.startswith("took ")]
    if not told:
        raise measure.NotMeasurable(f"kfp.local failed: {done.stderr[-500:] or done.stdout[-500:]}")
    return {"a step, s": float(told[-1][1])}


def added_memory(emulator: RunningEmulator, spec: Any) -> float:
    """MB that a run adds to the emulator's own peak; its steps are other processes."""

    def peak() -> float:
        lines = Path(f"/proc/{emulator.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

    before = peak()
    run(emulator, spec)
    return peak() - before


def _compiled(folder: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    (folder / "compile.py").write_text(_COMPILE)
    (folder / "local.py").write_text(_LOCAL)
    subprocess.run([sys.executable, "compile.py"], cwd=folder, env=measure.clean_environment(), check=True)
    specs = {name: YAML(typ="safe").load(folder / f"{name}.yaml") for name in ("row", "branches", "wide")}
    for spec in specs.values():
        _let_nothing_be_cached(spec)
    return specs


def _let_nothing_be_cached(node: Any) -> None:
    if isinstance(node, dict):
        if "cachingOptions" in node:
            node["cachingOptions"] = {}
        for inner in node.values():
            _let_nothing_be_cached(inner)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__, runs=5).parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name,
        started_emulator(Path(name) / "state") as emulator,
    ):
        specs = _compiled(Path(name))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:
            bucket = json.dumps({"name": BUCKET}).encode()
            path = "/storage/v1/b?project=benchmark-project"
            call(connection, emulator, "POST", path, bucket, host="storage.googleapis.com")
        for _ in range(2):
            run(emulator, specs["row"])
        plain, default = "kfp.local, no environments", "kfp.local, an environment a step"
        subjects = [
            measure.Subject("selfloop", lambda: step_run(emulator, specs["row"])),
            measure.Subject(plain, lambda: local_run(Path(name), "plain")),
            measure.Subject(default, lambda: local_run(Path(name), "venv")),
        ]
        measure.take_turns(subjects, arguments.runs)
        branches = min(run(emulator, specs["branches"]) for _ in range(arguments.runs))
        memory = added_memory(emulator, specs["wide"])
        wide = run(emulator, specs["wide"])
    print(measure.heading(arguments.runs, "kfp"))
    print()
    print(measure.table(subjects, {plain: "selfloop", default: "selfloop"}, {"a step, s": "{:.3f}"}))
    print()
    print(f"Two branches of a second each: {branches:.2f} s at best. 100 steps in a ParallelFor: {wide:.1f} s; the")
    print(f"first such run added {memory:.0f} MB to the emulator's memory.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
