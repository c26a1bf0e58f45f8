"""PipelineService's pipeline jobs through the official client: what is taken, shown, listed, cancelled, deleted."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud.aiplatform_v1 import PipelineJob, PipelineState, PipelineTaskDetail
from google.protobuf import field_mask_pb2
from ruamel.yaml import YAML

from tests.conftest import wait_until
from tests.emulator.services.aiplatform.pipelines.conftest import FINAL, Pipelines, failures, plain, tasks, tree
from tests.emulator.services.aiplatform.pipelines.specs import leaf, program, programs, spec, task

RUNNING = PipelineTaskDetail.State.RUNNING
SLEEP = "import time; time.sleep(600)"
#: Inputs of every type, none of them used.
INPUTS: dict[str, Any] = {
    "count": {"parameterType": "NUMBER_INTEGER"},
    "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.5, "isOptional": True},
    "text": {"parameterType": "STRING", "isOptional": True},
    "flag": {"parameterType": "BOOLEAN", "isOptional": True},
    "items": {"parameterType": "LIST", "isOptional": True},
    "options": {"parameterType": "STRUCT", "isOptional": True},
}


def nothing(**inputs: Any) -> dict[str, Any]:
    """A pipeline without tasks."""
    return spec({}, {}, inputs=inputs)


def test_created_job_is_pending_with_what_was_sent_and_no_more(both: Pipelines) -> None:
    sent = both.job(nothing())
    job = both.client.create_pipeline_job(parent=both.parent, pipeline_job=sent, pipeline_job_id="first")
    assert job.name.endswith("/pipelineJobs/first")
    assert job.state == PipelineState.PIPELINE_STATE_PENDING
    assert job.pipeline_spec == sent.pipeline_spec
    assert job.runtime_config == sent.runtime_config
    billing = job.labels.pop("vertex-ai-pipelines-run-billing-id")
    assert re.fullmatch(r"\d{15,20}", billing)
    assert dict(job.labels) == {"team": "ml"}
    assert re.fullmatch(r"\d+-compute@developer\.gserviceaccount\.com", job.service_account)
    assert set(plain(job)) == {
        "name", "displayName", "createTime", "updateTime", "pipelineSpec", "state", "labels", "runtimeConfig",
        "serviceAccount",
    }  # fmt: skip


def test_job_shows_its_contexts(both: Pipelines) -> None:
    job = both.run(nothing())
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED
    number, job_id = job.name.split("/")[1], job.name.rpartition("/")[2]
    store = f"projects/{number}/locations/us-central1/metadataStores/default"
    pipeline, run = job.job_detail.pipeline_context, job.job_detail.pipeline_run_context
    assert (pipeline.name, pipeline.display_name) == (f"{store}/contexts/p", "p")
    assert (run.name, run.display_name) == (f"{store}/contexts/{job_id}", job_id)
    assert (pipeline.schema_title, run.schema_title) == ("system.Pipeline", "system.PipelineRun")
    assert list(run.parent_contexts) == [pipeline.name]
    assert re.fullmatch(r"\d{13}", run.etag)
    times: list[Any] = [job.create_time, job.start_time, job.end_time]
    assert times == sorted(times)
    (root,) = job.job_detail.task_details
    assert (root.task_name, root.state.name, root.execution.state.name) == (job_id, "SUCCEEDED", "COMPLETE")


def test_inputs_are_those_of_the_call_with_defaults_filled_in(pipelines: Pipelines) -> None:
    job = pipelines.run(nothing(**INPUTS), count=3, text="a", flag=False, items=[1, "b"], options={"k": 2})
    assert plain(job.job_detail.task_details[0].execution)["metadata"] == {
        "input:count": 3.0, "input:rate": 0.5, "input:text": "a", "input:flag": False, "input:items": [1.0, "b"],
        "input:options": {"k": 2.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "The required input parameter 'count' is missing."),
        ({"count": "three"}, "'count' has the wrong type: three is STRING, not NUMBER_INTEGER"),
        ({"count": 1.5}, "'count' has the wrong type: 1.5 is NUMBER_DOUBLE, not NUMBER_INTEGER"),
        ({"count": True}, "'count' has the wrong type: true is BOOLEAN, not NUMBER_INTEGER"),
        ({"count": 1, "text": 5}, "'text' has the wrong type: 5 is NUMBER_INTEGER, not STRING"),
        ({"count": 1, "items": {"a": 1}}, "'items' has the wrong type: "),
        ({"count": 1, "options": [1]}, "'options' has the wrong type: "),
        ({"count": 1, "flag": "true"}, "'flag' has the wrong type: true is STRING, not BOOLEAN"),
        ({"count": 1, "colour": "red"}, "The pipeline has no input parameter 'colour'."),
    ],
)
def test_parameters_that_do_not_fit_are_refused(pipelines: Pipelines, given: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(found)):
        pipelines.submit(nothing(**INPUTS), **given)


def test_all_that_is_wrong_is_told_at_once(both: Pipelines) -> None:
    with pytest.raises(GoogleAPICallError) as caught:
        both.submit(nothing(**INPUTS), text=5, colour="red")
    assert caught.value.code == 400
    assert "List of found errors:\t1.Field: pipeline_job.runtime_config.parameter_values; Mess" in caught.value.message
    for part in ("'text' has the wrong type", "no input parameter 'colour'", "'count' is missing"):
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("document", "error", "found"),
    [
        ({"kind": "Deployment"}, InvalidArgument, "pipelineInfo is missing; this is no compiled pipeline"),
        (spec({"a": task("ghost")}, {}), InvalidArgument, "names 'ghost', which components does not have"),
        (
            spec({"a": task("one", "b"), "b": task("one", "a")}, {"one": leaf()}),
            InvalidArgument,
            "root.dag has a cycle",
        ),
        (
            spec({"a": task("one")}, {"one": leaf()}, {"exec": {"resolver": {}}}),
            MethodNotImplemented,
            "exec.resolver: this kind of executor is not emulated",
        ),
    ],
)
def test_pipeline_that_cannot_run_is_refused(
    pipelines: Pipelines, document: dict[str, Any], error: type[GoogleAPICallError], found: str
) -> None:
    with pytest.raises(error, match=re.escape(found)):
        pipelines.submit(document)


def test_bad_fields_are_refused(pipelines: Pipelines) -> None:
    job = pipelines.job(nothing())
    job.runtime_config.gcs_output_directory = "/tmp/here"
    with pytest.raises(InvalidArgument, match="gcs_output_directory"):
        pipelines.client.create_pipeline_job(parent=pipelines.parent, pipeline_job=job)
    job.runtime_config.gcs_output_directory = ""
    with pytest.raises(InvalidArgument, match=r"gcs_output_directory; Message: Required field is not set\."):
        pipelines.client.create_pipeline_job(parent=pipelines.parent, pipeline_job=job)
    with pytest.raises(InvalidArgument, match="pipeline_job_id"):
        pipelines.submit(nothing(), job_id="1-starts-with-a-digit")
    empty = pipelines.job({})
    with pytest.raises(InvalidArgument, match=r"One of pipeline_job\.pipeline_spec and pipeline_job.template_uri"):
        pipelines.client.create_pipeline_job(parent=pipelines.parent, pipeline_job=empty)


def test_id_that_is_taken_is_a_conflict_and_one_is_made_where_none_is_given(pipelines: Pipelines) -> None:
    pipelines.submit(nothing(), job_id="taken")
    with pytest.raises(AlreadyExists, match="pipelineJobs/taken"):
        pipelines.submit(nothing(), job_id="taken")
    made = pipelines.client.create_pipeline_job(parent=pipelines.parent, pipeline_job=pipelines.job(nothing()))
    assert re.fullmatch(r"p-\d{14}", made.name.rpartition("/")[2])


def test_template_is_read_from_the_bucket(both: Pipelines) -> None:
    import io

    text = io.StringIO()
    YAML().dump(nothing(**INPUTS), text)
    both.bucket.blob("templates/p.yaml").upload_from_string(text.getvalue() + "---\nplatforms: {kubernetes: {}}\n")
    job = both.job({}, count=2)
    job.template_uri = f"gs://{both.bucket.name}/templates/p.yaml"
    made = both.client.create_pipeline_job(parent=both.parent, pipeline_job=job)
    assert both.finished(made.name).state == PipelineState.PIPELINE_STATE_SUCCEEDED
    assert made.template_uri == job.template_uri
    for name, found in (("none.yaml", "does not exist"), ("bad.yaml", "is no compiled pipeline")):
        both.bucket.blob("templates/bad.yaml").upload_from_string("- a list\n- : {")
        job.template_uri = f"gs://{both.bucket.name}/templates/{name}"
        with pytest.raises(GoogleAPICallError, match=found):
            both.client.create_pipeline_job(parent=both.parent, pipeline_job=job)


def test_root_in_a_bucket_that_is_not_there_fails_the_job(pipelines: Pipelines) -> None:
    job = pipelines.job(nothing())
    job.runtime_config.gcs_output_directory = "gs://no-such-bucket-anywhere/root"
    made = pipelines.client.create_pipeline_job(parent=pipelines.parent, pipeline_job=job)
    ended = pipelines.finished(made.name)
    assert ended.state == PipelineState.PIPELINE_STATE_FAILED
    assert ended.error.message.startswith("Failed to create pipeline job. Error:")


def test_unknown_job_is_not_found(both: Pipelines) -> None:
    name = f"{both.parent}/pipelineJobs/none"
    for call in (
        lambda: both.client.get_pipeline_job(name=name),
        lambda: both.client.cancel_pipeline_job(name=name),
        lambda: both.client.delete_pipeline_job(name=name),
    ):
        with pytest.raises(NotFound, match=r"The PipelineJob does not exist\."):
            call()


def test_jobs_are_listed_without_tasks_by_filter_order_and_mask(both: Pipelines) -> None:
    first, second = (both.run(nothing() | {"pipelineInfo": {"name": name}}) for name in ("one", "two"))

    def listed(**query: Any) -> list[PipelineJob]:
        return list(both.client.list_pipeline_jobs(request={"parent": both.parent, **query}))

    assert [job.name for job in listed()] == [second.name, first.name]
    assert [job.name for job in listed(order_by="create_time")] == [first.name, second.name]
    assert not any(job.job_detail.task_details for job in listed())
    user_id = first.name.rpartition("/")[2]
    for query in (
        'pipeline_name="one"', f'pipeline_job_user_id="{user_id}"', 'pipeline_name:"o*e" AND display_name:"r*"',
        f'labels.team=ml AND create_time<"{plain(second)["createTime"]}"',
    ):  # fmt: skip
        assert [job.name for job in listed(filter=query)] == [first.name], query
    assert listed(filter=f"schedule_name={both.parent}/schedules/1") == []
    simple = (
        "name,state,display_name,pipeline_spec.pipeline_info,create_time,start_time,end_time,update_time,labels,"
        "template_uri,template_metadata.version,job_detail.pipeline_run_context,job_detail.pipeline_context"
    )
    masked = listed(read_mask=field_mask_pb2.FieldMask(paths=simple.split(",")))
    assert masked[0].job_detail.pipeline_run_context.display_name == second.name.rpartition("/")[2]
    assert not masked[0].service_account
    with pytest.raises(GoogleAPICallError):
        listed(filter='service_account="x"')


def test_job_that_runs_cannot_be_deleted_and_one_that_is_over_can(both: Pipelines) -> None:
    job = both.submit(programs({"wait": task("wait")}, {"wait": SLEEP}), job_id="again")
    with pytest.raises(GoogleAPICallError, match="cancel it before deleting it") as caught:
        both.client.delete_pipeline_job(name=job.name)
    assert isinstance(caught.value, FailedPrecondition) or caught.value.code == 400
    both.client.cancel_pipeline_job(name=job.name)
    both.finished(job.name)
    operation = both.client.delete_pipeline_job(name=job.name)
    assert re.fullmatch(r"projects/\d+/locations/us-central1/operations/\d+", operation.operation.name)
    operation.result(timeout=30)
    with pytest.raises(NotFound):
        both.client.get_pipeline_job(name=job.name)
    assert both.submit(nothing(), job_id="again").name == job.name


def test_cancelling_ends_parallel_branches_at_once(both: Pipelines) -> None:
    document = programs(
        {"a": task("a"), "b": task("b"), "c": task("c", "a")},
        {"a": SLEEP, "b": SLEEP, "c": "print('never')"},
    )
    job = both.submit(document)
    for name in ("a", "b"):
        both.reaches(job.name, name, RUNNING)
    both.client.cancel_pipeline_job(name=job.name)
    assert both.client.get_pipeline_job(name=job.name).state in (
        PipelineState.PIPELINE_STATE_CANCELLING, PipelineState.PIPELINE_STATE_CANCELLED,
    )  # fmt: skip
    ended = both.finished(job.name)
    assert ended.state == PipelineState.PIPELINE_STATE_CANCELLED
    assert not ended.error.message
    assert tree(ended) == {"a": "CANCELLED", "b": "CANCELLED"}
    assert {detail.execution.state.name for detail in tasks(ended).values()} == {"CANCELLED"}
    assert [status.state.name for status in tasks(ended)["a"].pipeline_task_status][-2:] == ["CANCELLING", "CANCELLED"]
    both.client.cancel_pipeline_job(name=job.name)
    assert both.client.get_pipeline_job(name=job.name).state == PipelineState.PIPELINE_STATE_CANCELLED


def test_program_hears_of_the_cancelling(pipelines: Pipelines) -> None:
    """SIGTERM reaches a step, which may end what it has started elsewhere."""
    heard = f"/gcs/{pipelines.bucket.name}/heard"
    source = (
        "import signal, sys, time\n"
        f"def end(*_):\n    open({heard!r}, 'w').write('SIGTERM'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"open({heard + '.ready'!r}, 'w').close()\n"
        "time.sleep(600)"
    )
    job = pipelines.submit(programs({"a": task("a")}, {"a": source}))
    wait_until(lambda: pipelines.bucket.blob("heard.ready").exists())
    pipelines.client.cancel_pipeline_job(name=job.name)
    assert pipelines.finished(job.name).state == PipelineState.PIPELINE_STATE_CANCELLED
    assert pipelines.text(f"gs://{pipelines.bucket.name}/heard") == "SIGTERM"


def test_jobs_are_cancelled_and_deleted_in_batches(both: Pipelines) -> None:
    document = programs({"wait": task("wait")}, {"wait": SLEEP})
    names = [both.submit(document).name for _ in range(2)]
    cancelled = both.client.batch_cancel_pipeline_jobs(parent=both.parent, names=names).result(timeout=30)
    assert [job.name for job in cancelled.pipeline_jobs] == names
    wait_until(lambda: all(both.client.get_pipeline_job(name=name).state in FINAL for name in names))
    with pytest.raises(NotFound, match="pipelineJobs/none"):
        both.client.batch_delete_pipeline_jobs(parent=both.parent, names=[*names, f"{both.parent}/pipelineJobs/none"])
    deleted = both.client.batch_delete_pipeline_jobs(parent=both.parent, names=names).result(timeout=30)
    assert [job.name for job in deleted.pipeline_jobs] == names
    assert not list(both.client.list_pipeline_jobs(parent=both.parent))


def test_step_is_a_custom_job_with_the_machine_and_labels_of_its_task(pipelines: Pipelines, emulator: Any) -> None:
    from google.cloud.aiplatform_v1 import JobServiceClient

    source = "import os; print(os.environ['VERTEX_AI_PIPELINES_RUN_LABELS'], os.environ['COLOUR'])"
    container = program(
        source,
        env=[{"name": "COLOUR", "value": "red"}],
        resources={"resourceCpuLimit": "3", "resourceMemoryLimit": "20G"},
    )
    job = pipelines.run(programs({"a": task("a"), "b": task("b")}, {"a": container, "b": "pass"}))
    assert job.state == PipelineState.PIPELINE_STATE_SUCCEEDED, failures(job)
    found = tasks(job)
    jobs = emulator.client(JobServiceClient)
    of_a, of_b = (jobs.get_custom_job(name=found[name].executor_detail.container_detail.main_job) for name in "ab")
    (pool,) = of_a.job_spec.worker_pool_specs
    assert pool.machine_spec.machine_type == "e2-highmem-4"
    assert of_b.job_spec.worker_pool_specs[0].machine_spec.machine_type == "e2-standard-4"
    assert of_a.labels["team"] == "ml"
    assert of_a.job_spec.service_account == job.service_account
    assert list(pool.container_spec.command) == ["python3", "-c", source]
