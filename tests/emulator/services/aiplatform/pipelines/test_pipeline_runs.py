"""Runs that go wrong, are tried again, come from the cache, or are cut short; through the official client."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.aiplatform_v1 import PipelineState, PipelineTaskDetail

from tests.conftest import Emulator, wait_until
from tests.emulator.services.aiplatform.pipelines.conftest import (
    FAST,
    Pipelines,
    failures,
    outputs,
    plain,
    tasks,
    tree,
)
from tests.emulator.services.aiplatform.pipelines.specs import (
    constant,
    leaf,
    output,
    parameters,
    program,
    programs,
    spec,
    task,
)

STATE = PipelineTaskDetail.State
SUCCEEDED, FAILED = PipelineState.PIPELINE_STATE_SUCCEEDED, PipelineState.PIPELINE_STATE_FAILED
#: Writes its second argument into the file that is its first.
WRITE = "import os, sys; os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True); open(sys.argv[1], 'w').write("
OUTPUT_FILE = "{{$.outputs.parameters['Output'].output_file}}"


def writing(kind: str, text: str, **fields: Any) -> dict[str, Any]:
    """A pipeline of one program that writes a text as its output parameter of a type."""
    document = programs({"a": task("a")}, {"a": program(WRITE + "sys.argv[2])", args=[OUTPUT_FILE, text], **fields)})
    document["components"]["a"]["outputDefinitions"] = {"parameters": {"Output": {"parameterType": kind}}}
    return document


def test_step_that_fails_says_why_and_stops_what_needs_it(both: Pipelines) -> None:
    document = programs(
        {"good": task("good"), "bad": task("bad"), "after": task("after", "bad"), "other": task("other", "good")},
        {"good": "pass", "bad": "raise SystemError('it broke')", "after": "pass", "other": "pass"},
    )
    job = both.run(document)
    number, job_id = job.name.split("/")[1], job.name.rpartition("/")[2]
    assert job.state == FAILED
    assert tree(job) == {"good": "SUCCEEDED", "bad": "FAILED", "after": "NOT_TRIGGERED", "other": "SUCCEEDED"}
    uuid = job.labels["vertex-ai-pipelines-run-billing-id"]
    project = both.parent.split("/")[1]
    dag = "The DAG failed because some tasks failed. The failed tasks are: [bad]."
    assert job.error.code == 9
    assert job.error.message == (
        f"{dag}; Job (project_id = {project}, job_id = {uuid}) is failed due to the above error.; Failed to handle "
        f"the job: {{project_number = {number}, job_id = {uuid}}}"
    )
    found = tasks(job)
    assert found[job_id].error.message == dag
    bad = found["bad"]
    assert bad.error.code == 9
    assert (
        "The replica workerpool0-0 exited with a non-zero status of 1. Termination reason: Error." in bad.error.message
    )
    assert "SystemError: it broke" in bad.error.message
    assert (bad.execution.state.name, found[job_id].execution.state.name) == ("FAILED", "FAILED")
    container = bad.executor_detail.container_detail
    assert list(container.failed_main_jobs) == [container.main_job]
    assert not found["after"].execution.name


def test_failing_fast_leaves_what_has_not_begun(pipelines: Pipelines) -> None:
    gate = f"/gcs/{pipelines.bucket.name}/gate"
    document = programs(
        {"bad": task("bad"), "slow": task("slow"), "after": task("after", "slow")},
        {
            "bad": "raise SystemExit(3)",
            "slow": f"import os, time\nwhile not os.path.exists({gate!r}): time.sleep(0.05)",
            "after": "pass",
        },
    )
    job = pipelines.submit(document, policy=FAST)
    pipelines.reaches(job.name, "bad", STATE.FAILED)
    pipelines.bucket.blob("gate").upload_from_string("")
    ended = pipelines.finished(job.name)
    assert tree(ended) == {"bad": "FAILED", "slow": "SUCCEEDED", "after": "CANCELLED"}
    assert ended.state == FAILED


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "non-zero status of 9(SIGKILL)"),
        ("import os; os._exit(7)", "non-zero status of 7"),
        ("no python", "SyntaxError"),
        ("open('/usr/here', 'w')", "OSError: [Errno 30] Read-only file system"),
    ],
)
def test_program_that_ends_badly_fails_its_task(pipelines: Pipelines, source: str, told: str) -> None:
    job = pipelines.run(programs({"a": task("a")}, {"a": source}))
    assert job.state == FAILED
    assert told in failures(job)["a"]


def test_image_that_nothing_stands_in_for_fails_its_task(pipelines: Pipelines) -> None:
    job = pipelines.run(programs({"a": task("a")}, {"a": {"container": {"image": "gcr.io/mine/own:v1"}}}))
    assert "Only Docker could run it" in failures(job)["a"]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("NUMBER_INTEGER", "42", 42.0),
        ("NUMBER_DOUBLE", "1e-3", 0.001),
        ("BOOLEAN", "true", True),
        ("BOOLEAN", "False", False),
        ("STRING", '{"a": 1}', '{"a": 1}'),
        ("LIST", '[1, "b"]', [1.0, "b"]),
        ("STRUCT", '{"a": [1]}', {"a": [1.0]}),
    ],
)
def test_output_file_is_read_by_its_type(pipelines: Pipelines, kind: str, text: str, value: Any) -> None:
    assert outputs(pipelines.run(writing(kind, text))) == {"a": {"Output": value}}


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("NUMBER_INTEGER", "many", "'Output' has the wrong type: 'many' is not NUMBER_INTEGER"),
        ("NUMBER_INTEGER", "1.5", "'Output' has the wrong type: 1.5 is NUMBER_DOUBLE, not NUMBER_INTEGER"),
        ("LIST", '{"a": 1}', "'Output' has the wrong type"),
    ],
)
def test_output_of_the_wrong_type_fails_its_task(pipelines: Pipelines, kind: str, text: str, told: str) -> None:
    job = pipelines.run(writing(kind, text))
    assert (job.state, tree(job)) == (FAILED, {"a": "FAILED"})
    assert told in failures(job)["a"]


def test_output_parameter_that_is_not_written_fails_and_an_artifact_does_not(pipelines: Pipelines) -> None:
    document = programs({"a": task("a")}, {"a": "pass"}, outputs={"Output": "STRING"})
    assert "The output parameter 'Output' was not written" in failures(pipelines.run(document))["a"]
    artifact = {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}}
    document["components"]["a"]["outputDefinitions"] = {"artifacts": {"model": artifact}}
    job = pipelines.run(document)
    assert job.state == SUCCEEDED, failures(job)
    (model,) = tasks(job)["a"].outputs["model"].artifacts
    assert model.state.name == "LIVE"
    assert not list(pipelines.bucket.list_blobs(prefix=model.uri.split("/", 3)[3]))


@pytest.mark.parametrize(
    ("text", "told"),
    [("no json", "is no JSON"), ("[1]", "not of the form"), ("x" * (5 << 20), "more than the 4 MiB")],
    ids=["text", "list", "large"],
)
def test_executor_output_that_is_none_fails_its_task(pipelines: Pipelines, text: str, told: str) -> None:
    length, first = len(text), text[:10]
    write = f"{WRITE}(sys.argv[2] * {length})[:{length}])"
    container = program(write, args=["{{$.outputs.output_file}}", first])
    job = pipelines.run(programs({"a": task("a")}, {"a": container}))
    assert told in failures(job)["a"]


def test_branches_run_side_by_side(pipelines: Pipelines) -> None:
    """Each waits for the other's file: one after the other they would wait for ever."""
    meet = (
        "import os, sys, time\n"
        f"folder = '/gcs/{pipelines.bucket.name}/meeting/'\n"
        "os.makedirs(folder, exist_ok=True)\n"
        "open(folder + sys.argv[1], 'w').close()\n"
        "while not os.path.exists(folder + sys.argv[2]): time.sleep(0.02)"
    )
    document = programs(
        {"a": task("a"), "b": task("b")},
        {"a": program(meet, args=["a", "b"]), "b": program(meet, args=["b", "a"])},
    )
    job = pipelines.run(document)
    assert job.state == SUCCEEDED, failures(job)


