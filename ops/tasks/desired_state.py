"""What an environment declares, and bringing it about."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.errors import OpsError, readable_errors
from ops.printing import output_format
from ops.tasks.options import CHANGES, CHANGING, COMMON, ENDPOINT, ENV, OUTPUT, PLAN

if TYPE_CHECKING:
    from ops.reconcile.resource import Kind


@task(help={**CHANGING, "plan": PLAN, "output": OUTPUT})
def init(
    c: Context, env: str = "local", yes: bool = False, plan: bool = False, output: str = "text", emulated: bool = False
) -> None:
    """Make the buckets that an environment declares."""
    _apply_kinds(env, {"bucket"}, yes=yes, only_plan=plan, output=output, emulated=emulated)


@task(help={**COMMON, "output": OUTPUT})
def plan(c: Context, env: str = "local", output: str = "text", emulated: bool = False) -> None:
    """Show what `inv apply` would change in an environment; exit code 2 when there is something."""
    with readable_errors():
        from ops.reconcile.targeted import plan_of
        from ops.session import open_session

        chosen = output_format(output)
        session = open_session(env, emulated=emulated)
        changes = plan_of(session.config, session.clients)
        print(changes.rendered(chosen))
        if changes:
            raise Exit(code=CHANGES)


@task(help={**CHANGING, "prune": "delete what is not declared any more", "plan": PLAN, "output": OUTPUT})
def apply(
    c: Context,
    env: str = "local",
    yes: bool = False,
    prune: bool = False,
    plan: bool = False,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Bring an environment to what its configuration declares."""
    _apply_kinds(env, None, yes=yes, prune=prune, only_plan=plan, output=output, emulated=emulated)


@task(help={"env": ENV, "output": "yaml or json"})
def config_show(c: Context, env: str = "local", output: str = "yaml") -> None:
    """Print an environment's configuration with everything filled in."""
    with readable_errors():
        from ops.config import load_config, shown

        print(shown(load_config(env), output_format(output, ("yaml", "json"))), end="")


@task(help={"check": "only say whether the file is current"})
def config_schema(c: Context, check: bool = False) -> None:
    """Write config/schema.json, which editors read."""
    with readable_errors():
        from ops.config import schema_is_current, write_schema

        if check and not schema_is_current():
            raise OpsError("config/schema.json is not current; run: inv config.schema")
        if not check:
            print(write_schema())


@task(help={**CHANGING, "endpoint": ENDPOINT, "plan": PLAN, "output": OUTPUT})
def deploy(
    c: Context,
    env: str = "local",
    endpoint: str | None = None,
    yes: bool = False,
    plan: bool = False,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Deploy the declared model versions; the serving one goes only when the new one answers."""
    _apply_kinds(env, {"endpoint"}, endpoint=endpoint, yes=yes, only_plan=plan, output=output, emulated=emulated)


def _apply_kinds(
    env: str,
    kinds: set[Kind] | None,
    *,
    endpoint: str | None = None,
    yes: bool,
    prune: bool = False,
    only_plan: bool,
    output: str,
    emulated: bool,
) -> None:
    """Plan, ask, apply and print the results; exit code 2 when only a plan was wanted and there is something."""
    with readable_errors():
        from ops.progress import Report
        from ops.reconcile.apply import apply_plan, rendered
        from ops.reconcile.targeted import plan_of
        from ops.session import open_session

        chosen = output_format(output)
        session = open_session(env, emulated=emulated)
        config, clients = session.config, session.clients
        if not only_plan:
            session.announce()
        names = {config.endpoint_name(config.endpoint(endpoint)[0])} if endpoint else None
        changes = plan_of(config, clients, kinds, names)
        if only_plan or not changes:
            print(changes.rendered(chosen))
            if changes:
                raise Exit(code=CHANGES)
            return
        print(changes.as_text(), file=sys.stderr)
        session.ask(f"Apply these changes ({changes.summary()})?", yes=yes)
        results = apply_plan(changes, config, clients, Report(), prune=prune)
        print(rendered(results, chosen))
        if any(result.is_failure for result in results):
            raise Exit(code=1)
