"""Applies of a part of the whole: what `init`, `deploy` and the loop do."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ops.clients import Clients
from ops.config import Config
from ops.errors import OpsError
from ops.progress import Report
from ops.reconcile.apply import Result, apply_plan
from ops.reconcile.desired import desired_resources
from ops.reconcile.live import live_resources
from ops.reconcile.plan import Action, Plan, make_plan
from ops.reconcile.resource import Kind


def plan_of(
    config: Config, clients: Clients, kinds: Collection[Kind] | None = None, names: Collection[str] | None = None
) -> Plan:
    """The plan for everything, or its part for some kinds and names. A part deletes nothing."""
    plan = make_plan(desired_resources(config), live_resources(config, clients, kinds))
    if kinds is None and names is None:
        return plan
    changes = tuple(
        change
        for change in plan.changes
        if (kinds is None or change.kind in kinds)
        and (names is None or change.name in names)
        and change.action is not Action.DELETE
    )
    return Plan(changes, plan.outputs)


def bring_about(
    config: Config,
    clients: Clients,
    report: Report,
    kinds: Collection[Kind],
    names: Collection[str] | None = None,
) -> list[Result]:
    """Make a part of what is declared so.

    Raises OpsError with the first failure.
    """
    results = apply_plan(plan_of(config, clients, kinds, names), config, clients, report)
    raise_first_failure(results)
    return results


def raise_first_failure(results: Sequence[Result]) -> None:
    """Raises OpsError when a result is one."""
    for result in results:
        if result.is_failure:
            raise OpsError(f"{result.change.kind} {result.change.name}: {result.message}")
