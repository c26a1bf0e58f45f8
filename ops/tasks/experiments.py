"""Experiments: what was recorded of trainings and pipeline runs, side by side."""

from __future__ import annotations

import json

from invoke.context import Context
from invoke.tasks import task

from ops import printing
from ops.errors import OpsError, readable_errors
from ops.tasks.options import COMMON, EXPERIMENT, OUTPUT, TEXT_OR_JSON


@task(help={**COMMON, "output": TEXT_OR_JSON})
def experiments_list(c: Context, env: str = "local", output: str = "text", emulated: bool = False) -> None:
    """List experiments: name, number of runs, name and state of the latest."""
    with readable_errors():
        from ops import experiments
        from ops.session import open_session

        output = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        rows = []
        for name in experiments.names(session.config, session.clients):
            found = experiments.runs(session.config, session.clients, name)
            latest = {"latest": found[-1].name, "state": found[-1].state} if found else {"latest": "", "state": ""}
            rows.append({"experiment": name, "runs": len(found), **latest})
        printing.print_rows(rows, output)


@task(
    help={
        **COMMON,
        "experiment": EXPERIMENT,
        "metric": "the metric to plot; the first one when left out",
        "plot": "a file to write a plot to, as SVG",
        "output": OUTPUT,
    }
)
def experiments_compare(
    c: Context,
    env: str = "local",
    experiment: str | None = None,
    metric: str | None = None,
    plot: str | None = None,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Compare an experiment's runs: metrics, and the parameters in which they differ."""
    with readable_errors():
        from pathlib import Path

        from ops import experiments, plots
        from ops.session import open_session

        output = printing.output_format(output)
        if plot and Path(plot).suffix != ".svg":
            raise OpsError(f"--plot {plot}: a plot is written as SVG; name the file {Path(plot).with_suffix('.svg')}")
        session = open_session(env, emulated=emulated)
        name = session.config.experiment(experiment)
        found = experiments.runs(session.config, session.clients, name)
        if plot:
            chosen, values = experiments.measured(found, metric)
            Path(plot).write_text(plots.bars(f"{name}: {chosen}", values), "utf-8")
        printing.print_table(experiments.table(found), output)


@task(
    help={
        **COMMON,
        "run": "name of a run, or `latest`",
        "experiment": EXPERIMENT,
        "output": TEXT_OR_JSON,
    }
)
def experiments_show(
    c: Context,
    run: str,
    env: str = "local",
    experiment: str | None = None,
    output: str = "text",
    emulated: bool = False,
) -> None:
    """Show all that was recorded of a run."""
    with readable_errors():
        from ops import experiments
        from ops.session import open_session

        output = printing.output_format(output, printing.TEXT_OR_JSON)
        session = open_session(env, emulated=emulated)
        name = session.config.experiment(experiment)
        found = experiments.run(session.config, session.clients, name, run).as_dict()
        if output == "json":
            print(json.dumps(found, indent=2))
            return
        parameters, metrics = found.pop("parameters"), found.pop("metrics")
        rows = [*found.items(), *((f"metric.{key}", value) for key, value in metrics.items())]
        rows += [(f"param.{key}", value) for key, value in parameters.items()]
        printing.print_rows([{"name": key, "value": value} for key, value in rows], output)
