"""What a custom job costs over the script that it runs, the script being empty and the environment warm.

    .venv/bin/python -m benchmarks.custom_job

From the call that creates the job to the first answer in which it has SUCCEEDED, asked for every 5 ms. `a package`
is a source distribution that an earlier job has built. The peer is the same interpreter doing the same by itself:
nothing is installed, logged, isolated or stored.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.emulator_process import RunningEmulator, started_emulator

HOST = "us-central1-aiplatform.googleapis.com"
PARENT = "projects/benchmark-project/locations/us-central1"
IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
BUCKET = "benchmark-bucket"
PACKAGE = "trainer-0.1.tar.gz"

COMMAND = {"containerSpec": {"imageUri": IMAGE, "command": ["python3", "-c"], "args": ["pass"]}}
MODULE = {
    "pythonPackageSpec": {
        "executorImageUri": IMAGE,
        "packageUris": [f"gs://{BUCKET}/{PACKAGE}"],
        "pythonModule": "trainer.task",
    }
}


def job_run(emulator: RunningEmulator, task: dict[str, Any]) -> dict[str, float]:
    """Seconds of one job. Raises measure.NotMeasurable when it does not succeed."""
    pool = {"machineSpec": {"machineType": "n1-standard-4"}, "replicaCount": "1", **task}
    body = {"displayName": "empty", "jobSpec": {"workerPoolSpecs": [pool]}}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:
        began = time.perf_counter()
        job = call(connection, emulator, "POST", f"/v1/{PARENT}/customJobs", json.dumps(body).encode())
        while job["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
            time.sleep(0.005)
            job = call(connection, emulator, "GET", f"/v1/{job['name']}")
        took = time.perf_counter() - began
    if job["state"] != "JOB_STATE_SUCCEEDED":
        raise measure.NotMeasurable(f"the job ended as {job['state']}: {job.get('error', {}).get('message')}")
    return {"time, s": took}


def script_run(command: Sequence[str]) -> dict[str, float]:
    began = time.perf_counter()
    subprocess.run(command, env=measure.clean_environment(), check=True)
    return {"time, s": time.perf_counter() - began}


def _put_package(emulator: RunningEmulator) -> None:
    files = {
        "setup.py": "from setuptools import find_packages, setup\n"
        "setup(name='trainer', version='0.1', packages=find_packages())\n",
        "PKG-INFO": "Metadata-Version: 2.1\nName: trainer\nVersion: 0.1\n",
        "trainer/__init__.py": "",
        "trainer/task.py": "",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"trainer-0.1/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:
        storage = "storage.googleapis.com"
        bucket = json.dumps({"name": BUCKET}).encode()
        call(connection, emulator, "POST", "/storage/v1/b?project=benchmark-project", bucket, host=storage)
        path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={PACKAGE}"
        call(connection, emulator, "POST", path, packed.getvalue(), host=storage)


def call(
    connection: http.client.HTTPConnection,
    emulator: RunningEmulator,
    verb: str,
    path: str,
    body: bytes | None = None,
    *,
    host: str = HOST,
) -> Any:
    """What the emulator answers, as JSON. Raises measure.NotMeasurable for an error."""
    headers = {"Host": host, "Authorization": f"Bearer {emulator.token}", "Content-Type": "application/json"}
    connection.request(verb, path, body, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise measure.NotMeasurable(f"{verb} {path}: {response.status} {answer.decode(errors='replace')}")
    return json.loads(answer)


def interpreter() -> str:
    """That of the image's environment."""
    found = sorted(Path(sys.prefix, "environments").glob("sklearn-cpu.1-6-*/bin/python"))
    if not found:
        raise measure.NotMeasurable("there is no environment for sklearn-cpu.1-6; run `make setup`")
    return str(found[-1])


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__, runs=7).parse_args(argv)
    python = interpreter()
    with (
        tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name,
        started_emulator(Path(name) / "state") as emulator,
    ):
        _put_package(emulator)
        for task in (COMMAND, MODULE):  # the first of each finds things cold, as the peer never does
            job_run(emulator, task)
        subjects = [
            measure.Subject("a custom job, a command", lambda: job_run(emulator, COMMAND)),
            measure.Subject("a custom job, a package", lambda: job_run(emulator, MODULE)),
            measure.Subject("the script alone", lambda: script_run([python, "-c", "pass"])),
        ]
        measure.take_turns(subjects, arguments.runs)
    print(measure.heading(arguments.runs))
    print()
    print(measure.table(subjects, {}, {"time, s": "{:.3f}"}))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