def test_step_is_tried_again_after_a_pause_as_often_as_is_said(pipelines: Pipelines) -> None:
    count = (
        "import glob, os, sys\n"
        f"folder = '/gcs/{pipelines.bucket.name}/tries'\n"
        "os.makedirs(folder, exist_ok=True)\n"
        "tries = len(os.listdir(folder))\n"
        "open(f'{folder}/{tries}', 'w').close()\n"
        "sys.exit(tries < 2)"
    )
    policy = {"maxRetryCount": 2, "backoffDuration": "0.2s", "backoffFactor": 2.0}
    job = pipelines.run(programs({"a": task("a", retryPolicy=policy)}, {"a": count}))
    assert job.state == SUCCEEDED, failures(job)
    detail = tasks(job)["a"]
    container = detail.executor_detail.container_detail
    assert len({container.main_job, *container.failed_main_jobs}) == 3
    took: Any = detail.end_time - detail.start_time
    assert took.total_seconds() >= 0.6


def test_step_that_fails_every_time_fails_in_the_end(pipelines: Pipelines) -> None:
    job = pipelines.run(programs({"a": task("a", retryPolicy={"maxRetryCount": 1})}, {"a": "raise SystemExit(4)"}))
    assert job.state == FAILED
    assert "non-zero status of 4" in failures(job)["a"]
    assert len(tasks(job)["a"].executor_detail.container_detail.failed_main_jobs) == 2


