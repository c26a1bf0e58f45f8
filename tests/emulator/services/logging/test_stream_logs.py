"""What a job prints, streamed by gcloud from an emulator whose clock was advanced."""

from __future__ import annotations

from collections.abc import Callable

from google.cloud.aiplatform_v1 import JobServiceClient
from google.cloud.aiplatform_v1.types import CustomJob, JobState

from tests.conftest import Emulator, require_program, wait_until

IMAGE = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
HOURS = 48


def test_stream_logs_shows_a_jobs_lines_after_an_advance(new_emulator: Callable[..., Emulator], project: str) -> None:
    gcloud = require_program("gcloud")
    emulator = new_emulator()
    emulator.control("POST", "clock", {"advance_seconds": HOURS * 3600})
    container = {"image_uri": IMAGE, "command": ["python3", "-c", "print('it is', 40 + 2)"]}
    pool = {"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, "container_spec": container}
    job = CustomJob({"display_name": "late", "job_spec": {"worker_pool_specs": [pool]}})
    with emulator.client(JobServiceClient) as jobs:
        name = jobs.create_custom_job(parent=f"projects/{project}/locations/us-central1", custom_job=job).name
        wait_until(lambda: jobs.get_custom_job(name=name).end_time, seconds=120)
        assert jobs.get_custom_job(name=name).state == JobState.JOB_STATE_SUCCEEDED
    result = emulator.run(
        gcloud, "ai", "custom-jobs", "stream-logs", name, f"--project={project}", "--region=us-central1",
        "--polling-interval=5",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "it is 42" in result.stdout
    assert "Job completed successfully." in result.stdout
