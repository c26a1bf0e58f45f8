"""Every command of the project; `inv --list` is the table of contents.

A task parses, calls `ops` and prints: data on standard output, progress on standard error. Packages are imported
inside the tasks, so that listing them costs nothing.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from ops.errors import OpsError, readable_errors

if TYPE_CHECKING:
    from ops.control import Control
    from ops.reconcile.resource import Kind

CHANGES = 2
"""exit code: changes or drift present"""

ENV = "name of a file in config/, e.g. dev"
OUTPUT = "text, json or markdown"
YES = "do not ask"
PLAN = "show what would be done and change nothing"
EMULATED = "rehearse an environment of Google Cloud on this machine's emulator"
TIMEOUT = "seconds to wait; 0 waits until the end"
COMMON = {"env": ENV, "emulated": EMULATED}
CHANGING = {**COMMON, "yes": YES}


# ------------------------------------------------------------------ look after


@task(help={"env": ENV})
def doctor(c: Context, env: str = "local") -> None:
    """Say what is wrong with this machine or shell for each client, and how to mend it."""
    with readable_errors():
        from ops.config import load_config
        from ops.doctor import examine

        findings = list(examine(load_config(env)))
        print("\n".join(map(str, findings)))
        if any(finding.level == "wrong" for finding in findings):
            raise Exit(code=1)


@task(help={**CHANGING, "plan": PLAN, "output": OUTPUT})
def init(
    c: Context, env: str = "local", yes: bool = False, plan: bool = False, output: str = "text", emulated: bool = False
) -> None:
    """Make the buckets that an environment declares."""
    _apply_kinds(env, {"bucket"}, yes=yes, only_plan=plan, output=output, emulated=emulated)


@task
def check(c: Context) -> None:
    """Run what pre-commit and CI run: style, types, who imports whom, YAML, secrets."""
    with readable_errors():
        from ops.checks import run_checks
        from ops.progress import Report

        failed = run_checks(Report())
        if failed:
            raise OpsError(f"found something: {', '.join(failed)}")


@task(help={"select": "only tests whose name matches, as pytest's -k", "path": "files or folders, comma-separated"})
def test(c: Context, select: str = "", path: str = "") -> None:
    """Run the tests, loads and soaks excepted."""
    _pytest(select, path)


@task(help={"select": "only tests whose name matches, as pytest's -k", "path": "files or folders, comma-separated"})
def test_long(c: Context, select: str = "", path: str = "") -> None:
    """Run the loads, soaks and kill rounds."""
    _pytest(select, path, "-m", "long")


@task(help={"name": "one benchmark; without it all of them"})
def bench(c: Context, name: str = "") -> None:
    """Measure the emulator beside its peers."""
    with readable_errors():
        _python_module("benchmarks", *([name] if name else []))


# ------------------------------------------------------------------ desired state


@task(help={**COMMON, "output": OUTPUT})
def plan(c: Context, env: str = "local", output: str = "text", emulated: bool = False) -> None:
    """Show what `inv apply` would change in an environment; exit code 2 when there is something."""
    with readable_errors():
        from ops.reconcile.targeted import plan_of
        from ops.session import open_session

        chosen = _format(output)
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

        print(shown(load_config(env), _format(output, ("yaml", "json"))), end="")


@task(help={"check": "only say whether the file is current"})
def config_schema(c: Context, check: bool = False) -> None:
    """Write config/schema.json, which editors read."""
    with readable_errors():
        from ops.config import schema_is_current, write_schema

        if check and not schema_is_current():
            raise OpsError("config/schema.json is not current; run: inv config.schema")
        if not check:
            print(write_schema())


# ------------------------------------------------------------------ the model's life


@task(
    help={
        **CHANGING,
        "model": "key under models; not needed when there is one",
        "local": "on this machine, without any cloud",
        "data": "with --local: the data file; generated when left out",
        "plan": PLAN,
        "wait": "wait for the version",
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
        from ops.progress import Report
        from ops.session import open_session

        if local:
            from ops.config import load_config

            print(training.train_here(load_config(env), model, data, Report()))
            return
        session = open_session(env, emulated=emulated)
        key, declared = session.config.model(model)
        if plan:
            print(training.described(session.config, key))
            return
        session.announce()
        session.ask(f"Train {key} on {declared.training.machine_type}?", yes=yes)
        if wait:
            trained = training.train(session.config, session.clients, key, Report(), timeout_seconds=timeout or None)
            print(trained.versioned_name)
        else:
            print(training.submit(session.config, session.clients, key, Report()).name)


@task(
    help={**CHANGING, "endpoint": "key under endpoints; not needed when there is one", "plan": PLAN, "output": OUTPUT}
)
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


@task(
    help={
        **COMMON,
        "endpoint": "key under endpoints; not needed when there is one",
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
            given = asking.read_instances(_text(instances))
        else:
            model = declared.deployed_models[0].model
            with data.head(config, clients, config.models[model].training.dataset) as file:
                given = asking.sample_instances(config, model, file, rows)
        answers = asking.predict(clients, config.endpoint_name(key), given)
        for instance, prediction in zip(given, answers.values, strict=True):
            print(json.dumps({"instance": instance, "prediction": prediction}))


@task(name="list", help={**COMMON, "output": "text or json"})
def model_list(c: Context, env: str = "local", output: str = "text", emulated: bool = False) -> None:
    """List the models of the registry."""
    with readable_errors():
        from ops.registry import list_models
        from ops.session import open_session

        chosen = _format(output, ("text", "json"))
        session = open_session(env, emulated=emulated)
        _print_rows(list_models(session.config, session.clients), chosen)


@task(help={**COMMON, "model": "key under models; not needed when there is one"})
def model_describe(c: Context, env: str = "local", model: str | None = None, emulated: bool = False) -> None:
    """Print a model's versions, their origin and their evaluations as JSON."""
    with readable_errors():
        from ops.registry import describe_model
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.model(model)
        print(json.dumps(describe_model(session.config, session.clients, key), indent=2))


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
    help={**COMMON, "payload": "JSON, the path of a file of it, or - for standard input", "endpoint": "its key"},
)
def endpoint_test(
    c: Context, payload: str, env: str = "local", endpoint: str | None = None, emulated: bool = False
) -> None:
    """Send a payload to an endpoint; prints the predictions as JSON."""
    with readable_errors():
        from ops import predict as asking
        from ops.session import open_session

        given = asking.read_instances(_text(payload))
        session = open_session(env, emulated=emulated)
        key, _ = session.config.endpoint(endpoint)
        answers = asking.predict(session.clients, session.config.endpoint_name(key), given)
        print(json.dumps({"predictions": answers.values, "deployedModelId": answers.deployed_model_id}, indent=2))