def test_cancelling_ends_a_pause_between_tries(pipelines: Pipelines) -> None:
    policy = {"maxRetryCount": 3, "backoffDuration": "3000s", "backoffMaxDuration": "3600s"}
    job = pipelines.submit(programs({"a": task("a", retryPolicy=policy)}, {"a": "raise SystemExit(4)"}))

    def has_failed_once() -> bool:
        detail = tasks(pipelines.client.get_pipeline_job(name=job.name)).get("a")
        return detail is not None and bool(detail.executor_detail.container_detail.failed_main_jobs)

    wait_until(has_failed_once)
    pipelines.client.cancel_pipeline_job(name=job.name)
    ended = pipelines.finished(job.name)
    assert (ended.state, tree(ended)) == (PipelineState.PIPELINE_STATE_CANCELLED, {"a": "CANCELLED"})


def test_pause_between_tries_passes_on_the_emulator_s_clock(
    new_emulator: Callable[..., Emulator], make_pipelines: Callable[..., Pipelines]
) -> None:
    own = new_emulator()
    pipelines = make_pipelines(own)
    policy = {"maxRetryCount": 1, "backoffDuration": "3000s", "backoffMaxDuration": "3600s"}
    job = pipelines.submit(programs({"a": task("a", retryPolicy=policy)}, {"a": "raise SystemExit(4)"}))

    def has_failed_once() -> bool:
        detail = tasks(pipelines.client.get_pipeline_job(name=job.name)).get("a")
        return detail is not None and bool(detail.executor_detail.container_detail.failed_main_jobs)

    wait_until(has_failed_once)
    own.control("POST", "clock", {"advance_seconds": 3600})
    assert pipelines.finished(job.name).state == FAILED


def cached(name: str = "p", *, x: str = "1", **container: Any) -> dict[str, Any]:
    """Two tasks that may come from the cache, the second fed by the first's parameter and artifact."""
    make = leaf({"x": "STRING"}, {"Output": "STRING"})
    make["outputDefinitions"]["artifacts"] = {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
    take = leaf({"x": "STRING"}, {"Output": "STRING"}) | {"executorLabel": "take"}
    take["inputDefinitions"]["artifacts"] = {"data": {"artifactType": {"schemaTitle": "system.Dataset"}}}
    on = {"cachingOptions": {"enableCache": True}}
    artifact = {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "data"}}
    tasks = {
        "make": task("make", inputs=parameters(x=constant(x)), **on),
        "take": task("take", inputs=parameters(x=output("make")) | {"artifacts": {"data": artifact}}, **on),
    }
    copy = program(WRITE + "sys.argv[2])", args=[OUTPUT_FILE, "{{$.inputs.parameters['x']}}"], **container)
    document = spec(tasks, {"make": make, "take": take}, {"exec": copy, "take": copy})
    document["pipelineInfo"]["name"] = name
    return document


def test_equal_tasks_of_a_pipeline_come_from_the_cache(pipelines: Pipelines) -> None:
    first, second = pipelines.run(cached()), pipelines.run(cached())
    assert (tree(first), tree(second)) == (
        {"make": "SUCCEEDED", "take": "SUCCEEDED"}, {"make": "SKIPPED", "take": "SKIPPED"},
    )  # fmt: skip
    assert second.state == SUCCEEDED
    before, after = tasks(first)["make"], tasks(second)["make"]
    assert after.execution.state.name == "CACHED"
    assert after.execution.name != before.execution.name
    assert [one.name for one in after.outputs["data"].artifacts] == [
        one.name for one in before.outputs["data"].artifacts
    ]
    assert plain(after)["execution"]["metadata"] == plain(before)["execution"]["metadata"]
    assert not after.executor_detail.container_detail.main_job
    third = pipelines.run(cached(resources={"resourceCpuLimit": "2"}))
    assert tree(third) == {"make": "SKIPPED", "take": "SKIPPED"}


