"""Models: training them, what the registry holds of them, asking them."""

from __future__ import annotations

import json

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops import printing
from ops.errors import readable_errors
from ops.tasks.options import CHANGING, COMMON, ENDPOINT, MODEL, PLAN, TEXT_OR_JSON, TIMEOUT


@task(
    help={
        **CHANGING,
        "model": MODEL,
        "local": "on this machine, without any cloud",
        "data": "with --local: the data file; generated when left out",
        "plan": PLAN,
        "wait": "wait for the version, and show the job's log meanwhile",
        "timeout": TIMEOUT,
    }
)
def train(
    c: Context,
    env: str = "local",
    model: str | None = None,
    local: bool = False,
    data: str | None = None,
    yes: bool = False,
    plan: bool = False,
    wait: bool = True,
    timeout: float = 0.0,
    emulated: bool = False,
) -> None:
    """Train a model and register the version with its evaluation; prints the version's name."""
    with readable_errors():
        from ops import training
        from ops.config import load_config
        from ops.progress import Report
        from ops.session import open_session

        if local or plan:
            config = load_config(env)
            key, _ = config.model(model)
            print(training.described(config, key) if plan else training.train_here(config, key, data, Report()))
            return
        session = open_session(env, emulated=emulated)
        key, declared = session.config.model(model)
        session.announce()
        session.ask(f"Train {key} on {declared.training.machine_type}?", yes=yes)
        if wait:
            trained = training.train(session.config, session.clients, key, Report(), timeout_seconds=timeout or None)
            print(trained.versioned_name)
        else:
            print(training.submit(session.config, session.clients, key, Report()).name)


@task(
    help={
        **COMMON,
        "endpoint": ENDPOINT,
        "instances": "JSON, or the path of a file of it; rows of the data set when left out",
        "rows": "how many rows of the data set",
    }
)
def predict(
    c: Context,
    env: str = "local",
    endpoint: str | None = None,
    instances: str | None = None,
    rows: int = 5,
    emulated: bool = False,
) -> None:
    """Ask an endpoint; prints one JSON line an instance."""
    with readable_errors():
        from ops import data
        from ops import predict as asking
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        config, clients = session.config, session.clients
        key, declared = config.endpoint(endpoint)
        if instances is not None:
            given = asking.read_instances(asking.given_text(instances))
        else:
            model = declared.deployed_models[0].model
            with data.head(config, clients, config.models[model].training.dataset) as file:
                given = asking.sample_instances(config, model, file, rows)
        answers = asking.predict(clients, config.endpoint_name(key), given)
        for instance, prediction in zip(given, answers.values, strict=True):
            print(json.dumps({"instance": instance, "prediction": prediction}))


@task(name="list", help={**COMMON, "output": TEXT_OR_JSON})
def model_list(c: Context, env: str = "local", output: str = "text", emulated: bool = False) -> None:
    """List the models of the registry."""
    with readable_errors():
        from ops.registry import list_models
        from ops.session import open_session

        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        printing.print_rows(list_models(session.config, session.clients), chosen)


@task(help={**COMMON, "model": MODEL})
def model_describe(c: Context, env: str = "local", model: str | None = None, emulated: bool = False) -> None:
    """Print a model's versions, their origin and their evaluations as JSON."""
    with readable_errors():
        from ops.registry import describe_model
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.model(model)
        print(json.dumps(describe_model(session.config, session.clients, key), indent=2))


@task(help={**COMMON, "model": MODEL})
def model_endpoint(c: Context, env: str = "local", model: str | None = None, emulated: bool = False) -> None:
    """Print the names of the endpoints that serve a model, one a line; exit code 1 when none does."""
    with readable_errors():
        from ops.registry import endpoints_of_model
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.model(model)
        names = endpoints_of_model(session.config, session.clients, key)
        if not names:
            raise Exit(f"no endpoint serves {key}; deploy it with: inv deploy --env {env}", code=1)
        print("\n".join(names))


@task(help={**CHANGING, "model": MODEL, "version": "only this one, a number or an alias", "plan": PLAN})
def model_remove(
    c: Context,
    env: str = "local",
    model: str | None = None,
    version: str | None = None,
    yes: bool = False,
    plan: bool = False,
    emulated: bool = False,
) -> None:
    """Delete a model, or one version of it, from the registry; its files stay. Prints what was deleted."""
    with readable_errors():
        from ops import registry
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        config, clients = session.config, session.clients
        key, _ = config.model(model)
        name = registry.removable(config, clients, key, version)
        if not plan:
            session.announce()
            session.ask(f"Delete {name} from the registry?", yes=yes)
            registry.remove(clients, name)
        print(name)
