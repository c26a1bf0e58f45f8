"""The closed loop, told step by step: data, training, registry, endpoint, predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops import data, deploy, emulator, evaluations, predict, training, worlds
from ops.clients import Clients
from ops.config import Config
from ops.errors import OpsError
from ops.progress import Report
from ops.reconcile.targeted import bring_about

CHECKED_ROWS = 100
"""predictions that are compared with the model's own answers"""
SHOWN_ROWS = 5


@dataclass(frozen=True)
class Made:
    """One thing that the loop made, and the command that shows it."""

    what: str
    name: str
    look: str


@dataclass
class Story:
    """What came of a loop."""

    made: list[Made] = field(default_factory=list)
    instances: list[Any] = field(default_factory=list)
    predictions: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    def as_text(self) -> str:
        """A few predictions, then what was made: its name and, on a line that can be copied, what shows it."""
        width = max(len(row.what) for row in self.made)
        lines = [f"{instance} -> {prediction}" for instance, prediction in self._telling_rows()]
        lines += ["", f"made in {self.seconds:.1f} s"]
        for row in self.made:
            lines += [f"  {row.what:{width}}  {row.name}", f"  {'':{width}}  $ {row.look}"]
        return "\n".join(lines)

    def _telling_rows(self) -> list[tuple[Any, Any]]:
        """A few instances with their predictions: one for each answer there is, then the first ones."""
        rows = list(zip(self.instances, self.predictions, strict=True))
        firsts = {json.dumps(prediction): at for at, (_, prediction) in reversed(list(enumerate(rows)))}
        chosen = list(dict.fromkeys([*firsts.values(), *range(len(rows))]))[:SHOWN_ROWS]
        return [rows[at] for at in sorted(chosen)]

    def as_dict(self) -> dict[str, object]:
        return {
            "made": [{"what": row.what, "name": row.name, "look": row.look} for row in self.made],
            "instances": self.instances,
            "predictions": self.predictions,
            "seconds": round(self.seconds, 1),
        }


def run(config: Config, report: Report, *, data_file: Path | None = None, emulated: bool = False) -> Story:
    """Go once around with the configuration's first endpoint and the model behind it.

    data_file: trips to train on; without it the data set's object, generated when it is missing.
    Raises OpsError when a step fails, and when the endpoint answers otherwise than the model itself.
    """
    if data_file is not None and not data_file.is_file():
        raise OpsError(f"{data_file} is no file; give the path of a CSV file of trips")
    if not config.endpoints:
        raise OpsError(f"config/{config.environment}.yaml declares no endpoint; the loop ends at one")
    endpoint_key, endpoint = next(iter(config.endpoints.items()))
    model_key = endpoint.deployed_models[0].model
    story = Story()
    connect(config, report, story, emulated=emulated)
    clients = Clients(config)

    with report.step("clients"):
        clients.import_packages()
    bring_about(config, clients, report, {"bucket"})
    dataset = config.models[model_key].training.dataset
    if data_file is not None:
        with report.step("data") as step:
            data.upload(config, clients, dataset, data_file, report)
            step.outcome = f"{config.dataset_uri(dataset)} from {data_file}"
    trained = training.train(config, clients, model_key, report)
    with ThreadPoolExecutor(max_workers=1) as background:
        # The model is asked here while it is deployed there.
        asked = background.submit(_own_answers, config, clients, model_key, trained.versioned_name)
        bring_about(config, clients, report, {"endpoint"}, {config.endpoint_name(endpoint_key)})
        with report.step("predictions") as step:
            story.instances, expected = asked.result()
            answered = predict.predict(clients, config.endpoint_name(endpoint_key), story.instances)
            require_equal(story.instances, answered.values, expected)
            story.predictions = answered.values
            step.outcome = f"{len(expected)} of {len(expected)} as the model itself answers"
    story.made += _made(config, clients, model_key, endpoint_key, trained)
    story.seconds = report.seconds
    return story


def _own_answers(config: Config, clients: Clients, model_key: str, versioned_name: str) -> tuple[list[Any], list[Any]]:
    """Instances of real rows, and what the model version answers to them when it is loaded here."""
    with data.head(config, clients, config.models[model_key].training.dataset) as file:
        instances = predict.sample_instances(config, model_key, file, CHECKED_ROWS)
    return instances, predict.answers_of_model(clients, versioned_name, instances)


def connect(config: Config, report: Report, story: Story, *, emulated: bool) -> None:
    """Connect to the configuration's world; its emulator is started when none runs."""
    if worlds.world_of(config, emulated=emulated) == "emulator":
        with report.step("emulator") as step:
            control, started = emulator.ensure(config)
            step.outcome = f"{'started' if started else 'runs'} at {control.address}"
        story.made.append(Made("emulator", control.address, 'eval "$(inv emulator.env)"'))
    worlds.connect(config, emulated=emulated)


def require_equal(instances: Sequence[Any], answered: Sequence[Any], expected: Sequence[Any]) -> None:
    """Raises OpsError at the first instance that the endpoint answers otherwise than the model."""
    if len(answered) != len(instances):
        raise OpsError(f"the endpoint gave {len(answered)} answers to {len(instances)} instances; look at its logs")
    for instance, ours, theirs in zip(instances, answered, expected, strict=True):
        if ours != theirs:
            raise OpsError(f"the endpoint answers {ours} to {instance}, the model itself {theirs}; look at its logs")


def _made(
    config: Config, clients: Clients, model_key: str, endpoint_key: str, trained: training.TrainedModel
) -> list[Made]:
    model, where = config.models[model_key], f"--region={config.location} --project={config.project}"
    evaluation = evaluations.find(clients, trained.versioned_name)
    endpoint = deploy.get_endpoint(clients, config.endpoint_name(endpoint_key))
    env = "" if config.environment == "local" else f" --env {config.environment}"
    uri = config.dataset_uri(model.training.dataset)
    return [
        Made("data", uri, worlds.shell_command(f"gcloud storage ls -l {uri}")),
        Made("training job", _short(trained.custom_job), training.look_command(config, trained.custom_job)),
        Made(
            "model version",
            _short(trained.versioned_name),
            worlds.shell_command(f"gcloud ai models describe {model_key}@{trained.version_id} {where}"),
        ),
        Made("evaluation", evaluations.summary(evaluation) if evaluation else "none", f"inv model.describe{env}"),
        Made("endpoint", _short(endpoint.name), f"inv endpoint.status{env}"),
        Made("deployed model", endpoint.deployed_models[0].id, f"inv predict{env}"),
    ]


def _short(name: str) -> str:
    """The last two parts of a resource name: `models/taxi-tips@3`."""
    return "/".join(name.split("/")[-2:])
