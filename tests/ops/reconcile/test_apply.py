"""Applying a plan: order, references, failures."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from rich.console import Console

from ops.clients import Clients
from ops.config import Config
from ops.errors import OpsError
from ops.progress import Report
from ops.reconcile import apply as applying
from ops.reconcile.apply import apply_plan, rendered
from ops.reconcile.plan import Change, make_plan
from ops.reconcile.resource import Kind, Resource
from ops.training import TrainingInterrupted
from tests.ops.reconcile.test_plan import bucket, declared_endpoint, declared_model, live_endpoint, live_model

Behaviour = Callable[[Change], dict[str, str]]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Change]:
    """Changes that were carried out, by kinds that do nothing else; a trained model brings version 8."""
    carried_out: list[Change] = []

    def carry_out(change: Change, *_: object) -> dict[str, str]:
        carried_out.append(change)
        return {"default": "8"} if change.kind == "model" else {}

    monkeypatch.setattr(applying, "APPLY", dict.fromkeys(applying.APPLY, carry_out))
    return carried_out


def run(config: Config, desired: list[Resource], live: list[Resource], *, prune: bool = False) -> list[Any]:
    report = Report(Console(file=io.StringIO()))
    return apply_plan(make_plan(desired, live), config, Clients(config), report, prune=prune)


def failing(monkeypatch: pytest.MonkeyPatch, kind: Kind, error: BaseException) -> None:
    def fail(*_: object) -> dict[str, str]:
        raise error

    monkeypatch.setattr(applying, "APPLY", {**applying.APPLY, kind: fail})


def test_apply_plan_gives_dependents_what_a_change_brought(config: Config, done: list[Change]) -> None:
    run(config, [bucket(a=1), declared_model(), declared_endpoint()], [])
    assert [change.kind for change in done] == ["bucket", "model", "endpoint"]
    assert done[2].desired is not None
    assert done[2].desired.spec == {"slot": {"version": "8", "replicas": 1}}


def test_apply_plan_takes_a_reference_from_what_is_live(config: Config, done: list[Change]) -> None:
    run(config, [declared_model(), declared_endpoint()], [live_model(version="9"), live_endpoint("7")])
    assert done[0].desired is not None
    assert done[0].desired.spec == {"slot": {"version": "9", "replicas": 1}}


def test_apply_plan_keeps_what_is_not_declared_unless_pruned(config: Config, done: list[Change]) -> None:
    assert [result.outcome for result in run(config, [], [bucket()])] == ["kept"]
    assert not done
    assert [result.outcome for result in run(config, [], [bucket()], prune=True)] == ["done"]
    assert [change.kind for change in done] == ["bucket"]


@pytest.mark.parametrize("error", [OpsError("no such thing"), NotFound("no such thing")])
def test_apply_plan_does_not_try_what_depends_on_a_failure(
    config: Config, done: list[Change], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing(monkeypatch, "model", error)
    results = run(config, [bucket(a=1), declared_model(), declared_endpoint()], [])
    assert [result.outcome for result in results] == ["done", "failed", "not tried"]
    assert "no such thing" in results[1].message
    assert [change.kind for change in done] == ["bucket"]


def test_apply_plan_keeps_what_a_failed_deletion_still_needs(
    config: Config, done: list[Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "endpoint", OpsError("busy"))
    results = run(config, [], [live_model(), live_endpoint()], prune=True)
    assert [(result.change.kind, result.outcome) for result in results] == [
        ("endpoint", "failed"),
        ("model", "not tried"),
    ]


def test_apply_plan_of_an_alias_that_does_not_exist_fails_by_name(config: Config, done: list[Change]) -> None:
    result = run(config, [declared_endpoint()], [])[0]
    assert result.outcome == "failed"
    assert "slot.version" in result.message
    assert not done


def test_apply_plan_ends_at_an_interrupt(config: Config, done: list[Change], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "bucket", TrainingInterrupted("stopped waiting"))
    with pytest.raises(TrainingInterrupted):
        run(config, [bucket(a=1), declared_model()], [])


@pytest.mark.parametrize("output", ["text", "json", "markdown"])
def test_results_are_told_in_every_format(config: Config, done: list[Change], output: str) -> None:
    told = rendered(run(config, [bucket(a=1)], []), output)
    assert "done" in told
    assert bucket().name in told
