"""Data sets: one object in a bucket each, made by a generator of `ml` or taken from a file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import ROOT, Config, Dataset
from ops.errors import OpsError, ResourceNotFound
from ops.progress import Report

GENERATE_SECONDS = 3600
UPLOAD_SECONDS = 3600
HEAD_BYTES = 256 * 1024


def find(config: Config, clients: Clients, key: str) -> str | None:
    """The object's generation; None when it is not there."""
    dataset = config.datasets[key]
    bucket = clients.storage.bucket(config.bucket_name(dataset.bucket))
    blob = bucket.get_blob(dataset.object, timeout=TIMEOUT_SECONDS)
    return None if blob is None else str(blob.generation)


def make(config: Config, clients: Clients, key: str, report: Report) -> str:
    """Generate a missing data set; gives back the object's generation.

    Raises ResourceNotFound when its configuration names no generator.
    """
    if config.datasets[key].generator is None:
        raise ResourceNotFound(
            f"{config.dataset_uri(key)} does not exist and the data set {key} names no generator; "
            f"upload it with: inv data.import PATH --env {config.environment}"
        )
    return seed(config, clients, key, report)


def seed(
    config: Config,
    clients: Clients,
    key: str,
    report: Report,
    *,
    rows: int | None = None,
    random_seed: int | None = None,
) -> str:
    """Generate the data set and upload it; gives back the object's generation."""
    with generated(config.datasets[key], rows, random_seed) as file:
        return upload(config, clients, key, file, report)


def upload(config: Config, clients: Clients, key: str, file: Path, report: Report) -> str:
    """Make the data set's object of a local file; gives back its generation."""
    if not file.is_file():
        raise OpsError(f"{file} is no file; give the path of one")
    dataset = config.datasets[key]
    blob = clients.storage.bucket(config.bucket_name(dataset.bucket)).blob(dataset.object)
    size = file.stat().st_size
    with (
        bucket_of(config, dataset.bucket),
        file.open("rb") as handle,
        report.reading(handle, size, dataset.object) as shown,
    ):
        # The client compares the CRC32C of what was stored with its own.
        blob.upload_from_file(shown, size=size, content_type="text/csv", checksum="crc32c", timeout=UPLOAD_SECONDS)
    return str(blob.generation)


@contextmanager
def bucket_of(config: Config, key: str) -> Iterator[None]:
    """Say of a bucket that is not there how it is made. Raises ResourceNotFound."""
    from google.api_core.exceptions import NotFound

    try:
        yield
    except NotFound:
        raise ResourceNotFound(
            f"bucket {config.bucket_name(key)} does not exist; make it with: inv init --env {config.environment}"
        ) from None


@contextmanager
def head(config: Config, clients: Clients, key: str) -> Iterator[Path]:
    """The first lines of the data set's object as a local file, for as long as the block runs.

    Raises ResourceNotFound when the object is not there.
    """
    from google.api_core.exceptions import NotFound

    dataset = config.datasets[key]
    blob = clients.storage.bucket(config.bucket_name(dataset.bucket)).blob(dataset.object)
    try:
        beginning: bytes = blob.download_as_bytes(start=0, end=HEAD_BYTES - 1, timeout=TIMEOUT_SECONDS)
    except NotFound:
        raise ResourceNotFound(
            f"{config.dataset_uri(key)} does not exist; make it with: inv data.seed --env {config.environment}"
        ) from None
    if len(beginning) == HEAD_BYTES:
        beginning = beginning[: beginning.rfind(b"\n") + 1]
    with tempfile.TemporaryDirectory(prefix="selfloop-data-") as folder:
        file = Path(folder) / Path(dataset.object).name
        file.write_bytes(beginning)
        yield file


@contextmanager
def generated(dataset: Dataset, rows: int | None = None, random_seed: int | None = None) -> Iterator[Path]:
    """The data set's generator's output as a file, for as long as the block runs."""
    if dataset.generator is None:
        raise OpsError("this data set names no generator; give a file with --data PATH")
    with tempfile.TemporaryDirectory(prefix="selfloop-data-") as folder:
        file = Path(folder) / Path(dataset.object).name
        _generate(dataset, file, rows, random_seed)
        yield file


def _generate(dataset: Dataset, file: Path, rows: int | None, random_seed: int | None) -> None:
    """Run the generator.

    Raises OpsError with its last line when it fails.
    """
    command = [
        sys.executable, "-m", str(dataset.generator), "--out", str(file),
        "--rows", str(dataset.rows if rows is None else rows),
        "--seed", str(dataset.seed if random_seed is None else random_seed),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=GENERATE_SECONDS)
    except subprocess.TimeoutExpired:
        raise OpsError(f"the generator did not end within {GENERATE_SECONDS} s; ask for fewer rows") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise OpsError(f"the generator failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
