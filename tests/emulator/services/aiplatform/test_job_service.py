"""Custom jobs through the official clients: the program of a job really runs."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, MethodNotImplemented, NotFound
from google.cloud.aiplatform_v1 import CustomJob, JobServiceClient, JobState
from google.cloud.aiplatform_v1beta1 import CustomJob as BetaCustomJob
from google.cloud.aiplatform_v1beta1 import JobServiceClient as BetaJobServiceClient

from emulator.runners.limits import process_tree
from tests.conftest import Emulator, require_program, wait_until
from tests.emulator.runners.conftest import is_running, processes_with

PREBUILT = "us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest"
FINAL = (JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED)


@pytest.fixture(params=["grpc", "rest"])
def jobs(emulator: Emulator, request: pytest.FixtureRequest) -> Iterator[JobServiceClient]:
    client = emulator.client(JobServiceClient, transport=request.param)
    with client:
        yield client


def python_job(program: str, *, name: str = "taxi", machine_type: str = "n1-standard-4", **spec: Any) -> CustomJob:
    """A job of one replica that runs a Python program. spec: more fields of its CustomJobSpec."""
    pool = {
        "machine_spec": {"machine_type": machine_type},
        "replica_count": 1,
        "disk_spec": {"boot_disk_type": "pd-ssd", "boot_disk_size_gb": 100},
        "container_spec": {"image_uri": PREBUILT, "command": ["python3", "-c"], "args": [program]},
    }
    return CustomJob(display_name=name, labels={"team": "ml"}, job_spec={"worker_pool_specs": [pool], **spec})


def finished(jobs: JobServiceClient, name: str, seconds: float = 60) -> CustomJob:
    """The job once it is over."""

    def look() -> CustomJob | None:
        job = jobs.get_custom_job(name=name)
        return job if job.state in FINAL else None

    job = wait_until(look, seconds)
    assert isinstance(job, CustomJob)
    return job


def test_create_custom_job_starts_pending(jobs: JobServiceClient, parent: str, project: str) -> None:
    job = jobs.create_custom_job(parent=parent, custom_job=python_job("print('hello')"))
    assert job.state == JobState.JOB_STATE_PENDING
    assert re.fullmatch(r"projects/\d{12}/locations/us-central1/customJobs/\d{15,19}", job.name)
    assert job.job_spec.worker_pool_specs[0].container_spec.args == ["print('hello')"]
    assert job.job_spec.worker_pool_specs[0].disk_spec.boot_disk_size_gb == 100
    assert job.create_time == job.update_time
    assert "start_time" not in job
    ended = finished(jobs, job.name)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    times = [_seconds(time) for time in (ended.create_time, ended.start_time, ended.end_time)]
    assert times == sorted(set(times))
    assert ended.update_time == ended.end_time
    assert "error" not in ended


def test_create_custom_job_cannot_be_born_succeeded(jobs: JobServiceClient, parent: str) -> None:
    job = python_job("pass")
    job.state = JobState.JOB_STATE_SUCCEEDED  # type: ignore[assignment]  # the client's enums seem ints to mypy
    job.name = "projects/1/locations/us-central1/customJobs/1"
    created = jobs.create_custom_job(parent=parent, custom_job=job)
    assert created.state == JobState.JOB_STATE_PENDING
    assert created.name != job.name
    finished(jobs, created.name)


def test_get_custom_job_takes_the_projects_id_or_number(jobs: JobServiceClient, parent: str) -> None:
    job = jobs.create_custom_job(parent=parent, custom_job=python_job("pass"))
    job_id = job.name.rpartition("/")[2]
    assert jobs.get_custom_job(name=f"{parent}/customJobs/{job_id}").name == job.name
    finished(jobs, job.name)


def test_get_custom_job_of_unknown_name_is_not_found(jobs: JobServiceClient, parent: str) -> None:
    with pytest.raises(NotFound, match=r"The CustomJob `projects/.*/customJobs/404` does not exist"):
        jobs.get_custom_job(name=f"{parent}/customJobs/404")


def test_create_custom_job_of_unknown_machine_is_invalid_argument(jobs: JobServiceClient, parent: str) -> None:
    with pytest.raises(BadRequest, match='Machine type "abacus-1" is not supported'):
        jobs.create_custom_job(parent=parent, custom_job=python_job("pass", machine_type="abacus-1"))


def test_create_custom_job_tells_every_error(jobs: JobServiceClient, parent: str) -> None:
    with pytest.raises(BadRequest, match=r"List of found errors:\t1\.Field: display_name; Message: Required"):
        jobs.create_custom_job(parent=parent, custom_job=python_job("pass", name=""))


def test_failed_job_tells_the_traceback(jobs: JobServiceClient, parent: str) -> None:
    job = jobs.create_custom_job(parent=parent, custom_job=python_job("raise ValueError('no such column')"))
    ended = finished(jobs, job.name)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert ended.error.code == 3
    assert ended.error.message.startswith(
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. \nTraceback"
    )
    assert "ValueError: no such column\n\nTo find out more about why your job exited" in ended.error.message


def test_job_finds_its_environment(jobs: JobServiceClient, parent: str, emulator: Emulator) -> None:
    program = (
        "import json, os; "
        "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith(('AIP_', 'CLOUD_ML_', 'CLUSTER_'))}))"
    )
    job = python_job(program, base_output_directory={"output_uri_prefix": "gs://some-bucket/out"})
    job = jobs.create_custom_job(parent=parent, custom_job=job)
    finished(jobs, job.name)
    printed = [line for line in replica_lines(emulator, job.name) if line.startswith("{")]
    seen = json.loads(printed[-1])
    assert seen["CLOUD_ML_JOB_ID"] == job.name.rpartition("/")[2]
    assert seen["CLOUD_ML_PROJECT_ID"] == job.name.split("/")[1]
    assert seen["CLOUD_ML_REGION"] == "us-central1"
    assert seen["AIP_MODEL_DIR"] == "gs://some-bucket/out/model/"
    assert json.loads(seen["CLUSTER_SPEC"])["task"] == {"type": "workerpool0", "index": 0, "trial": ""}


def test_replicas_run_until_the_primary_one_ends(jobs: JobServiceClient, parent: str, emulator: Emulator) -> None:
    job = python_job("import json, os, time; print(json.loads(os.environ['TF_CONFIG'])['task']); time.sleep(1)")
    workers = python_job("import time; time.sleep(600)").job_spec.worker_pool_specs[0]
    workers.replica_count = 2
    job.job_spec.worker_pool_specs.append(workers)
    created = jobs.create_custom_job(parent=parent, custom_job=job)
    assert finished(jobs, created.name).state == JobState.JOB_STATE_SUCCEEDED
    assert replica_lines(emulator, created.name)[-1] == "{'type': 'chief', 'index': 0}"


def test_replicas_reach_one_another_at_the_addresses_of_the_cluster(
    jobs: JobServiceClient, parent: str, emulator: Emulator
) -> None:
    """The chief gathers from every worker, as a program for several machines does."""
    head = (
        "import json, os, socket, time\n"
        "spec = json.loads(os.environ['CLUSTER_SPEC'])\n"
        "mine = spec['cluster'][spec['task']['type']][spec['task']['index']]\n"
        "host, port = spec['cluster']['workerpool0'][0].split(':')\n"
    )
    chief = head + (
        "server = socket.create_server(('', int(port)))\n"
        "print(sorted(server.accept()[0].makefile().readline().strip() for _ in range(2)))\n"
    )
    worker = head + (
        "while True:\n"
        "    try:\n"
        "        chief = socket.create_connection((host, int(port)))\n"
        "        break\n"
        "    except ConnectionRefusedError:\n"
        "        time.sleep(0.05)\n"
        'chief.sendall(f\'{spec["task"]["index"]} of {len(spec["cluster"]["workerpool1"])}\\n\'.encode())\n'
        "time.sleep(600)\n"
    )
    job = python_job(chief)
    workers = python_job(worker).job_spec.worker_pool_specs[0]
    workers.replica_count = 2
    job.job_spec.worker_pool_specs.append(workers)
    created = jobs.create_custom_job(parent=parent, custom_job=job)
    ended = finished(jobs, created.name)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED, ended.error.message
    assert replica_lines(emulator, created.name)[-1] == "['0 of 2', '1 of 2']"


def test_cancel_custom_job_ends_its_processes(jobs: JobServiceClient, parent: str) -> None:
    program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    job = jobs.create_custom_job(parent=parent, custom_job=python_job(program))
    wait_until(lambda: jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_RUNNING)
    jobs.cancel_custom_job(name=job.name)
    assert jobs.get_custom_job(name=job.name).state in (JobState.JOB_STATE_CANCELLING, JobState.JOB_STATE_CANCELLED)
    ended = finished(jobs, job.name)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert (ended.error.code, ended.error.message) == (1, "CANCELED")


def test_job_that_runs_too_long_fails(jobs: JobServiceClient, parent: str) -> None:
    job = python_job("import time; time.sleep(600)", scheduling={"timeout": timedelta(seconds=3)})
    ended = finished(jobs, jobs.create_custom_job(parent=parent, custom_job=job).name)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert ended.error.message == "The job ran longer than the timeout of 3 seconds."


def test_delete_custom_job_waits_for_the_end(jobs: JobServiceClient, parent: str) -> None:
    job = jobs.create_custom_job(parent=parent, custom_job=python_job("import time; time.sleep(600)"))
    with pytest.raises(BadRequest, match="JOB_STATE_"):
        jobs.delete_custom_job(name=job.name)
    jobs.cancel_custom_job(name=job.name)
    finished(jobs, job.name)
    jobs.delete_custom_job(name=job.name).result(timeout=30)
    with pytest.raises(NotFound):
        jobs.get_custom_job(name=job.name)


def test_list_custom_jobs_filters_pages_and_masks(jobs: JobServiceClient, parent: str) -> None:
    names = [
        jobs.create_custom_job(parent=parent, custom_job=python_job("pass", name=f"job {number}")).name
        for number in range(3)
    ]
    for name in names:
        finished(jobs, name)
    assert [job.name for job in jobs.list_custom_jobs(parent=parent)] == names[::-1]
    request = {"parent": parent, "page_size": 1, "filter": 'state="JOB_STATE_SUCCEEDED" AND labels.team=ml'}
    assert [job.name for job in jobs.list_custom_jobs(request=request)] == names[::-1]
    request = {"parent": parent, "filter": 'display_name:"*b 1"', "read_mask": {"paths": ["display_name", "state"]}}
    (found,) = jobs.list_custom_jobs(request=request)
    assert found == CustomJob(name=names[1], display_name="job 1", state=JobState.JOB_STATE_SUCCEEDED)
    with pytest.raises(BadRequest, match="Invalid filter"):
        jobs.list_custom_jobs(request={"parent": parent, "filter": "color=red"})


def test_jobs_of_one_location_are_not_those_of_another(emulator: Emulator, parent: str) -> None:
    with emulator.client(JobServiceClient) as jobs:
        job = jobs.create_custom_job(parent=parent, custom_job=python_job("pass"))
        finished(jobs, job.name)
    with emulator.client(JobServiceClient, location="europe-west4") as elsewhere:
        assert not list(elsewhere.list_custom_jobs(parent=parent.replace("us-central1", "europe-west4")))


def test_beta_clients_see_the_same_jobs(emulator: Emulator, parent: str) -> None:
    with emulator.client(BetaJobServiceClient) as beta, emulator.client(JobServiceClient) as jobs:
        beta_job = BetaCustomJob.from_json(CustomJob.to_json(python_job("pass")))
        job = beta.create_custom_job(parent=parent, custom_job=beta_job)
        assert finished(jobs, job.name).name == job.name
        beta.delete_custom_job(name=job.name).result(timeout=30)


def test_unwritten_method_answers_unimplemented_with_its_place(jobs: JobServiceClient, parent: str) -> None:
    with pytest.raises(MethodNotImplemented, match=r"ListNasJobs.*emulator/services/aiplatform/job_service\.py"):
        jobs.list_nas_jobs(parent=parent)


def test_kill_of_the_emulator_fails_the_running_job(new_emulator: Callable[..., Emulator], tmp_path: Path) -> None:
    emulator = new_emulator(state=tmp_path / "state")
    parent = "projects/test-project/locations/us-central1"
    with emulator.client(JobServiceClient) as jobs:
        job = jobs.create_custom_job(parent=parent, custom_job=python_job("import time; time.sleep(600)"))
        wait_until(lambda: jobs.get_custom_job(name=job.name).state == JobState.JOB_STATE_RUNNING)
    emulator.stop(9)
    again = new_emulator(state=tmp_path / "state")
    with again.client(JobServiceClient) as jobs:
        ended = jobs.get_custom_job(name=job.name)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert ended.error.message == "The emulator stopped while this job was running."
    assert ended.end_time


@pytest.mark.parametrize("restarts_all", [False, True])
def test_killed_sandbox_of_a_replica_starts_again(
    emulator: Emulator, parent: str, tmp_path: Path, *, restarts_all: bool
) -> None:
    job = python_job(f"import time; time.sleep(600)  # {tmp_path}")
    job.job_spec.worker_pool_specs.append(job.job_spec.worker_pool_specs[0])
    job.job_spec.scheduling.restart_job_on_worker_restart = restarts_all

    def sandboxes() -> set[int]:
        """The outermost process of each replica."""
        parents = {child: parent for parent, children in process_tree().items() for child in children}
        found = set()
        for pid in processes_with(f"{tmp_path}\0"):
            outermost = pid
            while parents.get(outermost, emulator.process.pid) != emulator.process.pid:
                outermost = parents[outermost]
            found.add(outermost)
        return found

    with emulator.client(JobServiceClient) as jobs:
        created = jobs.create_custom_job(parent=parent, custom_job=job)
        before = wait_until(lambda: len(sandboxes()) == 2 and sandboxes())
        os.kill(min(before), signal.SIGKILL)
        kept = 0 if restarts_all else 1
        wait_until(lambda: len(sandboxes()) == 2 and len(sandboxes() & before) == kept)
        assert jobs.get_custom_job(name=created.name).state == JobState.JOB_STATE_RUNNING
        jobs.cancel_custom_job(name=created.name)
        assert finished(jobs, created.name).state == JobState.JOB_STATE_CANCELLED


def test_kill_of_the_emulator_ends_replicas_and_their_network(
    new_emulator: Callable[..., Emulator], tmp_path: Path
) -> None:
    emulator = new_emulator(state=tmp_path / "state")
    job = python_job(f"import time; time.sleep(600)  # {tmp_path}")
    job.job_spec.worker_pool_specs.append(job.job_spec.worker_pool_specs[0])

    def processes() -> set[int]:
        """Those of the job, and what holds its network."""
        children = set(processes_with("join_network.py")) & set(process_tree().get(emulator.process.pid, ()))
        return {*processes_with(str(tmp_path) + "\0"), *children}

    with emulator.client(JobServiceClient) as jobs:
        jobs.create_custom_job(parent="projects/test-project/locations/us-central1", custom_job=job)
        least = 3 if emulator.control("GET", "health")["sandbox"] == "full" else 2
        found = wait_until(lambda: len(processes()) >= least and processes())
    emulator.stop(9)
    wait_until(lambda: not any(is_running(pid) for pid in found))


def test_gcloud_creates_lists_describes_and_streams(emulator: Emulator, project: str) -> None:
    gcloud = require_program("gcloud")
    common = (f"--project={project}", "--region=us-central1")
    created = emulator.run(
        gcloud, "ai", "custom-jobs", "create", *common, "--display-name=from gcloud", "--format=value(name)",
        f"--worker-pool-spec=machine-type=n1-standard-4,replica-count=1,container-image-uri={PREBUILT}",
        "--command=python3,-c", "--args=print('the answer is 42')",
    )  # fmt: skip
    assert created.returncode == 0, created.stderr
    name = created.stdout.strip()
    with emulator.client(JobServiceClient) as jobs:
        finished(jobs, name)
    # It looks once whether the job is over, shows nothing younger than 5 s, and ends at the second empty poll.
    streamed = emulator.run(gcloud, "ai", "custom-jobs", "stream-logs", name, *common, "--polling-interval=5")
    assert streamed.returncode == 0, streamed.stderr
    assert "the answer is 42" in streamed.stdout
    assert "Job completed successfully." in streamed.stdout
    described = emulator.run(gcloud, "ai", "custom-jobs", "describe", name, *common, "--format=json")
    assert json.loads(described.stdout)["state"] == "JOB_STATE_SUCCEEDED"
    listed = emulator.run(gcloud, "ai", "custom-jobs", "list", *common, "--format=value(name)")
    assert listed.stdout.split() == [json.loads(described.stdout)["name"]]
    cancelled = emulator.run(gcloud, "ai", "custom-jobs", "cancel", name, *common)
    assert cancelled.returncode == 0, cancelled.stderr


def _seconds(time: Any) -> float:
    """The client shows times as datetimes, whatever its annotations say."""
    return float(time.timestamp())


def replica_lines(emulator: Emulator, job_name: str) -> list[str]:
    """What the primary replica of a job wrote to Cloud Logging."""
    from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client

    job_id = job_name.rpartition("/")[2]
    with emulator.client(LoggingServiceV2Client) as logging:
        entries = logging.list_log_entries(
            resource_names=["/".join(job_name.split("/")[:2])],
            filter=f'resource.type="ml_job" AND resource.labels.job_id="{job_id}" '
            'AND resource.labels.task_name="workerpool0-0"',
        )
        return [str(entry.json_payload["message"]) for entry in entries]