# ------------------------------------------------------------------ the story


@task(help={**CHANGING, "data": "a CSV file of trips to train on; generated when left out", "output": "text or json"})
def loop(
    c: Context,
    env: str = "local",
    data: str | None = None,
    yes: bool = False,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Close the loop once: data, training, registry, endpoint, predictions checked against the model itself."""
    with readable_errors():
        from pathlib import Path

        from ops import loop as story
        from ops import worlds
        from ops.config import load_config
        from ops.progress import Report

        chosen = _format(output, ("text", "json"))
        config = load_config(env)
        worlds.announce(config, emulated=emulated)
        worlds.confirm(config, f"Train, register and deploy in {config.project}?", yes=yes, emulated=emulated)
        told = story.run(config, Report(), data_file=Path(data) if data else None, emulated=emulated)
        print(json.dumps(told.as_dict(), indent=2) if chosen == "json" else told.as_text())


# ------------------------------------------------------------------ data


@task(
    help={
        **CHANGING,
        "dataset": "key under datasets; not needed when there is one",
        "rows": "how many; 0 takes the configuration's number",
        "seed": "same seed, same rows; -1 takes the configuration's",
    }
)
def data_seed(
    c: Context,
    env: str = "local",
    dataset: str | None = None,
    rows: int = 0,
    seed: int = -1,
    yes: bool = False,
    emulated: bool = False,
) -> None:
    """Generate a data set and put it into its bucket; prints its URI."""
    with readable_errors():
        from ops import data
        from ops.progress import Report
        from ops.reconcile.targeted import bring_about
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.dataset(dataset)
        uri, report = session.config.dataset_uri(key), Report()
        session.announce()
        session.ask(f"Replace {uri} by generated rows?", yes=yes)
        bring_about(session.config, session.clients, report, {"bucket"})
        with report.step("data"):
            chosen = {"rows": rows or None, "random_seed": seed if seed >= 0 else None}
            data.seed(session.config, session.clients, key, report, **chosen)
        print(uri)


@task(
    name="import",
    positional=["path"],
    help={**CHANGING, "path": "a file", "dataset": "key under datasets; not needed when there is one"},
)
def data_import(
    c: Context, path: str, env: str = "local", dataset: str | None = None, yes: bool = False, emulated: bool = False
) -> None:
    """Make a data set of a local file; prints its URI."""
    with readable_errors():
        from pathlib import Path

        from ops import data
        from ops.progress import Report
        from ops.reconcile.targeted import bring_about
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        key, _ = session.config.dataset(dataset)
        uri, report = session.config.dataset_uri(key), Report()
        session.announce()
        session.ask(f"Replace {uri} by {path}?", yes=yes)
        bring_about(session.config, session.clients, report, {"bucket"})
        with report.step("data"):
            data.upload(session.config, session.clients, key, Path(path), report)
        print(uri)


# ------------------------------------------------------------------ the emulator


@task(help={"env": ENV, "foreground": "stay, and print one line holding `ready` and the address once it answers"})
def emulator_up(c: Context, env: str = "local", foreground: bool = False) -> None:
    """Start the local Google Cloud; says so when one runs already."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        config = load_config(env)
        if foreground:
            emulator.run_in_foreground(config)
        control, started = emulator.ensure(config)
        print(f"ready {control.address}" if started else emulator.running_line(control))
        if started:
            print('turn a shell to it with: eval "$(inv emulator.env)"', file=sys.stderr)


@task(help={"env": ENV})
def emulator_down(c: Context, env: str = "local") -> None:
    """Stop the local Google Cloud; its state stays."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        control = emulator.stop(load_config(env))
        print(f"stopped {control.address}" if control else "no emulator runs")


@task(help={"env": ENV})
def emulator_status(c: Context, env: str = "local") -> None:
    """Print what the running emulator says of itself as JSON; exit code 1 when none runs."""
    with readable_errors():
        control = _control(env)
        print(json.dumps({"address": control.address, **control.get("health")}, indent=2))


@task(help={"env": ENV})
def emulator_env(c: Context, env: str = "local") -> None:
    """Print the exports that turn a shell to the emulator: eval "$(inv emulator.env)"."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        print(emulator.exports(load_config(env)))


@task(name="exec", help={"env": ENV, "isolated": "in a network in which there is only the emulator"})
def emulator_exec(c: Context, env: str = "local", isolated: bool = False) -> None:
    """Run one command inside the exports: inv emulator.exec -- gcloud ai models list."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        # invoke joins what follows the dashes with spaces; the words themselves are in sys.argv.
        words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
        raise Exit(code=emulator.execute(load_config(env), words, isolated=isolated))


@task(help={"env": ENV, "lines": "how many of the last ones", "follow": "go on as it grows"})
def emulator_logs(c: Context, env: str = "local", lines: int = 50, follow: bool = False) -> None:
    """Print the emulator's own log."""
    with readable_errors():
        from ops import emulator
        from ops.config import load_config

        emulator.show_log(load_config(env), lines, follow=follow)


@task(help={"env": ENV, "yes": YES})
def emulator_reset(c: Context, env: str = "local", yes: bool = False) -> None:
    """Forget everything that the emulator keeps."""
    with readable_errors():
        from ops import emulator, worlds
        from ops.config import load_config

        config, control = load_config(env), _control(env)
        worlds.confirm(config, f"Forget everything in {control.state}?", yes=yes)
        control.post("reset")
        print(f"ready {emulator.restarted(control).address}")


@task(positional=["name"], help={"env": ENV, "name": "letters, digits, dashes"})
def emulator_snapshot(c: Context, name: str, env: str = "local") -> None:
    """Keep a copy of the emulator's state under a name."""
    with readable_errors():
        _control(env).post("snapshots", {"name": name})
        print(name)


@task(help={"env": ENV, "output": "text or json"})
def emulator_snapshots(c: Context, env: str = "local", output: str = "text") -> None:
    """List the copies of the emulator's state."""
    with readable_errors():
        _print_rows(_control(env).get("snapshots")["snapshots"], _format(output, ("text", "json")))


@task(positional=["name"], help={"env": ENV, "name": "of a snapshot", "yes": YES})
def emulator_restore(c: Context, name: str, env: str = "local", yes: bool = False) -> None:
    """Go back to a snapshot."""
    with readable_errors():
        from urllib.parse import quote

        from ops import emulator, worlds
        from ops.config import load_config

        config, control = load_config(env), _control(env)
        worlds.confirm(config, f"Replace the state in {control.state} by the snapshot {name}?", yes=yes)
        control.post(f"snapshots/{quote(name, safe='')}/restore")
        print(f"ready {emulator.restarted(control).address}")


@task(help={"env": ENV, "hours": "how many", "seconds": "how many more"})
def emulator_advance(c: Context, env: str = "local", hours: float = 0.0, seconds: float = 0.0) -> None:
    """Move the emulator's clock on; prints its time."""
    with readable_errors():
        total = hours * 3600 + seconds
        if total <= 0:
            raise OpsError("say how far: inv emulator.advance --hours 24")
        print(_control(env).post("clock", {"advance_seconds": total})["now"])


@task(
    help={"env": ENV, "service": "only services whose name contains this, method by method", "output": "text or json"}
)
def emulator_coverage(c: Context, env: str = "local", service: str = "", output: str = "text") -> None:
    """Say how far each service is emulated: absent, shape, behaves or checked."""
    with readable_errors():
        from ops import emulator

        levels = {n: methods for n, methods in _control(env).get("coverage").items() if service in n}
        if _format(output, ("text", "json")) == "json":
            print(json.dumps(levels, indent=2))
        else:
            print(emulator.coverage_text(levels, by_method=bool(service)))


@task(
    help={
        "env": ENV,
        "limit": "how many, newest last",
        "method": "only methods whose name contains this",
        "output": "text or json",
    }
)
def emulator_journal(c: Context, env: str = "local", limit: int = 20, method: str = "", output: str = "text") -> None:
    """Print the latest calls that reached the emulator."""
    with readable_errors():
        calls = _control(env).get("journal", {"limit": str(limit), "method": method})["calls"][::-1]
        if _format(output, ("text", "json")) == "json":
            print(json.dumps(calls, indent=2))
            return
        for call in calls:
            told = f"  {call['detail']}" if call["detail"] else ""
            took = f"{call['milliseconds']:8.1f} ms"
            print(f"{call['time']} {call['transport']:5} {took} {call['status']:18} {call['method']}{told}")


# ------------------------------------------------------------------ what tasks share


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

        chosen = _format(output)
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


def _control(env: str) -> Control:
    """The running emulator of an environment."""
    from ops.config import load_config
    from ops.control import running_control

    return running_control(load_config(env).emulator_state)


def _format(chosen: str, known: tuple[str, ...] = ("text", "json", "markdown")) -> str:
    if chosen not in known:
        raise OpsError(f"--output {chosen} is not known; write one of: {', '.join(known)}")
    return chosen


def _text(given: str) -> str:
    """JSON as it stands, a file's content, or standard input for a dash."""
    from pathlib import Path

    if given == "-":
        return sys.stdin.read()
    if given.lstrip()[:1] in ("[", "{"):
        return given
    path = Path(given)
    if not path.is_file():
        raise OpsError(f"{given} is neither JSON nor a file; write [[1, 2]] or the path of a file")
    return path.read_text("utf-8")


def _print_rows(rows: list[dict[str, object]], output: str) -> None:
    if output == "json":
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


def _pytest(select: str, path: str, *options: str) -> None:
    with readable_errors():
        chosen = ["-k", select] if select else []
        _python_module("pytest", *options, *chosen, *filter(None, path.split(",")))


def _python_module(module: str, *arguments: str) -> None:
    """Run a module of this environment in place of this process's own ending."""
    import subprocess

    from ops.config import ROOT

    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise Exit(code=done.returncode)


def _namespace(name: str, **tasks: object) -> Collection:
    collection = Collection(name)
    for task_name, body in tasks.items():
        collection.add_task(body, name=task_name.rstrip("_"))  # type: ignore[arg-type]  # what @task gives
    return collection


ns = Collection(
    doctor, init, check, bench,
    plan, apply,
    train, deploy, predict,
    loop,
)  # fmt: skip
ns.add_collection(_namespace("config", show=config_show, schema=config_schema))
ns.add_collection(_namespace("model", list=model_list, describe=model_describe, train=train, deploy=deploy))
ns.add_collection(_namespace("endpoint", status=endpoint_status, test=endpoint_test))
ns.add_collection(_namespace("data", seed=data_seed, import_=data_import))
ns.add_collection(
    _namespace(
        "emulator",
        up=emulator_up,
        down=emulator_down,
        status=emulator_status,
        env=emulator_env,
        exec=emulator_exec,
        logs=emulator_logs,
        reset=emulator_reset,
        snapshot=emulator_snapshot,
        snapshots=emulator_snapshots,
        restore=emulator_restore,
        advance=emulator_advance,
        coverage=emulator_coverage,
        journal=emulator_journal,
    )
)
_tests = _namespace("test", long=test_long)
_tests.add_task(test, name="all", default=True)
ns.add_collection(_tests)