@pytest.mark.parametrize(
    ("document", "states"),
    [
        (cached(x="2"), ["SUCCEEDED", "SUCCEEDED"]),
        (cached(env=[{"name": "A", "value": "b"}]), ["SUCCEEDED", "SUCCEEDED"]),
        (cached("other"), ["SUCCEEDED", "SUCCEEDED"]),
    ],
    ids=["input", "container", "pipeline"],
)
def test_tasks_that_differ_do_not(pipelines: Pipelines, document: dict[str, Any], states: list[str]) -> None:
    pipelines.run(cached())
    assert list(tree(pipelines.run(document)).values()) == states


def test_task_without_caching_runs_again_and_what_follows_with_new_artifacts_too(pipelines: Pipelines) -> None:
    pipelines.run(cached())
    document = cached()
    document["root"]["dag"]["tasks"]["make"]["cachingOptions"] = {}
    assert tree(pipelines.run(document)) == {"make": "SUCCEEDED", "take": "SUCCEEDED"}


def test_failed_result_is_not_used_again(pipelines: Pipelines) -> None:
    on = {"cachingOptions": {"enableCache": True}}
    document = programs({"a": task("a", **on)}, {"a": "raise SystemExit(1)"})
    assert [tree(pipelines.run(document)) for _ in range(2)] == [{"a": "FAILED"}] * 2


def test_run_that_the_emulator_s_death_cut_short_is_failed_and_its_work_is_kept(
    new_emulator: Callable[..., Emulator], make_pipelines: Callable[..., Pipelines]
) -> None:
    first = new_emulator()
    document = cached()
    document["root"]["dag"]["tasks"]["hang"] = task("hang", "take")
    document["components"]["hang"] = leaf() | {"executorLabel": "hang"}
    document["deploymentSpec"]["executors"]["hang"] = program("import time; time.sleep(600)")
    pipelines = make_pipelines(first)
    job = pipelines.submit(document, job_id="cut")
    pipelines.reaches(job.name, "hang", STATE.RUNNING)
    first.stop(signal.SIGKILL)

    second = new_emulator(state=first.state)
    pipelines = make_pipelines(second)
    found = pipelines.client.get_pipeline_job(name=job.name)
    assert (found.state, found.error.code) == (FAILED, 10)
    assert found.error.message == "The emulator stopped while this pipeline was running."
    assert tree(found) == {"make": "SUCCEEDED", "take": "SUCCEEDED", "hang": "FAILED"}
    details = tasks(found)
    assert details["hang"].error.message == found.error.message
    assert (details["hang"].execution.state.name, details["cut"].execution.state.name) == ("FAILED", "FAILED")
    assert details["make"].outputs["data"].artifacts[0].state.name == "LIVE"
    again = pipelines.submit(document)
    pipelines.reaches(again.name, "hang", STATE.RUNNING)
    seen = tree(pipelines.client.get_pipeline_job(name=again.name))
    assert (seen["make"], seen["take"]) == ("SKIPPED", "SKIPPED")


def test_states_and_output_are_in_cloud_logging(pipelines: Pipelines, emulator: Emulator) -> None:
    from google.cloud.logging import Client

    job = pipelines.run(programs({"a": task("a")}, {"a": "print('from inside')"}))
    project, job_id = pipelines.parent.split("/")[1], job.name.rpartition("/")[2]
    with emulator.exported():
        client = Client(project=project, _use_grpc=False)
        events = list(
            client.list_entries(
                filter_='resource.type="aiplatform.googleapis.com/PipelineJob" AND '
                f'resource.labels.pipeline_job_id="{job_id}"'
            )
        )
        custom_job = tasks(job)["a"].executor_detail.container_detail.main_job.rpartition("/")[2]
        printed = list(
            client.list_entries(
                filter_=f'resource.type="ml_job" AND resource.labels.job_id="{custom_job}" AND '
                'resource.labels.task_name="workerpool0-0"'
            )
        )
    of_task = [entry.payload["state"] for entry in events if entry.payload.get("taskName") == "a"]
    assert of_task == ["PENDING", "RUNNING", "SUCCEEDED"]
    of_job = [entry.payload["state"] for entry in events if "taskName" not in entry.payload]
    assert of_job == ["PIPELINE_STATE_RUNNING", "PIPELINE_STATE_SUCCEEDED"]
    assert "from inside" in json.dumps([entry.payload for entry in printed])


@pytest.mark.long
def test_step_that_prints_fifty_megabytes_succeeds(pipelines: Pipelines) -> None:
    source = "for number in range(500_000): print(number, 'x' * 100)"
    job = pipelines.submit(programs({"a": task("a")}, {"a": source}))
    ended = pipelines.finished(job.name, 280)
    assert ended.state == SUCCEEDED, failures(ended)
