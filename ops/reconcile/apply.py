"""Carry out a plan: each change after what it depends on, one result for each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ops.clients import Clients
from ops.config import Config
from ops.errors import INTERRUPTED, OpsError
from ops.progress import Report
from ops.reconcile import buckets, endpoints, models
from ops.reconcile.plan import Action, Change, Plan
from ops.reconcile.resource import UNKNOWN, Kind, Value, resolved

Apply = Callable[[Change, Config, Clients, Report], dict[str, str]]

APPLY: Mapping[Kind, Apply] = {"bucket": buckets.apply, "model": models.apply, "endpoint": endpoints.apply}


@dataclass(frozen=True)
class Result:
    """What became of one change."""

    change: Change
    outcome: str
    """`done`, `failed`, `not tried` or `kept`"""
    message: str = ""
    seconds: float = 0.0

    @property
    def is_failure(self) -> bool:
        return self.outcome in {"failed", "not tried"}

    def as_dict(self) -> dict[str, object]:
        return {
            "action": self.change.action.value,
            "kind": self.change.kind,
            "name": self.change.name,
            "outcome": self.outcome,
            "message": self.message,
            "seconds": round(self.seconds, 1),
        }


def apply_plan(plan: Plan, config: Config, clients: Clients, report: Report, *, prune: bool = False) -> list[Result]:
    """One result for each change of the plan, in its order.

    A failed change is reported and does not stop the others; those that depend on it are not tried. A deletion is
    done only with `prune`.
    """
    application = _Application(plan, config, clients, report, prune)
    return [application.result(change) for change in plan.changes]


class _Application:
    """One run through a plan: what its changes brought so far, and which of them failed."""

    def __init__(self, plan: Plan, config: Config, clients: Clients, report: Report, prune: bool) -> None:
        self._config = config
        self._clients = clients
        self._report = report
        self._prune = prune
        self._outputs = {name: dict(values) for name, values in plan.outputs.items()}
        self._failed: list[Change] = []

    def result(self, change: Change) -> Result:
        """Do one change; the next ones see what it brought."""
        started = time.monotonic()
        result = replace(self._tried(change), seconds=time.monotonic() - started)
        if result.is_failure:
            self._failed.append(change)
        return result

    def _tried(self, change: Change) -> Result:
        from google.api_core.exceptions import GoogleAPIError

        if change.action is Action.DELETE and not self._prune:
            return Result(change, "kept", "is not declared any more; --prune deletes it")
        broken = self._in_the_way(change)
        if broken:
            return Result(change, "not tried", f"{broken} failed before")
        try:
            ready = _with_known_values(change, self._outputs)
            brought = APPLY[change.kind](ready, self._config, self._clients, self._report)
        except OpsError as error:
            if error.exit_code == INTERRUPTED:
                raise  # a person's Ctrl-C ends the whole run
            return Result(change, "failed", str(error))
        except GoogleAPIError as error:
            return Result(change, "failed", " ".join(str(error).split()))
        self._outputs.setdefault(change.name, {}).update(brought)
        return Result(change, "done")

    def _in_the_way(self, change: Change) -> str:
        """The failed resource that this one needs or, for a deletion, that still needs this one."""
        if change.desired is None:
            return next((f.name for f in self._failed if f.live and change.name in f.live.depends_on), "")
        return next((f.name for f in self._failed if f.name in change.desired.depends_on), "")


def _with_known_values(change: Change, outputs: Mapping[str, Mapping[str, str]]) -> Change:
    """The change with every reference in what it desires replaced by its value."""
    if change.desired is None:
        return change
    spec = resolved(change.desired.spec, outputs)
    unknown = next(_unknown(spec, ""), None)
    if unknown is not None:
        raise OpsError(
            f"{unknown} of {change.name} stands for nothing that exists; "
            "train the model with inv train, or mend the alias"
        )
    assert isinstance(spec, Mapping)  # noqa: S101 -- resolving a mapping gives a mapping
    return replace(change, desired=replace(change.desired, spec=spec))


def _unknown(value: Value, path: str) -> Iterator[str]:
    if value is UNKNOWN:
        yield path
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _unknown(inner, f"{path}.{key}" if path else str(key))


def results_text(results: Sequence[Result]) -> str:
    """One line a result."""
    lines = []
    for result in results:
        told = f": {result.message}" if result.message else ""
        lines.append(
            f"{result.outcome:9} {result.change.action.value} {result.change.kind} {result.change.name}"
            f" ({result.seconds:.1f} s){told}"
        )
    return "\n".join(lines) or "no changes"


def results_markdown(results: Sequence[Result]) -> str:
    if not results:
        return "No changes."
    rows = ["| outcome | action | resource | message |", "|---|---|---|---|"]
    for result in results:
        message = result.message.replace("|", "\\|")
        resource = f"{result.change.kind} `{result.change.name}`"
        rows.append(f"| {result.outcome} | {result.change.action.value} | {resource} | {message} |")
    return "\n".join(rows)


def rendered(results: Sequence[Result], output: str) -> str:
    """As `text`, `json` or `markdown`."""
    if output == "json":
        return json.dumps({"results": [result.as_dict() for result in results]}, indent=2)
    return results_markdown(results) if output == "markdown" else results_text(results)
