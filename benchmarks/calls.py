"""Unary calls per second: the emulator's GetEndpoint beside a bare grpcio server and a bare uvicorn application.

    .venv/bin/python -m benchmarks.calls

The bare servers answer the very bytes that the emulator answers, without reading the request. The gRPC caller is
Python's, messages left as bytes, which itself costs about as much as the bare server; the HTTP caller is wrk. Both
run beside the server on the same cores. `through the proxy` is how unmodified clients come: CONNECT and TLS.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from benchmarks import measure
from benchmarks.emulator_process import RunningEmulator, started_emulator

HOST = "us-central1-aiplatform.googleapis.com"
PARENT = "projects/benchmark-project/locations/us-central1"
METHOD = "/google.cloud.aiplatform.v1.EndpointService/GetEndpoint"
CONCURRENCY = (1, 16)
SECONDS = 3.0

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Target:
    """The emulator with one endpoint resource, and what it answers for it on either transport."""

    emulator: RunningEmulator
    name: str
    message: bytes
    document: bytes


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    with started_emulator(folder / "state") as emulator:
        operation = json.loads(_rest(emulator, "POST", f"{PARENT}/endpoints", {"displayName": "benchmark"}))
        while not operation.get("done"):
            operation = json.loads(_rest(emulator, "GET", operation["name"]))
        name = operation["response"]["name"]
        with plain_channel(emulator.port) as channel:
            message = get_endpoint(channel)(request(name), metadata=_identity(emulator))
        yield Target(emulator, name, message, _rest(emulator, "GET", name))


def request(name: str) -> bytes:
    """GetEndpointRequest: field 1 is the name."""
    encoded = name.encode()
    return b"\x0a" + bytes([len(encoded)]) + encoded


def plain_channel(port: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])


def get_endpoint(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
    """The call, messages left as bytes."""
    return channel.unary_unary(METHOD, request_serializer=bytes, response_deserializer=bytes)


def grpc_run(channel: grpc.Channel, name: str, identity: Metadata) -> dict[str, float]:
    """Calls per second with so many calls under way at a time."""
    call = get_endpoint(channel)
    sent = request(name)
    for _ in range(200):
        call(sent, metadata=identity)
    return {f"gRPC, {at_once} at once": _grpc_rate(call, sent, identity, at_once) for at_once in CONCURRENCY}


def _grpc_rate(
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes], sent: bytes, identity: Metadata, at_once: int
) -> float:
    counts = [0] * at_once
    stop = time.monotonic() + SECONDS

    def work(number: int) -> None:
        while time.monotonic() < stop:
            call(sent, metadata=identity)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def http_run(url: str, token: str) -> dict[str, float]:
    """Requests per second on so many kept connections."""
    return {f"REST, {at_once} at once": _http_rate(url, token, at_once) for at_once in CONCURRENCY}


def _http_rate(url: str, token: str, at_once: int) -> float:
    wrk = measure.program("wrk", "Debian's package wrk")
    headers = ["-H", f"Host: {HOST}", "-H", f"Authorization: Bearer {token}"]
    command = [wrk, "-t1", f"-c{at_once}", f"-d{SECONDS:.0f}s", *headers, url]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise measure.NotMeasurable(f"{url} answered errors: {output}")
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if found is None:
        raise measure.NotMeasurable(f"wrk printed no rate: {output}")
    return float(found[1])


def emulator_run(made: Target) -> dict[str, float]:
    with plain_channel(made.emulator.port) as channel:
        measured = grpc_run(channel, made.name, _identity(made.emulator))
    url = f"http://127.0.0.1:{made.emulator.port}/v1/{made.name}"
    return measured | http_run(url, made.emulator.token)


def proxied_run(made: Target) -> dict[str, float]:
    """gRPC the way clients come, in a process of its own: gRPC reads its roots and proxy from the environment."""
    variables = made.emulator.variables()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.calls", "--proxied-client", made.name, "--token", made.emulator.token],
        cwd=measure.ROOT, env=measure.clean_environment(**variables), stdout=subprocess.PIPE, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def bare_run(made: Target, folder: Path) -> dict[str, float]:
    measured: dict[str, float] = {}
    for kind, answer in (("grpc", made.message), ("http", made.document)):
        file = folder / f"answer-{kind}"
        file.write_bytes(answer)
        with measure.running([sys.executable, "-m", "benchmarks.bare_servers", kind, str(file)]) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if kind == "grpc":
                with plain_channel(port) as channel:
                    measured |= grpc_run(channel, made.name, _identity(made.emulator))
            else:
                measure.wait_for_http(process, port)
                measured |= http_run(f"http://127.0.0.1:{port}/v1/{made.name}", made.emulator.token)
    return measured


def _identity(emulator: RunningEmulator) -> Metadata:
    return (("authorization", f"Bearer {emulator.token}"),)


def _rest(emulator: RunningEmulator, verb: str, path: str, body: Any = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    with contextlib.closing(connection):
        headers = {"Host": HOST, "Authorization": f"Bearer {emulator.token}", "Content-Type": "application/json"}
        connection.request(verb, f"/v1/{path}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    if response.status != 200:
        raise measure.NotMeasurable(f"{verb} {path}: {response.status} {answer.decode(errors='replace')}")
    return answer


def main(argv: Sequence[str] | None = None) -> int:
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--proxied-client", metavar="NAME", help="for this program's own use")
    parser.add_argument("--token", help="for this program's own use")
    arguments = parser.parse_args(argv)
    if arguments.proxied_client:
        with grpc.secure_channel(f"{HOST}:443", grpc.ssl_channel_credentials()) as channel:
            identity = (("authorization", f"Bearer {arguments.token}"),)
            print(json.dumps(grpc_run(channel, arguments.proxied_client, identity)))
        return 0
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as name:
        folder = Path(name)
        with target(folder) as made:
            subjects = [
                measure.Subject("selfloop", lambda: emulator_run(made)),
                measure.Subject("selfloop, through the proxy", lambda: proxied_run(made)),
                measure.Subject("bare servers", lambda: bare_run(made, folder)),
            ]
            measure.take_turns(subjects, arguments.runs)
    formats = {f"{kind}, {at_once} at once": "{:,.0f}/s" for kind in ("gRPC", "REST") for at_once in CONCURRENCY}
    print(measure.heading(arguments.runs, "grpcio", "uvicorn", "httptools", "uvloop"))
    print()
    print(measure.table(subjects, dict.fromkeys(("selfloop", subjects[1].name), "bare servers"), formats))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
