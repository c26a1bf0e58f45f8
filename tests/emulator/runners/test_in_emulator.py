"""Containers under a real emulator: code in a sandbox uses official clients and pip as it would on Google Cloud."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud.aiplatform_v1 import CustomJob, JobServiceClient, JobState

from emulator.settings import SandboxLevel
from tests.conftest import Emulator, wait_until
from tests.emulator.runners.conftest import IMAGE, index_is_reachable, require_full, source_distribution

FINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)
STORAGE = """
import google.auth
from google.cloud import storage
credentials, _ = google.auth.default()
print("as", credentials.service_account_email)
bucket = storage.Client().bucket("%(bucket)s")
bucket.blob("greeting").upload_from_string("hello")
assert open("/gcs/%(bucket)s/greeting").read() == "hello"
with open("/gcs/%(bucket)s/answer", "w") as file:
    file.write("hello yourself")
"""


@pytest.fixture
def at_level(level: SandboxLevel, new_emulator: Callable[..., Emulator]) -> Callable[..., Emulator]:
    if level == "full":
        require_full()
    return lambda *options: new_emulator("--sandbox", level, *options)


def run(emulator: Emulator, parent: str, spec: dict[str, object]) -> CustomJob:
    jobs = emulator.client(JobServiceClient)
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, **spec}
    job = {"display_name": "job", "job_spec": {"worker_pool_specs": [pool]}}
    name = jobs.create_custom_job(parent=parent, custom_job=job).name  # type: ignore[arg-type]  # proto-plus takes dicts

    def finished() -> CustomJob | None:
        found = jobs.get_custom_job(name=name)
        return found if found.state in FINAL else None

    return wait_until(finished, 120)  # type: ignore[no-any-return]


def bucket_of(emulator: Emulator, project: str) -> str:
    from google.cloud.storage import Client

    with emulator.exported():
        name = f"{project}-bucket"
        Client(project=project).create_bucket(name)
    return name


def test_code_uses_storage_with_the_job_s_identity_and_gcs(
    at_level: Callable[..., Emulator], project: str, parent: str
) -> None:
    from google.cloud.storage import Client

    emulator = at_level()
    bucket = bucket_of(emulator, project)
    source = STORAGE % {"bucket": bucket}
    spec = {"image_uri": IMAGE, "command": ["python3", "-c", source], "args": [f"/gcs/{bucket}"]}
    job = run(emulator, parent, {"container_spec": spec})
    assert job.state == JobState.JOB_STATE_SUCCEEDED, job.error.message
    with emulator.exported():
        blob = Client(project=project).bucket(bucket).blob("answer")
        assert blob.download_as_text() == "hello yourself"


def test_package_that_is_not_installed_comes_by_default_and_not_without_egress(
    level: SandboxLevel, at_level: Callable[..., Emulator], project: str, parent: str, tmp_path: Path
) -> None:
    from google.cloud.storage import Client

    package = tmp_path / "trainer-0.1.tar.gz"
    package.write_bytes(source_distribution("import cowsay; cowsay.cow('moo')", requires=["cowsay"]))
    for options in (("--no-egress",), ()):
        if not options and not index_is_reachable():
            pytest.skip("no package index can be reached from here")
        emulator = at_level(*options)
        bucket = bucket_of(emulator, project)
        with emulator.exported():
            Client(project=project).bucket(bucket).blob(package.name).upload_from_filename(str(package))
        spec = {
            "executor_image_uri": IMAGE,
            "package_uris": [f"gs://{bucket}/{package.name}"],
            "python_module": "trainer.task",
        }
        job = run(emulator, parent, {"python_package_spec": spec})
        if options:
            assert job.state == JobState.JOB_STATE_FAILED
            assert "trainer needs cowsay, which the environment of" in job.error.message
            assert "emulator.egress in config lets nothing out: add package-index" in job.error.message
        else:
            assert job.state == JobState.JOB_STATE_SUCCEEDED, job.error.message
