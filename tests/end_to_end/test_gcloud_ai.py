"""Every subcommand of `gcloud ai models`, `endpoints` and `operations`; those of `custom-jobs` are tested with jobs.

What is not here (`custom-jobs local-run`, `--local-package-path`) builds an image with Docker and asks no API.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1 import EndpointServiceClient, ModelServiceClient
from google.longrunning import operations_pb2

from tests.conftest import LOCATION, Emulator, require_program
from tests.emulator.services.aiplatform import registry
from tests.emulator.services.aiplatform.registry import IMAGE

#: Subcommands of `gcloud ai endpoints` for methods that nobody has written, and the methods.
ABSENT = {
    "explain": "Explain",
    "direct-predict": "DirectPredict",
    "direct-raw-predict": "DirectRawPredict",
    "stream-direct-predict": "StreamDirectPredict",
    "stream-direct-raw-predict": "StreamDirectRawPredict",
}


class GcloudError(Exception):
    """What gcloud wrote when it failed."""


@pytest.fixture
def gcloud(emulator: Emulator, project: str) -> Callable[..., Any]:
    """`gcloud ai …`: the parsed JSON of what it prints. Raises GcloudError."""
    program = require_program("gcloud")

    def run(*arguments: str, region: str = LOCATION) -> Any:
        options = (f"--region={region}", f"--project={project}", "--format=json", "--quiet")
        done = emulator.run(program, "ai", *arguments, *options)
        if done.returncode:
            raise GcloudError(done.stderr)
        return json.loads(done.stdout or "null")

    return run


def test_gcloud_registers_copies_and_deletes_models(
    emulator: Emulator, gcloud: Callable[..., Any], project: str, parent: str
) -> None:
    uri = registry.put_model(emulator, project, registry.constant(4))
    source = f"{parent}/models/tips"
    common = ("--display-name=tips", f"--container-image-uri={IMAGE}", f"--artifact-uri={uri}")
    gcloud(
        "models", "upload", *common, "--model-id=tips", "--description=of trips", "--labels=team=taxi",
        "--version-description=first", "--version-aliases=live,golden", "--container-env-vars=SIZE=big",
        "--container-ports=8080", "--container-predict-route=/predict", "--container-health-route=/health",
        "--explanation-method=sampled-shapley", "--explanation-path-count=5",
    )  # fmt: skip
    gcloud("models", "upload", *common, f"--parent-model={source}")
    (listed,) = gcloud("models", "list", "--filter=displayName=tips")
    shown = gcloud("models", "describe", "tips")
    assert listed == shown
    assert (shown["versionId"], shown["versionAliases"]) == ("1", ["live", "golden", "default"])
    assert (shown["description"], shown["versionDescription"], shown["labels"]) == (
        "of trips",
        "first",
        {"team": "taxi"},
    )
    assert (shown["artifactUri"], shown["containerSpec"]["env"]) == (uri, [{"name": "SIZE", "value": "big"}])
    assert shown["explanationSpec"]["parameters"] == {"sampledShapleyAttribution": {"pathCount": 5}}

    gcloud("models", "copy", f"--source-model={source}@live", region="europe-west4")
    there = emulator.client(ModelServiceClient, location="europe-west4")
    (copied,) = there.list_models(parent=f"projects/{project}/locations/europe-west4")
    assert copied.original_model_info.model == f"{shown['name']}@1"
    gcloud("models", "copy", f"--source-model={copied.name}", f"--destination-parent-model={source}")
    assert [version["versionId"] for version in gcloud("models", "list-version", "tips")] == ["3", "2", "1"]

    gcloud("models", "delete-version", "tips@2")
    with pytest.raises(GcloudError, match=r"FAILED_PRECONDITION.*is the default one"):
        gcloud("models", "delete-version", "tips@default")
    gcloud("models", "delete", "tips")
    client = emulator.client(ModelServiceClient)
    assert not list(client.list_models(parent=parent))
    # Operations outlive what they worked on; gcloud knows them by their ids alone.
    done = client.list_operations(operations_pb2.ListOperationsRequest(name=shown["name"])).operations
    assert len(done) == 3  # two uploads and a copy
    operation = gcloud("operations", "describe", done[-1].name.rpartition("/")[2])
    assert (operation["name"], operation["done"]) == (done[-1].name, True)
    assert operation["response"]["@type"].endswith("aiplatform.v1.UploadModelResponse")


def test_gcloud_deploys_predicts_and_undeploys(
    emulator: Emulator, gcloud: Callable[..., Any], project: str, parent: str, tmp_path: Path
) -> None:
    models = emulator.client(ModelServiceClient)
    uri = registry.put_model(emulator, project, registry.constant(4))
    registry.upload(models, parent, registry.described(uri), model_id="tips")
    table = f"--request-response-logging-table=bq://{project}.log.calls"
    made = gcloud(
        "endpoints", "create", "--display-name=tips", "--endpoint-id=tips-1", "--labels=a=1,b=2", table,
        "--request-response-logging-rate=0.5",
    )  # fmt: skip
    assert made["name"].endswith("/endpoints/tips-1")
    gcloud(
        "endpoints", "deploy-model", "tips-1", "--model=tips@1", "--display-name=first", "--deployed-model-id=77",
        "--machine-type=n1-standard-2", "--min-replica-count=1", "--max-replica-count=2", "--traffic-split=0=100",
        "--autoscaling-metric-specs=cpu-usage=70", "--enable-access-logging",
    )  # fmt: skip
    endpoint = gcloud("endpoints", "describe", "tips-1")
    assert gcloud("endpoints", "list") == [endpoint]
    (deployed,) = endpoint["deployedModels"]
    assert (deployed["id"], deployed["displayName"], deployed["modelVersionId"]) == ("77", "first", "1")
    assert deployed["dedicatedResources"]["autoscalingMetricSpecs"][0]["target"] == 70
    assert endpoint["predictRequestResponseLoggingConfig"]["samplingRate"] == 0.5

    request = tmp_path / "request.json"
    request.write_text('{"instances": [[0, 0], [1, 1]]}')
    assert gcloud("endpoints", "predict", "tips-1", f"--json-request={request}")["predictions"] == [4, 4]
    answer = {"predictions": [4.0, 4.0]}
    assert gcloud("endpoints", "raw-predict", "tips-1", f"--request=@{request}") == answer
    assert gcloud("endpoints", "stream-raw-predict", "tips-1", f"--request=@{request}") == [answer]

    gcloud(
        "endpoints", "update", "tips-1", "--display-name=new", "--description=more", "--update-labels=c=3",
        "--remove-labels=a", "--disable-request-response-logging",
    )  # fmt: skip
    with pytest.raises(GcloudError, match=r"INVALID_ARGUMENT.*must sum to 100; it sums to 99"):
        gcloud("endpoints", "update", "tips-1", "--traffic-split=77=99")
    gcloud("endpoints", "update", "tips-1", "--clear-traffic-split")
    endpoint = gcloud("endpoints", "describe", "tips-1")
    assert (endpoint["displayName"], endpoint["description"], endpoint["labels"]) == (
        "new",
        "more",
        {"b": "2", "c": "3"},
    )
    assert "trafficSplit" not in endpoint
    assert "enabled" not in endpoint["predictRequestResponseLoggingConfig"]

    with pytest.raises(GcloudError, match=r"FAILED_PRECONDITION: Endpoint has deployed or being-deployed .*: 77"):
        gcloud("endpoints", "delete", "tips-1")
    gcloud("endpoints", "undeploy-model", "tips-1", "--deployed-model-id=77")
    gcloud("endpoints", "delete", "tips-1")

    client = emulator.client(EndpointServiceClient)
    assert not list(client.list_endpoints(parent=parent))
    done = client.list_operations(operations_pb2.ListOperationsRequest(name=endpoint["name"])).operations
    kinds = ["UndeployModelResponse", "DeployModelResponse", "Endpoint"]
    assert [operation.response.type_url.rpartition(".")[2] for operation in done] == kinds
    deployment = gcloud("operations", "describe", done[1].name.rpartition("/")[2])
    assert deployment["metadata"]["deploymentStage"] == "SUCCESSFULLY_DEPLOYED"


@pytest.mark.long  # gcloud asks again and again, for half a minute, what answers a status of 500 or more
def test_gcloud_is_told_which_method_is_absent(
    emulator: Emulator, gcloud: Callable[..., Any], project: str, parent: str, tmp_path: Path
) -> None:
    registry.new_endpoint(emulator.client(EndpointServiceClient), parent)
    (name,) = [one["name"] for one in gcloud("endpoints", "list")]
    requests = {
        "explain": {"instances": [[0, 0]]},
        "direct-predict": {"inputs": [{"dtype": "STRING", "shape": [1], "string_val": ["x"]}]},
        "direct-raw-predict": {"method_name": "m", "input": base64.b64encode(b"bytes").decode()},
    }
    for verb, method in ABSENT.items():
        request = tmp_path / f"{verb}.json"
        request.write_text(json.dumps(requests[verb.removeprefix("stream-")]))
        with pytest.raises(GcloudError, match=rf"PredictionService\.{method} is not emulated yet"):
            gcloud("endpoints", verb, name.rpartition("/")[2], f"--json-request={request}")


def test_gcloud_makes_changes_lists_and_deletes_tensorboards(gcloud: Callable[..., Any]) -> None:
    gcloud("tensorboards", "create", "--display-name=mine", "--labels=a=b")
    (made,) = gcloud("tensorboards", "list")
    number = made["name"].rpartition("/")[2]
    gcloud("tensorboards", "update", number, "--display-name=other", "--update-labels=c=d")
    shown = gcloud("tensorboards", "describe", number)
    assert (shown["displayName"], shown["labels"]) == ("other", {"a": "b", "c": "d"})
    gcloud("tensorboards", "delete", number)
    assert gcloud("tensorboards", "list") == []
