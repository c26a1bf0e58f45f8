"""/gcs in custom jobs, as training code uses it, at both sandbox levels.

Source: https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import pytest
from google.cloud.aiplatform_v1 import CustomJob, JobServiceClient, JobState
from google.cloud.storage import Bucket, Client

from tests.conftest import LOCATION, REQUIRE_ALL, Emulator, wait_until

IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
FINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)


class World:
    """An emulator at one sandbox level, a bucket in it, and jobs that see it at /gcs."""

    def __init__(self, emulator: Emulator, project: str) -> None:
        self.parent = f"projects/{project}/locations/{LOCATION}"
        self.client = Client(project=project)
        self.bucket: Bucket = self.client.create_bucket(f"{project}-bucket")
        self.jobs = emulator.client(JobServiceClient)

    def start(self, program: str) -> str:
        """Run a program whose `here` is the bucket's folder; gives back the job's name."""
        head = f"import os, pathlib, sys, time\nhere = pathlib.Path('/gcs/{self.bucket.name}')\n"
        pool = {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "container_spec": {
                "image_uri": IMAGE, "command": ["python3", "-c"], "args": [head + textwrap.dedent(program)],
            },
        }  # fmt: skip
        job = CustomJob(display_name="gcs", job_spec={"worker_pool_specs": [pool]})
        return str(self.jobs.create_custom_job(parent=self.parent, custom_job=job).name)

    def finish(self, name: str) -> None:
        """Wait for the job; the test fails with its traceback unless it succeeds."""

        def look() -> CustomJob | None:
            job = self.jobs.get_custom_job(name=name)
            return job if job.state in FINAL else None

        job = wait_until(look, 90)
        assert job.state == JobState.JOB_STATE_SUCCEEDED, job.error.message

    def run(self, program: str) -> None:
        self.finish(self.start(program))

    def names(self, prefix: str = "") -> list[str]:
        return [blob.name for blob in self.bucket.list_blobs(prefix=prefix)]


@pytest.fixture(params=["full", "none"])
def world(new_emulator: Callable[..., Emulator], project: str, request: pytest.FixtureRequest) -> Iterator[World]:
    emulator = new_emulator("--sandbox", request.param)
    level = emulator.control("GET", "health")["sandbox"]
    if level != request.param:
        if REQUIRE_ALL:
            pytest.fail(f"level {request.param} is not to be had here")
        pytest.skip(f"level {request.param} is not to be had here")
    with emulator.exported():
        made = World(emulator, project)
        yield made
        made.jobs.transport.close()
        made.client.close()


def test_job_works_on_objects_as_on_files(world: World) -> None:
    """One job, for a start of each level costs seconds: everything that gcsfuse lets training code do."""
    bucket = world.bucket
    given = ("in/data.csv", "in/sub/more.csv", "changed", "appended", "renamed/from", "gone/a", "gone/b", "rewritten")
    for name in given:
        bucket.blob(name).upload_from_string(f"{name}\n")
    bucket.blob("kept//apart").upload_from_string("no path stands for it")
    before = {blob.name: blob.generation for blob in bucket.list_blobs()}
    world.run(
        """
        import shutil
        assert (here / "in/data.csv").read_text() == "in/data.csv\\n"
        assert sorted(p.name for p in (here / "in").iterdir()) == ["data.csv", "sub"]
        assert (here / "in/sub").is_dir() and not (here / "nothing").exists()
        (here / "changed").write_text("by the job\\n")
        with open(here / "appended", "a") as file:
            file.write("a second line\\n")
        with open(here / "rewritten", "r+") as file:
            file.seek(3)
            file.write("RITTEN")
        os.rename(here / "renamed/from", here / "renamed/to")
        shutil.rmtree(here / "gone")
        (here / "out/model").mkdir(parents=True)
        (here / "out/model/weights.bin").write_bytes(bytes(range(256)) * 4096)
        with open(here / "out/temporary", "w") as file:
            file.write("whole")
        os.replace(here / "out/temporary", here / "out/atomic.json")
        (here / "out/empty").mkdir()
        (here / "out/nothing.txt").touch()
        os.chmod(here / "changed", 0o600)
        (here / "out/ünï côde").write_text("x")
        """
    )
    assert bucket.blob("changed").download_as_bytes() == b"by the job\n"
    assert bucket.blob("appended").download_as_bytes() == b"appended\na second line\n"
    assert bucket.blob("rewritten").download_as_bytes() == b"rewRITTEN\n"
    after = {blob.name: blob for blob in bucket.list_blobs()}
    assert set(after) == {
        "in/data.csv", "in/sub/more.csv", "changed", "appended", "renamed/to", "rewritten", "kept//apart",
        "out/model/weights.bin", "out/atomic.json", "out/nothing.txt", "out/ünï côde",
    }  # fmt: skip
    assert after["out/model/weights.bin"].content_type == "application/octet-stream"
    assert after["out/atomic.json"].content_type == "application/json"
    weights = bytes(range(256)) * 4096
    checksum = base64.b64decode(after["out/model/weights.bin"].crc32c)
    assert int.from_bytes(checksum, "big") == google_crc32c.value(weights)
    assert after["out/model/weights.bin"].download_as_bytes(checksum="md5") == weights
    for name in ("changed", "appended", "rewritten"):
        assert after[name].generation > before[name], name
        assert after[name].metageneration == 1
    for name in ("in/data.csv", "in/sub/more.csv", "kept//apart"):
        assert after[name].generation == before[name], name
    # Links and devices that a job leaves are no objects, and lead nowhere.
    world.run(
        """
        os.symlink("/etc/passwd", here / "link")
        os.symlink("/etc", here / "folder-link")
        os.mkfifo(here / "pipe")
        os.rename(here / "in", here / "elsewhere")
        os.symlink("elsewhere", here / "in")
        """
    )
    assert not {"link", "pipe", "folder-link/passwd", "in/data.csv"} & set(world.names())
    assert {"elsewhere/data.csv", "elsewhere/sub/more.csv"} <= set(world.names())
    for name in ("link", "pipe", "folder-link/passwd", "in/data.csv"):
        assert not bucket.blob(name).exists(), name
    # An upload through the link that stands in its folder's place stays in its bucket.
    bucket.blob("folder-link/passwd").upload_from_string("harmless")
    assert bucket.blob("folder-link/passwd").download_as_bytes() == b"harmless"
    assert "harmless" not in Path("/etc/passwd").read_text()


# Where a job replaces the file while it is opened, the answer is 503: the client tries again and forgets a connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_job_and_api_write_one_object_at_once(world: World) -> None:
    """Each write is whole, each is a generation, and the last one wins."""
    bucket = world.bucket
    blob = bucket.blob("shared")
    blob.upload_from_string(b"start")
    job = world.start(
        """
        deadline = time.monotonic() + 60
        number = 0
        while not (here / "stop").exists() and time.monotonic() < deadline:
            number += 1
            with open(here / "own-temporary", "wb") as file:
                file.write(b"j" * (10_000 + number))
            os.replace(here / "own-temporary", here / "shared")
            with open(here / "in-place", "wb") as file:
                file.write(b"j" * 5000)
                file.flush()
                file.write(b"j" * 5000)
        (here / "shared").write_bytes(b"the job's last")
        """
    )
    wait_until(bucket.blob("in-place").exists, 60)
    generations: list[int] = []
    for number in range(60):
        blob.upload_from_string(b"a" * (20_000 + number))
        generations.append(blob.generation)
        found = bucket.blob("shared").download_as_bytes()
        assert len(set(found)) == 1, "a mixture of two writes"
        assert (found[:1], len(found) >= 20_000) in ((b"a", True), (b"j", False))
    assert generations == sorted(set(generations))
    bucket.blob("stop").upload_from_string(b"")
    world.finish(job)
    # A blob that was uploaded goes on asking for its own generation.
    assert bucket.blob("shared").download_as_bytes() == b"the job's last"
    final = bucket.get_blob("shared")
    assert final is not None
    assert final.generation > generations[-1]
    assert bucket.blob("in-place").download_as_bytes() == b"j" * 10_000
    assert world.names("own-temporary") == []
