"""What serving a model costs over its worker alone: until it is ready, and each prediction.

    .venv/bin/python -m benchmarks.predictions

The model is a forest of 100 trees on 9 features, asked one row at a time over one kept connection. The peer is the
very program that the emulator runs, started and asked by hand over its Unix socket.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.custom_job import BUCKET, PARENT, call, interpreter
from benchmarks.emulator_process import RunningEmulator, started_emulator

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
WORKER = measure.ROOT / "emulator" / "runners" / "model_server"
REQUESTS = 500
BODY = json.dumps({"instances": [[0.1] * 9]}).encode()
TRAIN = (
    "import joblib, numpy, sys; from sklearn.ensemble import RandomForestClassifier as Forest; "
    "x = numpy.random.default_rng(0).normal(size=(2000, 9)); "
    "joblib.dump(Forest(100, random_state=0).fit(x, x.sum(1) > 0), sys.argv[1])"
)


class SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def worker_run(model: Path, folder: Path) -> dict[str, float]:
    address = folder / "socket"
    address.unlink(missing_ok=True)
    command = [interpreter(), str(WORKER), "--framework", "sklearn", "--model", str(model), "--socket", str(address)]
    began = time.perf_counter()
    with measure.running(command, measure.clean_environment(OMP_NUM_THREADS="1")) as process:
        while True:
            with contextlib.suppress(OSError), contextlib.closing(SocketConnection(str(address))) as connection:
                connection.request("GET", "/health")
                connection.getresponse().read()
                break
            if process.poll() is not None:
                raise measure.NotMeasurable("the worker ended")
            time.sleep(0.005)
        ready = time.perf_counter() - began
        with contextlib.closing(SocketConnection(str(address))) as connection:

            def ask() -> None:
                connection.request("POST", "/predict", BODY)
                connection.getresponse().read()

            return {"ready, s": ready} | asked(ask)


def emulator_run(emulator: RunningEmulator, model: str) -> dict[str, float]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:

        def post(path: str, document: Any) -> Any:
            return call(connection, emulator, "POST", f"/v1/{path}", json.dumps(document).encode())

        def wait(operation: Any) -> Any:
            while not operation.get("done"):
                time.sleep(0.005)
                operation = call(connection, emulator, "GET", f"/v1/{operation['name']}")
            if "error" in operation:
                raise measure.NotMeasurable(operation["error"]["message"])
            return operation["response"]

        endpoint = wait(post(f"{PARENT}/endpoints", {"displayName": "benchmark"}))["name"]
        deployed = {"model": model, "dedicatedResources": {"machineSpec": {}, "minReplicaCount": 1}}
        began = time.perf_counter()
        identifier = wait(post(f"{endpoint}:deployModel", {"deployedModel": deployed, "trafficSplit": {"0": 100}}))
        ready = time.perf_counter() - began
        measured = asked(lambda: call(connection, emulator, "POST", f"/v1/{endpoint}:predict", BODY))
        wait(post(f"{endpoint}:undeployModel", {"deployedModelId": identifier["deployedModel"]["id"]}))
    return {"ready, s": ready} | measured


def asked(ask: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of one request after another."""
    for _ in range(50):
        ask()
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    return {"p50, ms": statistics.median(times), "p99, ms": statistics.quantiles(times, n=100)[98]}


def uploaded(emulator: RunningEmulator, file: Path) -> str:
    """The name of the registered model."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)) as connection:
        storage = "storage.googleapis.com"
        bucket = json.dumps({"name": BUCKET}).encode()
        call(connection, emulator, "POST", "/storage/v1/b?project=benchmark-project", bucket, host=storage)
        path = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=m/{file.name}"
        call(connection, emulator, "POST", path, file.read_bytes(), host=storage)
        model = {"displayName": "m", "artifactUri": f"gs://{BUCKET}/m", "containerSpec": {"imageUri": IMAGE}}
        body = json.dumps({"model": model}).encode()
        operation = call(connection, emulator, "POST", f"/v1/{PARENT}/models:upload", body)
        while not operation.get("done"):
            operation = call(connection, emulator, "GET", f"/v1/{operation['name']}")
    return str(operation["response"]["model"])


def main(argv: Sequence[str] | None = None) -> int:
    arguments = measure.parser(__doc__, runs=3).parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        folder = Path(name)
        model = folder / "model"
        os.mkdir(model)
        subprocess.run(
            [interpreter(), "-c", TRAIN, str(model / "model.joblib")], env=measure.clean_environment(), check=True
        )
        with started_emulator(folder / "state") as emulator:
            registered = uploaded(emulator, model / "model.joblib")
            subjects = [
                measure.Subject("selfloop", lambda: emulator_run(emulator, registered)),
                measure.Subject("the worker alone", lambda: worker_run(model, folder)),
            ]
            measure.take_turns(subjects, arguments.runs)
    formats = {"ready, s": "{:.2f}", "p50, ms": "{:.2f}", "p99, ms": "{:.2f}"}
    print(measure.heading(arguments.runs))
    print()
    print(measure.table(subjects, {"selfloop": "the worker alone"}, formats))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
