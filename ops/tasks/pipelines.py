"""Pipelines: compiling them, running them, looking at their runs."""

from __future__ import annotations

import json

from invoke.context import Context
from invoke.tasks import task

from ops import printing
from ops.errors import readable_errors
from ops.tasks.options import CHANGING, COMMON, ENV, PIPELINE, PLAN, RUN, TEXT_OR_JSON, TIMEOUT


@task(help={"env": ENV, "pipeline": PIPELINE, "out": "the file; <pipeline>.yaml below .selfloop when left out"})
def pipeline_compile(c: Context, env: str = "local", pipeline: str | None = None, out: str | None = None) -> None:
    """Compile a pipeline to YAML that Vertex AI takes; prints the file's path."""
    with readable_errors():
        from pathlib import Path

        from ops.config import ROOT, load_config
        from ops.pipelines import compile_to

        config = load_config(env)
        key, _ = config.pipeline(pipeline)
        target = Path(out) if out else ROOT / ".selfloop" / "pipelines" / f"{config.environment}-{key}.yaml"
        compile_to(config, key, target.absolute())
        print(target)


@task(
    help={
        **CHANGING,
        "pipeline": PIPELINE,
        "plan": PLAN,
        "wait": "wait for the run's end, and show its tasks meanwhile",
        "timeout": TIMEOUT,
    }
)
def pipeline_run(
    c: Context,
    env: str = "local",
    pipeline: str | None = None,
    yes: bool = False,
    plan: bool = False,
    wait: bool = True,
    timeout: float = 0.0,
    emulated: bool = False,
) -> None:
    """Run a pipeline; prints the run's id."""
    with readable_errors():
        from ops import pipelines
        from ops.config import load_config
        from ops.progress import Report
        from ops.session import open_session

        if plan:
            config = load_config(env)
            print(pipelines.described(config, config.pipeline(pipeline)[0]))
            return
        session = open_session(env, emulated=emulated)
        key, _ = session.config.pipeline(pipeline)
        session.announce()
        session.ask(f"Run {key}?", yes=yes)
        report = Report()
        job = pipelines.submit(session.config, session.clients, key, report)
        if wait:
            pipelines.wait(session.config, session.clients, job, report, timeout_seconds=timeout or None)
        print(job.name.rsplit("/", 1)[-1])


@task(
    help={
        **CHANGING,
        "pipeline": PIPELINE,
        "pause": "let no further run begin",
        "resume": "let runs begin again",
        "remove": "delete the schedule; its runs stay",
    }
)
def pipeline_schedule(
    c: Context,
    env: str = "local",
    pipeline: str | None = None,
    pause: bool = False,
    resume: bool = False,
    remove: bool = False,
    yes: bool = False,
    emulated: bool = False,
) -> None:
    """Bring a pipeline's schedule in line with the configuration, pause, resume or remove it; prints its name."""
    with readable_errors():
        from ops import pipelines
        from ops.errors import OpsError
        from ops.progress import Report
        from ops.session import open_session

        chosen = [verb for verb, given in (("pause", pause), ("resume", resume), ("remove", remove)) if given]
        if len(chosen) > 1:
            raise OpsError(f"--{' and --'.join(chosen)} exclude each other")
        session = open_session(env, emulated=emulated)
        key, _ = session.config.pipeline(pipeline)
        session.announce()
        session.ask(f"{chosen[0].capitalize() if chosen else 'Apply'} the schedule of {key}?", yes=yes)
        if chosen:
            print(pipelines.change_schedule(session.config, session.clients, key, chosen[0]))
        else:
            print(pipelines.schedule(session.config, session.clients, key, Report()))


@task(name="list", help={**COMMON, "limit": "how many", "output": TEXT_OR_JSON})
def pipeline_list(
    c: Context, env: str = "local", limit: int = 20, output: str = "text", emulated: bool = False
) -> None:
    """List the runs of pipelines, newest first."""
    with readable_errors():
        from ops.pipeline_runs import runs
        from ops.session import open_session

        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        printing.print_rows(runs(session.config, session.clients, limit), chosen)


@task(
    help={
        **COMMON,
        "run": RUN,
        "pipeline": "the latest run of this pipeline, a key under pipelines",
        "wait": "stay until the run is over, the tree changing meanwhile",
        "output": TEXT_OR_JSON,
    },
)
def pipeline_status(
    c: Context,
    env: str = "local",
    run: str = "",
    pipeline: str | None = None,
    wait: bool = False,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Show the tasks of a run as a tree."""
    with readable_errors():
        from rich.console import Console

        from ops import pipeline_runs
        from ops.pipelines import wait as wait_for
        from ops.progress import Report
        from ops.session import open_session

        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        job = pipeline_runs.find(session.config, session.clients, run, pipeline)
        if wait:
            job = wait_for(session.config, session.clients, job, Report())
        if chosen == "json":
            print(json.dumps(pipeline_runs.as_dict(job), indent=2))
        else:
            Console(highlight=False, soft_wrap=True).print(pipeline_runs.drawn(job))


@task(positional=["task_name"], help={**COMMON, "task_name": "such as train", "run": RUN})
def pipeline_logs(c: Context, task_name: str, env: str = "local", run: str = "", emulated: bool = False) -> None:
    """Print what a task of a run printed."""
    with readable_errors():
        from ops import pipeline_runs
        from ops.session import open_session

        session = open_session(env, emulated=emulated)
        job = pipeline_runs.find(session.config, session.clients, run)
        for line in pipeline_runs.log_lines(session.config, session.clients, job, task_name):
            print(line.text)


@task(
    positional=["first", "second"],
    help={**COMMON, "first": "id of a run", "second": "id of another", "output": TEXT_OR_JSON},
)
def pipeline_diff(
    c: Context, first: str, second: str, env: str = "local", output: str = "text", emulated: bool = False
) -> None:
    """Print in what two runs differ: parameters, tasks, measures; nothing where they are alike."""
    with readable_errors():
        from ops import pipeline_runs
        from ops.session import open_session

        chosen = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        one, other = (pipeline_runs.find(session.config, session.clients, run) for run in (first, second))
        printing.print_rows(pipeline_runs.differences(one, other), chosen)
