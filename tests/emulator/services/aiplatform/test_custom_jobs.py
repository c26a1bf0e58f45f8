"""States of custom jobs, with containers that a test ends by hand."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable

import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from selfloop_apis import aiplatform_v1 as api

from emulator.core.interfaces import ContainerResult, ExitReason, OutputLine
from tests.emulator.services.aiplatform.fakes import SUCCESS, FakeHandle
from tests.emulator.services.aiplatform.world import (
    CONTEXT,
    PARENT,
    PREBUILT,
    PipelineState,
    State,
    World,
    job,
    package_pool,
    pool,
    training_pipeline,
    until,
)


def accelerated(machine_type: str, accelerator: str, count: int = 1) -> api.WorkerPoolSpec:
    made = pool(machine_type=machine_type)
    made.machine_spec.accelerator_type = api.AcceleratorType.Value(accelerator)
    made.machine_spec.accelerator_count = count
    return made


def on_disk(disk_type: str, size_gb: int) -> api.WorkerPoolSpec:
    made = pool()
    made.disk_spec.boot_disk_type = disk_type
    made.disk_spec.boot_disk_size_gb = size_gb
    return made


def reserved(affinity: str, *names: str) -> api.WorkerPoolSpec:
    made = pool()
    reservation = made.machine_spec.reservation_affinity
    reservation.reservation_affinity_type = api.ReservationAffinity.Type.Value(affinity)
    reservation.values.extend(names)
    reservation.key = "compute.googleapis.com/reservation-name" if names else ""
    return made


def test_create_answers_with_a_pending_job_of_the_projects_number(world: World) -> None:
    created = world.create(job())
    number = world.projects.get("test-project").number
    assert created.name.startswith(f"projects/{number}/locations/us-central1/customJobs/")
    assert created.name.rpartition("/")[2].isdecimal()
    assert created.state == State.JOB_STATE_PENDING
    assert created.create_time == created.update_time
    assert not created.HasField("start_time")
    assert [found.name for found in world.listed()] == [created.name]


def test_job_runs_and_succeeds_with_its_containers(world: World) -> None:
    created = world.create(job())
    (handle,) = world.started()
    running = world.reaches(created.name, State.JOB_STATE_RUNNING)
    assert running.HasField("start_time")
    assert not running.HasField("end_time")
    handle.finish()
    ended = world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    times = [field.ToNanoseconds() for field in (ended.create_time, ended.start_time, ended.end_time)]
    assert times == sorted(set(times))
    assert ended.update_time == ended.end_time
    assert not ended.HasField("error")
    assert world.training.unfinished() == []


def test_job_gives_its_container_what_the_spec_says(world: World) -> None:
    created = world.create(job(package_pool(), output="gs://bucket/out/", timeout_seconds=60))
    container = world.started()[0].container
    number, job_id = world.projects.get("test-project").number, created.name.rpartition("/")[2]
    assert (container.project, container.image) == ("test-project", PREBUILT)
    assert container.service_account == f"service-{number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
    assert container.package is not None
    assert container.package.module == "trainer.task"
    assert container.args == ("--n=1",)
    assert container.timeout_seconds == pytest.approx(60, abs=5)
    env = container.env
    assert env["CLOUD_ML_PROJECT_ID"] == number
    assert env["CLOUD_ML_JOB_ID"] == job_id
    assert env["CLOUD_ML_REGION"] == "us-central1"
    assert env["COLOR"] == "red"
    assert env["AIP_MODEL_DIR"] == "gs://bucket/out/model/"
    assert env["AIP_CHECKPOINT_DIR"] == "gs://bucket/out/checkpoints/"
    assert env["AIP_TENSORBOARD_LOG_DIR"] == "gs://bucket/out/logs/"
    cluster = json.loads(env["CLUSTER_SPEC"])
    assert cluster["task"] == {"type": "workerpool0", "index": 0, "trial": ""}
    assert cluster["cluster"] == {"workerpool0": [f"{env['HOSTNAME']}:2222"]}
    assert cluster["environment"] == "cloud"
    assert cluster["job"]["worker_pool_specs"][0]["python_package_spec"]["python_module"] == "trainer.task"
    assert "TF_CONFIG" not in env


def test_job_without_output_directory_has_no_aip_variables(world: World) -> None:
    world.create(job())
    assert not [name for name in world.started()[0].container.env if name.startswith("AIP_")]


def test_failing_job_tells_status_traceback_and_where_the_logs_are(worlds: Callable[..., World]) -> None:
    traceback = 'Traceback (most recent call last):\n  File "task.py", line 1, in <module>\nValueError: no data\n'
    world = worlds(ContainerResult(1, ExitReason.EXITED, stderr_tail=f"warning: x\n{traceback}"))
    created = world.create(job())
    ended = world.reaches(created.name, State.JOB_STATE_FAILED)
    number, job_id = world.projects.get("test-project").number, created.name.rpartition("/")[2]
    assert ended.error.code == 3
    assert ended.error.message == (
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error. \n"
        f"{traceback}\n"
        "To find out more about why your job exited please check the logs: "
        f"https://console.cloud.google.com/logs/viewer?project={number}&resource=ml_job%2Fjob_id%2F{job_id}"
        "&advancedFilter=resource.type%3D%22ml_job%22%0Aresource.labels.job_id%3D%22" + job_id + "%22"
    )
    assert ended.HasField("end_time")


@pytest.mark.parametrize(
    ("result", "code", "message"),
    [
        (
            ContainerResult(137, ExitReason.OUT_OF_MEMORY),
            3,
            r"workerpool0-0 ran out-of-memory and exited with a non-zero status of 9\(SIGKILL\)",
        ),
        (ContainerResult(139, ExitReason.EXITED), 3, r"status of 11\(SIGSEGV\)\. Termination reason: Error"),
        (ContainerResult(255, ExitReason.EXITED), 3, r"status of 255\. "),
        (
            ContainerResult(128, ExitReason.START_FAILED, "gs://bucket/t.tar.gz does not exist."),
            3,
            r"status of 128\. Termination reason: StartError\. \ngs://bucket/t\.tar\.gz does not exist\.",
        ),
        (ContainerResult(143, ExitReason.TIMED_OUT), 4, "The job ran longer than the timeout of 604800 seconds"),
        (ContainerResult(1, ExitReason.DISK_QUOTA, "It wrote more than 1 GB."), 3, "It wrote more than 1 GB"),
    ],
)
def test_failing_job_tells_why(worlds: Callable[..., World], result: ContainerResult, code: int, message: str) -> None:
    world = worlds(result)
    ended = world.reaches(world.create(job()).name, State.JOB_STATE_FAILED)
    assert ended.error.code == code
    assert re.search(message, ended.error.message)


def test_job_of_an_image_that_cannot_run_fails_with_the_reason(world: World) -> None:
    world.runner.refused["example.com/x"] = "The image example.com/x needs Docker."
    ended = world.reaches(world.create(job(pool(image="example.com/x"))).name, State.JOB_STATE_FAILED)
    assert (ended.error.code, ended.error.message) == (9, "The image example.com/x needs Docker.")
    assert not world.runner.started
    assert not ended.HasField("start_time")


def test_cancel_ends_the_containers_and_the_job(world: World) -> None:
    created = world.create(job())
    (handle,) = world.started()
    world.cancel(created.name)
    ended = world.reaches(created.name, State.JOB_STATE_CANCELLED)
    assert handle.cancelled.is_set()
    assert (ended.error.code, ended.error.message) == (1, "CANCELED")
    assert ended.HasField("end_time")
    world.cancel(created.name)
    assert world.get(created.name) == ended


def test_cancel_of_a_job_that_is_just_ending_leaves_a_final_state(world: World) -> None:
    created = world.create(job())
    (handle,) = world.started()
    handle.finish(SUCCESS)
    world.cancel(created.name)
    until(lambda: not world.training.unfinished())
    assert world.get(created.name).state in (State.JOB_STATE_CANCELLED, State.JOB_STATE_SUCCEEDED)


def test_cancel_of_a_job_that_waits_for_a_place_ends_it_at_once(world: World) -> None:
    names = [world.create(job()).name for _ in range(33)]
    world.started(32)
    world.cancel(names[-1])
    assert world.get(names[-1]).state == State.JOB_STATE_CANCELLED
    assert len(world.runner.started) == 32


def test_cancel_of_unknown_job_is_not_found(world: World) -> None:
    with pytest.raises(NotFound, match="customJobs/404"):
        world.cancel(f"{PARENT}/customJobs/404")


def test_delete_waits_for_the_end(world: World) -> None:
    created = world.create(job())
    world.started()
    request = api.DeleteCustomJobRequest(name=created.name)
    with pytest.raises(FailedPrecondition, match="JOB_STATE_"):
        world.jobs.delete_custom_job(request, CONTEXT)
    world.runner.started[0].finish()
    world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    operation = world.jobs.delete_custom_job(request, CONTEXT)
    assert operation.done
    assert "/locations/us-central1/operations/" in operation.name
    with pytest.raises(NotFound):
        world.get(created.name)


def test_list_is_filtered(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS)
    first, second = world.create(job()), world.create(api.CustomJob(display_name="other", job_spec=job().job_spec))
    world.reaches(first.name, State.JOB_STATE_SUCCEEDED)
    world.reaches(second.name, State.JOB_STATE_SUCCEEDED)
    assert [found.name for found in world.listed()] == [second.name, first.name]
    assert [found.name for found in world.listed('display_name="taxi" AND state="JOB_STATE_SUCCEEDED"')] == [first.name]
    assert [found.name for found in world.listed("NOT labels:team")] == [second.name]
    with pytest.raises(InvalidArgument):
        world.listed("job_spec.network=x")


# Several replicas


def test_replicas_run_side_by_side_and_end_with_the_primary_one(world: World) -> None:
    created = world.create(job(pool(), pool(2), pool(1), pool(1)))
    handles = world.started(5)
    by_name = {handle.container.name.rpartition("/")[2]: handle for handle in handles}
    assert set(by_name) == {"workerpool0-0", "workerpool1-0", "workerpool1-1", "workerpool2-0", "workerpool3-0"}
    config = json.loads(by_name["workerpool1-1"].container.env["TF_CONFIG"])
    assert config["task"] == {"type": "worker", "index": 1}
    assert {kind: len(hosts) for kind, hosts in config["cluster"].items()} == {"chief": 1, "worker": 2, "ps": 1}
    cluster = json.loads(by_name["workerpool3-0"].container.env["CLUSTER_SPEC"])
    assert len(cluster["cluster"]["workerpool1"]) == 2
    assert cluster["task"] == {"type": "workerpool3", "index": 0, "trial": ""}
    by_name["workerpool1-0"].finish()
    by_name["workerpool0-0"].finish()
    world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    assert by_name["workerpool1-1"].cancelled.is_set()
    assert by_name["workerpool2-0"].cancelled.is_set()


def test_failing_worker_fails_the_job_and_failing_evaluator_does_not(world: World) -> None:
    bad = ContainerResult(1, ExitReason.EXITED)
    created = world.create(job(pool(), pool(1), api.WorkerPoolSpec(), pool(1)))
    by_name = {handle.container.name.rpartition("/")[2]: handle for handle in world.started(3)}
    by_name["workerpool3-0"].finish(bad)
    assert world.get(created.name).state == State.JOB_STATE_RUNNING
    by_name["workerpool1-0"].finish(bad)
    ended = world.reaches(created.name, State.JOB_STATE_FAILED)
    assert ended.error.message.startswith("The replica workerpool1-0 exited")
    assert "workerpool0-0 exited" not in ended.error.message
    assert by_name["workerpool0-0"].cancelled.is_set()


# Lost machines

LOST = ContainerResult(137, ExitReason.LOST)


def replica_handles(world: World, count: int) -> dict[str, list[FakeHandle]]:
    """By replica, in the order of their starts, once so many were started."""
    found: dict[str, list[FakeHandle]] = {}
    for handle in world.started(count):
        found.setdefault(handle.container.name.rpartition("/")[2], []).append(handle)
    return found


def test_lost_replica_starts_again_while_the_others_go_on(world: World) -> None:
    created = world.create(job(pool(), pool(1)))
    first = replica_handles(world, 2)
    first["workerpool1-0"][0].finish(LOST)
    again = replica_handles(world, 3)
    assert {name: len(handles) for name, handles in again.items()} == {"workerpool0-0": 1, "workerpool1-0": 2}
    assert again["workerpool1-0"][1].container.env == first["workerpool1-0"][0].container.env
    assert not first["workerpool0-0"][0].cancelled.is_set()
    assert world.get(created.name).state == State.JOB_STATE_RUNNING
    first["workerpool0-0"][0].finish()
    world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    assert again["workerpool1-0"][1].cancelled.is_set()
    told = [str(record.payload) for record in world.logs.of_task("service")]
    assert "The machine of replica workerpool1-0 was lost; it starts again, attempt 2 of 3." in told


def test_lost_replica_restarts_the_whole_job_where_that_is_asked_for(world: World) -> None:
    asked = job(pool(), pool(1))
    asked.job_spec.scheduling.restart_job_on_worker_restart = True
    created = world.create(asked)
    first = replica_handles(world, 2)
    first["workerpool1-0"][0].finish(LOST)
    again = replica_handles(world, 4)
    assert {name: len(handles) for name, handles in again.items()} == {"workerpool0-0": 2, "workerpool1-0": 2}
    assert first["workerpool0-0"][0].cancelled.is_set()
    again["workerpool0-0"][1].finish()
    world.reaches(created.name, State.JOB_STATE_SUCCEEDED)


@pytest.mark.parametrize(("disable_retries", "starts"), [(False, 3), (True, 1)])
def test_job_that_loses_its_machine_too_often_fails(world: World, disable_retries: bool, starts: int) -> None:
    asked = job()
    asked.job_spec.scheduling.disable_retries = disable_retries
    created = world.create(asked)
    for attempt in range(starts):
        world.started(attempt + 1)[attempt].finish(LOST)
    ended = world.reaches(created.name, State.JOB_STATE_FAILED)
    assert (ended.error.code, ended.error.message) == (
        13, "Internal error: the machine of replica workerpool0-0 was lost.",
    )  # fmt: skip
    assert len(world.runner.started) == starts


def test_cancel_of_a_job_that_lost_a_machine_ends_it(world: World) -> None:
    created = world.create(job())
    world.started()[0].finish(LOST)
    world.started(2)
    world.cancel(created.name)
    world.reaches(created.name, State.JOB_STATE_CANCELLED)


# Logs


def test_log_holds_the_services_lines_and_the_replicas(world: World) -> None:
    created = world.create(job(package_pool(), pool(1)))
    handles = {handle.container.name.rpartition("/")[2]: handle for handle in world.started(2)}
    handles["workerpool0-0"].output([OutputLine("epoch 1", False), OutputLine("Warning: slow", True)])
    handles["workerpool1-0"].output(
        [
            OutputLine("plain", False),
            OutputLine('{"severity": "warning", "message": "hot", "celsius": 90}', False),
            OutputLine('{"severity": "DEBUG", "message": "just text"}', False),
            OutputLine('{"broken": ', True),
            OutputLine("[1]", False),
        ]
    )
    handles["workerpool0-0"].finish()
    world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    prebuilt = world.logs.of_task("workerpool0-0")
    assert [(record.severity, record.payload) for record in prebuilt] == [
        ("INFO", {"message": "epoch 1", "levelname": "INFO"}),
        ("ERROR", {"message": "Warning: slow", "levelname": "ERROR"}),
    ]
    assert [(record.severity, record.payload) for record in world.logs.of_task("workerpool1-0")] == [
        ("INFO", "plain"),
        ("WARNING", {"message": "hot", "celsius": 90}),
        ("DEBUG", "just text"),
        ("ERROR", '{"broken": '),
        ("INFO", "[1]"),
    ]
    job_id = created.name.rpartition("/")[2]
    assert {project for project, _ in world.logs.records} == {"test-project"}
    assert prebuilt[0].log_id == "workerpool0-0"
    assert prebuilt[0].resource_type == "ml_job"
    assert prebuilt[0].resource_labels == {
        "project_id": "test-project",
        "job_id": job_id,
        "task_name": "workerpool0-0",
    }
    assert prebuilt[0].labels["ml.googleapis.com/job_id/log_area"] == "root"
    service = world.logs.of_task("service")
    assert {record.log_id for record in service} == {f"ml.googleapis.com/{job_id}"}
    texts = [str(record.payload) for record in service]
    assert texts[0] == "Waiting for job to be provisioned."
    assert texts[-1] == "Job completed successfully."
    assert "Job is running." in texts


def test_log_of_a_failed_job_ends_with_the_error(worlds: Callable[..., World]) -> None:
    world = worlds(ContainerResult(3, ExitReason.EXITED))
    ended = world.reaches(world.create(job()).name, State.JOB_STATE_FAILED)
    last = world.logs.of_task("service")[-1]
    assert (last.severity, last.payload) == ("ERROR", ended.error.message)


# Validation


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (job(api.WorkerPoolSpec(replica_count=1)), r"1\.Field: job_spec\.worker_pool_specs\[0\]\.task"),
        (job(pool(2)), r"worker_pool_specs\[0\]\.replica_count; Message: The first worker pool"),
        (job(pool(), pool(0)), r"worker_pool_specs\[1\]\.replica_count"),
        (job(pool(machine_type="")), r"worker_pool_specs\[0\]\.machine_spec\.machine_type; Message: Required"),
        (job(pool(machine_type="n1-giant-4")), 'Machine type "n1-giant-4" is not supported.'),
        (job(pool(machine_type="n1-standard-2")), 'Machine type "n1-standard-2" is not supported.'),
        (
            job(accelerated("n1-standard-4", "NVIDIA_L4")),
            '"NVIDIA_L4" is not supported for machine type "n1-standard-4"',
        ),
        (job(accelerated("e2-standard-4", "NVIDIA_TESLA_T4")), "not supported for machine type"),
        (job(accelerated("n1-standard-4", "NVIDIA_TESLA_T4", 0)), "accelerator_count must be positive"),
        (job(accelerated("n1-standard-4", "NVIDIA_TESLA_T4", 3)), "Accelerator count 3 is not supported"),
        (job(accelerated("n1-standard-4", "ACCELERATOR_TYPE_UNSPECIFIED")), "without an accelerator_type"),
        (job(on_disk("floppy", 100)), r"disk_spec\.boot_disk_type; Message: 'floppy' is not a type of boot disks"),
        (job(on_disk("pd-ssd", -1)), r"disk_spec\.boot_disk_size_gb"),
        (job(reserved("SPECIFIC_RESERVATION")), "SPECIFIC_RESERVATION needs key and values"),
        (job(reserved("ANY_RESERVATION", "mine")), "key and values are for SPECIFIC_RESERVATION alone"),
        (job(*[pool()] * 5), "at most 4 worker pools"),
        (job(output="/tmp/out"), r"base_output_directory\.output_uri_prefix"),
        (job(timeout_seconds=-5), r"scheduling\.timeout"),
        (api.CustomJob(display_name="x" * 129, job_spec=job().job_spec), "display_name"),
        (api.CustomJob(display_name="x", job_spec=job().job_spec, labels={"Team": "a"}), "label key"),
    ],
)
def test_create_of_bad_job_is_invalid_argument_and_stores_nothing(
    world: World, bad: api.CustomJob, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        world.create(bad)
    assert world.listed() == []


def test_create_in_an_unknown_region_is_invalid_argument(world: World) -> None:
    request = api.CreateCustomJobRequest(parent="projects/test-project/locations/us-mars1", custom_job=job())
    with pytest.raises(InvalidArgument, match='"us-mars1" is not a region of Vertex AI'):
        world.jobs.create_custom_job(request, CONTEXT)


def test_log_tells_what_this_machine_gives_and_what_it_does_not(worlds: Callable[..., World]) -> None:
    world = worlds(SUCCESS)
    asked = job(accelerated("n1-standard-4", "NVIDIA_TESLA_T4"), reserved("SPECIFIC_RESERVATION", "projects/p/r"))
    asked.job_spec.scheduling.strategy = api.Scheduling.SPOT
    created = world.create(asked)
    ended = world.reaches(created.name, State.JOB_STATE_SUCCEEDED)
    assert ended.job_spec == asked.job_spec
    told = [str(record.payload) for record in world.logs.of_task("service")]
    assert any(text.startswith("Machine type n1-standard-4 in us-central1 is this machine: ") for text in told)
    for part in ("attaches no accelerators", "Strategy SPOT", "no reservations"):
        assert any(part in text for text in told), part


def test_create_tells_all_errors_at_once(world: World) -> None:
    bad = job(pool(2, machine_type=""))
    bad.display_name = "x" * 200
    with pytest.raises(InvalidArgument) as raised:
        world.create(bad)
    assert raised.value.message.startswith("List of found errors:\t1.Field: display_name; Message: ")
    assert "\t2.Field: job_spec.worker_pool_specs[0].replica_count; Message: " in raised.value.message
    assert "\t3.Field: job_spec.worker_pool_specs[0].machine_spec.machine_type; Message: " in raised.value.message
    assert raised.value.message.endswith("\t")


def test_names_of_another_form_are_refused(world: World) -> None:
    with pytest.raises(InvalidArgument, match="Invalid resource name"):
        world.get("customJobs/1")
    with pytest.raises(InvalidArgument, match="Invalid resource name"):
        world.get(f"{PARENT}/models/1")
    with pytest.raises(PermissionDenied):
        world.get("projects/123/locations/us-central1/customJobs/1")


# The emulator's end


def test_close_fails_what_runs(worlds: Callable[..., World]) -> None:
    world = worlds()
    created, pipeline = world.create(job()), world.train(training_pipeline())
    handles = world.started(2)
    world.training.close()
    assert all(handle.cancelled.is_set() for handle in handles)
    ended = world.get(created.name)
    assert ended.state == State.JOB_STATE_FAILED
    assert ended.error.message == "The emulator stopped while this job was running."
    assert world.get_pipeline(pipeline.name).state == PipelineState.PIPELINE_STATE_FAILED


def test_start_settles_what_a_kill_interrupted(worlds: Callable[..., World]) -> None:
    killed = worlds()
    running, cancelling = killed.create(job()), killed.create(job())
    pipeline = killed.train(training_pipeline())
    handles = killed.started(3)
    for handle in handles:
        handle.heeds = False
    killed.reaches(cancelling.name, State.JOB_STATE_RUNNING)
    killed.cancel(cancelling.name)
    again = worlds()
    ended = again.get(running.name)
    assert ended.state == State.JOB_STATE_FAILED
    assert ended.error.message == "The emulator stopped while this job was running."
    assert ended.HasField("end_time")
    assert again.get(cancelling.name).state == State.JOB_STATE_CANCELLED
    interrupted = again.get_pipeline(pipeline.name)
    assert interrupted.state == PipelineState.PIPELINE_STATE_FAILED
    assert interrupted.error.message == "The emulator stopped while this training pipeline was running."
    for handle in handles:
        handle.finish()


def test_cancel_at_any_moment_ends_every_job(world: World) -> None:
    names = [world.create(job()).name for _ in range(60)]
    numbers = random.Random(7)  # noqa: S311  # chance, the same every time

    def end_some() -> None:
        for name in names:
            if numbers.random() < 0.5:
                world.cancel(name)
            for handle in list(world.runner.started):
                if numbers.random() < 0.2:
                    handle.finish()

    enders = [threading.Thread(target=end_some) for _ in range(4)]
    for ender in enders:
        ender.start()
    for ender in enders:
        ender.join()

    def all_are_over() -> bool:
        for handle in list(world.runner.started):
            handle.finish()
        return not world.training.unfinished()

    until(all_are_over)
    final = {State.JOB_STATE_SUCCEEDED, State.JOB_STATE_CANCELLED}
    assert {world.get(name).state for name in names} == final
    cancelled = sum(world.get(name).state == State.JOB_STATE_CANCELLED for name in names)
    last_words = [str(record.payload) for record in world.logs.of_task("service")]
    assert last_words.count("Job completed successfully.") == len(names) - cancelled
