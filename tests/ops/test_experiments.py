"""Runs of experiments: recorded by `ops`, read by `ops` and by the SDK."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from google.cloud import aiplatform

from ops import experiments, labels, plots, tracking
from ops.clients import Clients
from ops.config import Config
from ops.errors import ConfigError, ResourceNotFound
from ops.experiments import PIPELINE_RUN, RUN, Run
from tests.conftest import LOCATION, Emulator
from tests.ops.conftest import MakeConfig

WHEN = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture(params=["grpc", "rest"])
def config(emulator: Emulator, project: str, make_config: MakeConfig, request: pytest.FixtureRequest) -> Config:
    return make_config(f"api_transport: {request.param}\n").model_copy(update={"project": project})


@pytest.fixture
def clients(config: Config) -> Clients:
    return Clients(config)


def test_training_is_a_run_that_the_sdk_reads(config: Config, clients: Clients) -> None:
    with tracking.started(config, clients, "taxi-tips", {"data_generation": "7"}) as tracked:
        tracked.log(parameters={"training_pipeline": "some"})
    (running,) = experiments.runs(config, clients, "taxi-tips")
    assert running.state == "RUNNING"
    tracked.log(metrics={"auRoc": 0.75}, state="COMPLETE")
    ended = experiments.run(config, clients, "taxi-tips", "latest")
    assert ended == experiments.run(config, clients, "taxi-tips", tracked.name)
    assert (ended.state, ended.metrics) == ("COMPLETE", {"auRoc": 0.75})
    assert {"user", "host", "git_commit", "git_dirty", "environment"} <= set(ended.parameters)
    assert (ended.parameters["data_generation"], ended.parameters["training_pipeline"]) == ("7", "some")
    assert tracked.labels == {labels.RUN: tracked.name}
    aiplatform.init(project=config.project, location=LOCATION)
    frame = aiplatform.get_experiment_df("taxi-tips", include_time_series=False)
    assert list(frame["run_name"]) == [tracked.name]
    assert list(frame["metric.auRoc"]) == [0.75]


def test_run_whose_training_cannot_start_has_failed(config: Config, clients: Clients) -> None:
    with pytest.raises(ZeroDivisionError), tracking.started(config, clients, "taxi-tips", {}):
        raise ZeroDivisionError
    assert [one.state for one in experiments.runs(config, clients, "taxi-tips")] == ["FAILED"]


def test_no_run_is_recorded_where_no_experiment_is_declared(emulator: Emulator, make_config: MakeConfig) -> None:
    config = make_config("models: {taxi-tips: {training: {experiment: null}}}\n")
    with tracking.started(config, Clients(config), "taxi-tips", {}) as tracked:
        tracked.log(state="COMPLETE")
        tracked.add_artifact("any")
    assert (tracked.name, tracked.labels) == ("", {})
    with pytest.raises(ConfigError, match="declares 0 experiments"):
        config.experiment(None)
    assert config.experiment("other") == "other"


def test_unknown_experiments_and_runs_are_named(config: Config, clients: Clients) -> None:
    assert experiments.names(config, clients) == []
    with pytest.raises(ResourceNotFound, match="no experiment 'taxi-tips'; experiments: none"):
        experiments.runs(config, clients, "taxi-tips")
    with tracking.started(config, clients, "taxi-tips", {}) as tracked:
        pass
    assert experiments.names(config, clients) == ["taxi-tips"]
    with pytest.raises(ResourceNotFound, match=f"no run nothing; runs: {tracked.name}"):
        experiments.run(config, clients, "taxi-tips", "nothing")


def test_table_has_metrics_and_the_parameters_that_differ() -> None:
    found = [
        Run("one", RUN, "COMPLETE", WHEN, {"depth": 3.0, "kind": "tree", "model": "m@1"}, {"auRoc": 0.5}),
        Run("two", RUN, "FAILED", WHEN, {"depth": 4.0, "kind": "tree", "model": "m@2"}, {}),
        Run("three", PIPELINE_RUN, "COMPLETE", WHEN, {"margin": 0.0}, {"auRoc": 0.75}),
    ]
    assert [list(row) for row in experiments.table(found)] == [
        ["run", "state", "created", "metric.auRoc", "param.depth"]
    ] * 3
    assert [row["metric.auRoc"] for row in experiments.table(found)] == [0.5, "", 0.75]
    assert experiments.measured(found, None) == ("auRoc", [("one", 0.5), ("three", 0.75)])
    with pytest.raises(ResourceNotFound, match="no run has a metric loss; metrics: auRoc"):
        experiments.measured(found, "loss")


@pytest.mark.parametrize(
    ("args", "parameters"),
    [
        (["--depth=3", "--kind", "tree"], {"arg.depth": 3.0, "arg.kind": "tree"}),
        (["--fast", "--n", "-1"], {"arg.fast": "true", "arg.n": -1.0}),
        (["loose"], {}),
    ],
)
def test_arguments_become_parameters(args: list[str], parameters: dict[str, object]) -> None:
    assert tracking.arguments_of(args) == parameters


def test_plot_is_an_image_with_a_bar_for_each_run() -> None:
    drawn = plots.bars("a <b>", [("one", 0.5), ("two & three", -0.25), ("four", float("nan"))])
    assert drawn.startswith("<svg ")
    assert re.findall(r">([^<]+)</text>", drawn)[:2] == ["a &lt;b&gt;", "one"]
    assert "two &amp; three" in drawn
    _, *found = [float(width) for width in re.findall(r'<rect [^>]*width="([^"]+)"', drawn)]
    assert found == [pytest.approx(2 * found[1], abs=0.2), found[1], 0.0]
    assert plots.bars("none", [])
