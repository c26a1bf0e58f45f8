"""/gcs in custom jobs, as training code uses it, at both sandbox levels.

Source: https://cloud.google.com/vertex-ai/docs/training/cloud-storage-file-system
"""

from __future__ import annotations

import base64
import gc
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.aiplatform_v1 import CustomJob, JobServiceClient, JobState
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
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
        self.logging = emulator.client(LoggingServiceV2Client)

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

    def log(self, job: str) -> list[str]:
        """What Cloud Logging has of a job's output."""
        found = self.logging.list_log_entries(
            resource_names=[f"projects/{self.client.project}"],
            filter=f'resource.type="ml_job" resource.labels.job_id="{job.rpartition("/")[2]}"',
        )
        return [str(entry.json_payload["message"]) if entry.json_payload else entry.text_payload for entry in found]

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
        made.logging.transport.close()
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
        "out/model/weights.bin", "out/atomic.json", "out/nothing.txt", "out/ünï côde", "out/empty/",
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
                file.write(b"j" * (10_000 + number % 5_000))
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
    # The forgotten connections are told of here, where that is expected, and not in a later test.
    gc.collect()


def test_job_sees_folder_objects_and_makes_them(world: World) -> None:
    """As gcsfuse has it: an empty folder is an object `name/`, and one such object is a folder."""
    bucket = world.bucket
    for name in ("given/", "moved/", "removed/", "deep/er/"):
        bucket.blob(name).upload_from_string(b"")
    world.run(
        """
        assert sorted(p.name for p in here.iterdir()) == ["deep", "given", "moved", "removed"]
        assert (here / "deep/er").is_dir() and not list((here / "deep/er").iterdir())
        os.rename(here / "moved", here / "elsewhere")
        (here / "removed").rmdir()
        (here / "made/by/job").mkdir(parents=True)
        (here / "given/file").touch()
        """
    )
    assert world.names() == ["deep/er/", "elsewhere/", "given/", "given/file", "made/by/job/"]
    bucket.blob("made/by/job/").delete()
    world.run("assert not (here / 'made').exists()")


def test_what_a_job_replaces_or_deletes_is_kept_as_the_bucket_wants_it(world: World) -> None:
    """Versions where the bucket keeps them; what is held is put back, and the job's log says so."""
    bucket = world.bucket
    bucket.blob("soft/deleted").upload_from_string("before")
    versioned = world.client.bucket(f"{bucket.name}-versioned")
    versioned.versioning_enabled = True
    versioned.create()
    for name in ("changed", "gone", "held"):
        versioned.blob(name).upload_from_string(f"{name}, before")
    held = versioned.get_blob("held")
    assert held is not None
    held.temporary_hold = True
    held.patch()
    job = world.start(
        """
        (here / "soft/deleted").unlink()
        versioned = pathlib.Path(f"{here}-versioned")
        for name in ("changed", "held"):
            (versioned / name).write_text("by the job")
        (versioned / "gone").unlink()
        """
    )
    world.finish(job)
    (gone,) = bucket.list_blobs(soft_deleted=True)
    assert bucket.restore_blob(gone.name, generation=gone.generation).download_as_bytes() == b"before"
    contents = [
        (blob.name, versioned.blob(blob.name, generation=blob.generation).download_as_text())
        for blob in versioned.list_blobs(versions=True)
    ]
    assert contents == [
        ("changed", "changed, before"),
        ("changed", "by the job"),
        ("gone", "gone, before"),
        ("held", "held, before"),
    ]
    assert [blob.name for blob in versioned.list_blobs()] == ["changed", "held"]
    log = wait_until(lambda: [line for line in world.log(job) if "/held:" in line], 20)
    assert "under active Temporary hold" in log[0]
    assert log[0].endswith("It was put back.")


def test_bucket_made_while_a_job_runs_is_there_for_it(world: World) -> None:
    job = world.start(
        """
        (here / "ready").touch()
        later = pathlib.Path(f"{here}-later")
        deadline = time.monotonic() + 60
        while not (later / "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (later / "done").write_text("by the job")
        """
    )
    wait_until(world.bucket.blob("ready").exists, 60)
    later = world.client.create_bucket(f"{world.bucket.name}-later")
    later.blob("go").upload_from_string(b"")
    world.finish(job)
    assert later.blob("done").download_as_bytes() == b"by the job"


def test_file_is_an_object_once_it_is_closed_and_at_the_latest_at_the_end(world: World) -> None:
    bucket = world.bucket
    bucket.blob("appended").upload_from_string("first\n")
    job = world.start(
        """
        left_open = open(here / "left-open", "w")
        left_open.write("said and never closed")
        left_open.flush()
        appended = open(here / "appended", "a")
        appended.write("second\\n")
        appended.flush()
        (here / "closed").write_text("whole")
        deadline = time.monotonic() + 60
        while not (here / "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os._exit(0)
        """
    )
    wait_until(bucket.blob("closed").exists, 60)
    assert world.names() == ["appended", "closed"]
    assert not bucket.blob("left-open").exists()
    bucket.blob("go").upload_from_string(b"")
    world.finish(job)
    assert bucket.blob("left-open").download_as_bytes() == b"said and never closed"
    assert bucket.blob("appended").download_as_bytes() == b"first\nsecond\n"


# As above: while the folder is a link, the answer may be 503.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_link_that_a_job_swaps_in_never_leads_the_api_elsewhere(world: World) -> None:
    """While a job swaps a folder for a link to /etc and back, the API reads the object or finds none."""
    bucket = world.bucket
    bucket.blob("folder/hosts").upload_from_string("the object")
    job = world.start(
        """
        (here / "ready").touch()
        deadline = time.monotonic() + 60
        while not (here / "stop").exists() and time.monotonic() < deadline:
            os.rename(here / "folder", here / "aside")
            os.symlink("/etc", here / "folder")
            os.unlink(here / "folder")
            os.rename(here / "aside", here / "folder")
        """
    )
    wait_until(bucket.blob("ready").exists, 60)
    seen = set()
    for _ in range(150):
        try:
            seen.add(bucket.blob("folder/hosts").download_as_bytes())
        except NotFound:
            seen.add(None)
        assert not [name for name in world.names("folder/") if name != "folder/hosts"]
    bucket.blob("stop").upload_from_string(b"")
    world.finish(job)
    assert seen <= {b"the object", None}
    assert b"the object" in seen
    assert bucket.blob("folder/hosts").download_as_bytes() == b"the object"
