"""Ask an endpoint, and compare its answers with those of the model itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops import evaluations
from ops.clients import TIMEOUT_SECONDS, Clients
from ops.config import ROOT, Config
from ops.errors import OpsError, ResourceNotFound

MODEL_FILE = "model.joblib"
MODULE_SECONDS = 300


@dataclass(frozen=True)
class Predictions:
    """An endpoint's answers, in the order of the instances."""

    values: list[Any]
    deployed_model_id: str
    model_version_id: str


def predict(clients: Clients, endpoint_name: str, instances: Sequence[Any]) -> Predictions:
    """What the endpoint answers.

    instances: JSON values; numbers travel as doubles.
    Raises ResourceNotFound when there is no such endpoint.
    """
    from google.api_core.exceptions import NotFound
    from google.protobuf import json_format, struct_pb2

    values = [json_format.ParseDict(instance, struct_pb2.Value()) for instance in instances]
    try:
        response = clients.predictions.predict(endpoint=endpoint_name, instances=values, timeout=TIMEOUT_SECONDS)
    except NotFound:
        raise ResourceNotFound(f"{endpoint_name} does not exist; make it with: inv deploy") from None
    message = type(response).pb(response)
    answers = [json_format.MessageToDict(value) for value in message.predictions]
    return Predictions(answers, response.deployed_model_id, response.model_version_id)


def sample_instances(config: Config, key: str, data_file: Path, limit: int) -> list[Any]:
    """The first rows of a data file as the model's instances, made by the model's own features."""
    module = config.models[key].instances
    printed = _run([sys.executable, "-m", module, "--data", str(data_file), "--limit", str(limit)], "")
    return [json.loads(line) for line in printed.splitlines()]


def given_text(given: str) -> str:
    """JSON as it stands, a file's content, or standard input for a dash.

    Raises OpsError for what is none of these.
    """
    if given == "-":
        return sys.stdin.read()
    if given.lstrip()[:1] in ("[", "{"):
        return given
    path = Path(given)
    if not path.is_file():
        raise OpsError(f"{given} is neither JSON nor a file; write [[1, 2]] or the path of a file")
    return path.read_text("utf-8")


def read_instances(text: str) -> list[Any]:
    """Instances out of a payload: `{"instances": […]}`, a JSON list, one instance, or JSON lines.

    Raises OpsError when it is none of these.
    """
    try:
        document = json.loads(text)
    except ValueError:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()] or _no_instances()
        except ValueError as error:
            raise OpsError(f'the payload is no JSON ({error}); write [[1, 2]] or {{"instances": [[1, 2]]}}') from None
    if isinstance(document, dict) and isinstance(document.get("instances"), list):
        document = document["instances"]
    elif not isinstance(document, list) or (document and not isinstance(document[0], list | dict)):
        document = [document]
    return document or _no_instances()


def answers_of_model(clients: Clients, versioned_name: str, instances: Sequence[object]) -> list[Any]:
    """What a model version answers when it is loaded here, past every service that serves it.

    Its file is read from where the registry says that its training wrote it.
    """
    model = clients.models.get_model(name=versioned_name, timeout=TIMEOUT_SECONDS)
    with tempfile.TemporaryDirectory(prefix="selfloop-model-") as folder:
        file = Path(folder) / MODEL_FILE
        file.write_bytes(evaluations.read_object(clients, f"{model.artifact_uri.rstrip('/')}/{MODEL_FILE}"))
        lines = "".join(f"{json.dumps(instance)}\n" for instance in instances)
        printed = _run([sys.executable, "-m", "ops.local_model", "--model", str(file)], lines)
    return [json.loads(line) for line in printed.splitlines()]


def _run(command: list[str], given: str) -> str:
    """Standard output of a module of the repository."""
    done = subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=MODULE_SECONDS
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise OpsError(f"{command[2]} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout


def _no_instances() -> list[Any]:
    raise OpsError('the payload holds no instances; write [[1, 2]] or {"instances": [[1, 2]]}')
