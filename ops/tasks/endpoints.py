"""Endpoints: what they serve and answer."""

from __future__ import annotations

import json

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.errors import readable_errors
from ops.tasks.options import COMMON, ENDPOINT


@task(help={**COMMON, "endpoint": "key under endpoints; all of them when left out"})
def endpoint_status(c: Context, env: str = "local", endpoint: str | None = None, emulated: bool = False) -> None:
    """Say what each endpoint serves; exit code 1 when one does not."""
    with readable_errors():
        from ops.reconcile.health import check_health
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        keys = None if endpoint is None else [session.config.endpoint(endpoint)[0]]
        findings = list(check_health(session.config, session.clients, keys))
        for finding in findings:
            print(f"{'ok   ' if finding.healthy else 'wrong'} {finding.name}: {finding.message}")
        if not all(finding.healthy for finding in findings):
            raise Exit(code=1)


@task(
    positional=["payload"],
    help={**COMMON, "payload": "JSON, the path of a file of it, or - for standard input", "endpoint": ENDPOINT},
)
def endpoint_test(
    c: Context, payload: str, env: str = "local", endpoint: str | None = None, emulated: bool = False
) -> None:
    """Send a payload to an endpoint; prints the predictions as JSON."""
    with readable_errors():
        from ops import predict as asking
        from ops.session import open_session

        given = asking.read_instances(asking.given_text(payload))
        session = open_session(env, emulated=emulated)
        key, _ = session.config.endpoint(endpoint)
        answers = asking.predict(session.clients, session.config.endpoint_name(key), given)
        print(json.dumps({"predictions": answers.values, "deployedModelId": answers.deployed_model_id}, indent=2))
