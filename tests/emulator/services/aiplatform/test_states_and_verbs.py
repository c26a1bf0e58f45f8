"""Every state of a job and of a training pipeline, times every verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1 as api

from emulator.core.interfaces import ContainerResult, ExitReason
from emulator.services.aiplatform import custom_jobs
from tests.emulator.services.aiplatform.fakes import SUCCESS
from tests.emulator.services.aiplatform.world import CONTEXT, PARENT, World, job, training_pipeline, until

FAILURE = ContainerResult(1, ExitReason.EXITED)
#: State -> that which follows a cancel, and whether a delete is allowed.
STATES = {
    "PENDING": ("CANCELLED", False),
    "RUNNING": ("CANCELLING", False),
    "CANCELLING": ("CANCELLING", False),
    "SUCCEEDED": ("SUCCEEDED", True),
    "FAILED": ("FAILED", True),
    "CANCELLED": ("CANCELLED", True),
}
KINDS = ("custom_job", "training_pipeline")


class Subject:
    """A job or a pipeline, brought into a state, and the verbs."""

    def __init__(self, world: World, kind: str, **labels: str) -> None:
        self._service: Any = world.jobs if kind == "custom_job" else world.pipelines
        self._kind = kind
        self._camel = kind.title().replace("_", "")
        self.world = world
        given = job() if kind == "custom_job" else training_pipeline(upload=False)
        given.labels.update(labels)
        self.name: str = self.call("create", parent=PARENT, **{kind: given}).name

    def call(self, verb: str, **fields: Any) -> Any:
        suffix = "s" if verb == "list" else ""
        request = getattr(api, f"{verb.title()}{self._camel}{suffix}Request")(**fields)
        return getattr(self._service, f"{verb}_{self._kind}{suffix}")(request, CONTEXT)

    @property
    def state(self) -> str:
        state = self.call("get", name=self.name).state
        number = api.JobState.Name(state)  # both enums number their states alike
        return number.removeprefix("JOB_STATE_")

    def bring(self, state: str) -> None:
        if state != "PENDING":
            (handle,) = self.world.started()
            self.wait_for("RUNNING")
            if state == "CANCELLING":
                handle.heeds = False
            if state in ("CANCELLING", "CANCELLED"):
                self.call("cancel", name=self.name)
            elif state != "RUNNING":
                handle.finish(*([FAILURE] if state == "FAILED" else []))
        self.wait_for(state)

    def wait_for(self, state: str) -> None:
        until(lambda: self.state == state)


@pytest.fixture(params=[(kind, state) for kind in KINDS for state in STATES], ids="-".join)
def subject(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Subject, str]:
    kind, state = request.param
    monkeypatch.setattr(custom_jobs, "MOST_AT_A_TIME", 1)
    world = worlds()
    if state == "PENDING":
        # It waits while this one has the only place.
        world.create(job())
        world.started()
    made = Subject(world, kind)
    made.bring(state)
    return made, state


def finish(subject: Subject) -> None:
    for handle in subject.world.runner.started:
        handle.finish()


def test_get_and_list_show_it(subject: tuple[Subject, str]) -> None:
    made, state = subject
    shown = made.call("get", name=made.name)
    enum = ("JOB_STATE_" if isinstance(shown, api.CustomJob) else "PIPELINE_STATE_") + state
    for text in (f'state="{enum}"', f'NOT state!="{enum}"', f'display_name="taxi" AND state="{enum}"'):
        answer = made.call("list", parent=PARENT, filter=text)
        listed = answer.custom_jobs if isinstance(shown, api.CustomJob) else answer.training_pipelines
        assert made.name in [item.name for item in listed], text
    assert shown.HasField("start_time") == (state != "PENDING")
    assert shown.HasField("end_time") == STATES[state][1]
    assert shown.HasField("error") == (state in ("FAILED", "CANCELLED"))
    finish(made)


def test_cancel_ends_what_runs_and_changes_nothing_else(subject: tuple[Subject, str]) -> None:
    made, state = subject
    before = made.call("get", name=made.name)
    made.call("cancel", name=made.name)
    made.call("cancel", name=made.name)
    after, is_over = STATES[state]
    if is_over:
        assert made.call("get", name=made.name) == before
    else:
        assert made.state in (after, "CANCELLED")
        finish(made)
        made.wait_for("CANCELLED")
        assert made.call("get", name=made.name).error.code == 1


def test_delete_takes_what_is_over_and_refuses_the_rest(subject: tuple[Subject, str]) -> None:
    made, state = subject
    if not STATES[state][1]:
        with pytest.raises(FailedPrecondition, match=rf"is in state \w+_STATE_{state}; cancel it before"):
            made.call("delete", name=made.name)
        assert made.state == state
        finish(made)
        return
    operation = made.call("delete", name=made.name)
    assert operation.done
    for verb in ("get", "cancel", "delete"):
        with pytest.raises(NotFound, match=r"does not exist"):
            made.call(verb, name=made.name)
    listed = made.call("list", parent=PARENT)
    assert made.name not in str(listed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ('display_name="taxi"', True),
        ('display_name!="taxi"', False),
        ('display_name:"ta*"', True),
        ('display_name:"x*"', False),
        ('create_time>"2020-01-01T00:00:00Z"', True),
        ('create_time<"2020-01-01T00:00:00Z"', False),
        ("labels.team=ml", True),
        ("labels.team:*", True),
        ("labels:team", True),
        ("NOT labels.team=ml", False),
        ("labels.team=ml AND (display_name=taxi OR display_name=bus)", True),
        ("-labels.colour:*", True),
    ],
)
def test_list_is_filtered(worlds: Callable[..., World], kind: str, text: str, is_found: bool) -> None:
    made = Subject(worlds(SUCCESS), kind, team="ml")
    assert (f'"{made.name}"' in str(made.call("list", parent=PARENT, filter=text))) == is_found


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (f'training_task_definition="{training_pipeline().training_task_definition}"', True),
        ('training_task_definition:"*custom_task*"', True),
        ('training_task_definition!="x"', True),
        ('training_task_definition="x"', False),
    ],
)
def test_pipelines_are_filtered_by_their_task(worlds: Callable[..., World], text: str, is_found: bool) -> None:
    made = Subject(worlds(SUCCESS), "training_pipeline")
    assert (made.name in str(made.call("list", parent=PARENT, filter=text))) == is_found


@pytest.mark.parametrize("text", ["state=", 'state=!"JOB_STATE_FAILED"', 'state="DONE"', "job_spec.network=x", "("])
def test_bad_filter_is_invalid_argument(world: World, text: str) -> None:
    made = Subject(world, "custom_job")
    with pytest.raises(InvalidArgument):
        made.call("list", parent=PARENT, filter=text)
