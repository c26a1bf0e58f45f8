"""Containers of one's own behind an endpoint: mapped by `emulator.image_table`, run as processes."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api.httpbody_pb2 import HttpBody
from google.api_core.exceptions import (
    BadRequest,
    DeadlineExceeded,
    FailedPrecondition,
    GoogleAPICallError,
    MethodNotImplemented,
    ResourceExhausted,
    ServiceUnavailable,
)
from google.cloud import aiplatform
from google.cloud.aiplatform_v1 import Endpoint, EndpointServiceClient, ModelServiceClient, PredictionServiceClient
from google.cloud.storage import Client

from tests.conftest import LOCATION, Emulator, start_emulator, wait_until
from tests.emulator.services.aiplatform import container, registry

IMAGE = "us-central1-docker.pkg.dev/tests/own/server"
QUICK = {"period_seconds": 1, "timeout_seconds": 5, "failure_threshold": 1}


@pytest.fixture(scope="module")
def own(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator that knows an image."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "image").mkdir()
    shutil.copy(container.__file__, folder / "image" / "server.py")
    table = {
        IMAGE: {
            "environment": "sklearn-cpu.1-6",
            "folder": str(folder / "image"),
            "entrypoint": ["python3", "server.py"],
            "env": {"FROM_IMAGE": "yes"},
        }
    }
    shutil.copytree(emulator.state / "ca", folder / "state" / "ca")
    running = start_emulator(folder / "state", "--image-table", json.dumps(table))
    yield running
    running.stop()


class Served:
    def __init__(self, emulator: Emulator, project: str, **spec: Any) -> None:
        parent = f"projects/{project}/locations/{LOCATION}"
        self.endpoints = emulator.client(EndpointServiceClient)
        self.predictions = emulator.client(PredictionServiceClient)
        uri = registry.put(emulator, project, "model", {"weights.txt": b"heavy"})
        model = registry.described(uri)
        model.container_spec = {"image_uri": f"{IMAGE}:v1", **spec}  # type: ignore[assignment]
        self.model = registry.upload(emulator.client(ModelServiceClient), parent, model).name
        self.endpoint = registry.new_endpoint(self.endpoints, parent)

    def deploy(self) -> str:
        return registry.deploy(self.endpoints, self.endpoint, self.model, {"0": 100})

    def ask(self, *instances: Any, timeout: float = 60) -> Any:
        answer = self.predictions.predict(endpoint=self.endpoint, instances=list(instances), timeout=timeout)
        return answer.predictions[0]

    def is_well(self) -> bool:
        try:
            self.ask("describe")
        except GoogleAPICallError:
            return False
        return True


@pytest.fixture(scope="module")
def served(own: Emulator) -> Served:
    made = Served(
        own,
        "own-containers",
        args=["--port", "$(AIP_HTTP_PORT)", "$$(AIP_HTTP_PORT)", "$(NOBODY)"],
        env=[{"name": "FIRST", "value": "one"}, {"name": "SECOND", "value": "$(FIRST) of $(AIP_MODE)"}],
        ports=[{"container_port": 8123}],
        predict_route="/ask/me",
        health_route="/well",
    )
    made.deploy()
    return made


def test_a_container_gets_its_command_variables_and_files(served: Served) -> None:
    seen = served.ask("describe")
    env = seen["env"]
    assert (seen["path"], list(seen["cwd"])) == ("/ask/me", ["server.py"])
    assert list(seen["argv"]) == ["--port", env["AIP_HTTP_PORT"], "$(AIP_HTTP_PORT)", "$(NOBODY)"]
    assert (env["AIP_HTTP_PORT"], env["AIP_HEALTH_ROUTE"], env["AIP_PREDICT_ROUTE"]) == ("8123", "/well", "/ask/me")
    assert (env["FROM_IMAGE"], env["SECOND"]) == ("yes", "one of PREDICTION")
    assert env["AIP_STORAGE_URI"].startswith("gs://")


def test_a_container_reads_the_copy_of_its_model_s_files(own: Emulator, served: Served) -> None:
    assert served.ask("read") == {"weights.txt": "heavy"}
    registry.put(own, "own-containers", "model", {"weights.txt": b"light"})
    assert served.ask("read") == {"weights.txt": "heavy"}


def test_the_copy_goes_with_its_version(own: Emulator, project: str) -> None:
    made = Served(own, project)
    deployed = made.deploy()
    bucket, _, prefix = made.ask("describe")["env"]["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
    made.endpoints.undeploy_model(endpoint=made.endpoint, deployed_model_id=deployed).result(timeout=60)
    with own.exported():
        client = Client(project=project)
        assert list(client.list_blobs(bucket, prefix=prefix))
        own.client(ModelServiceClient).delete_model(name=made.model).result(timeout=60)
        assert not list(client.list_blobs(bucket, prefix=prefix))


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "INVALID_ARGUMENT"), (404, "NOT_FOUND"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"),
     (503, "UNAVAILABLE")],
)  # fmt: skip
def test_a_container_s_status_is_the_code_and_its_body_the_message(served: Served, status: int, code: str) -> None:
    with pytest.raises(GoogleAPICallError) as raised:
        served.ask("status", status)
    assert raised.value.grpc_status_code is not None
    assert (raised.value.grpc_status_code.name, raised.value.message) == (code, '{"said": "no"}')


def test_raw_predict_passes_a_container_s_status_and_body_on(own: Emulator, served: Served) -> None:
    url = f"https://{LOCATION}-aiplatform.googleapis.com/v1/{served.endpoint}:rawPredict"
    with own.exported():
        answer = requests.post(
            url,
            json={"instances": ["status", 418]},
            headers={"Authorization": f"Bearer {own.token}"},
            timeout=60,
        )
    assert (answer.status_code, answer.json()) == (418, {"said": "no"})


def streamed(served: Served, *wishes: Any) -> Iterator[Any]:
    body = HttpBody(data=json.dumps({"instances": ["stream", *wishes]}).encode(), content_type="application/json")
    return iter(served.predictions.stream_raw_predict(request={"endpoint": served.endpoint, "http_body": body}))


def posted(own: Emulator, served: Served, *instances: Any) -> requests.Response:
    with own.exported():
        return requests.post(
            f"https://{LOCATION}-aiplatform.googleapis.com/v1/{served.endpoint}:streamRawPredict",
            json={"instances": list(instances)},
            headers={"Authorization": f"Bearer {own.token}"},
            stream=True,
            timeout=60,
        )


def test_stream_raw_predict_passes_each_piece_on_as_it_comes(served: Served) -> None:
    pieces = streamed(served, 3, 4)
    first = next(pieces)
    assert (first.data, first.content_type) == (b"0000", "text/event-stream")
    served.ask("go on")
    assert b"".join(piece.data for piece in pieces) == b"11112222"


def test_stream_raw_predict_over_rest_is_chunked(own: Emulator, served: Served) -> None:
    with posted(own, served, "stream", 3, 4) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["x-vertex-ai-endpoint-id"] == served.endpoint.rpartition("/")[2]
        pieces = answer.iter_content(None)
        assert next(pieces) == b"0000"
        served.ask("go on")
        assert b"".join(pieces) == b"11112222"


def test_a_stream_of_any_length_adds_little_memory(own: Emulator, served: Served) -> None:
    def resident_mib() -> int:
        text = Path(f"/proc/{own.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) >> 10

    served.ask("describe")
    before = resident_mib()
    pieces = streamed(served, 100, 1 << 20)
    next(pieces)
    served.ask("go on")
    length, most = 1 << 20, 0
    for piece in pieces:
        length += len(piece.data)
        most = max(most, resident_mib())
    assert length >= 100 << 20
    assert most - before < 40


def test_a_stream_that_is_cut_off_is_an_error(own: Emulator, served: Served) -> None:
    pieces = streamed(served, 1, 4, False)
    assert next(pieces).data == b"0000"
    with pytest.raises(ServiceUnavailable, match="before its answer was complete"):
        next(pieces)
    with (
        posted(own, served, "stream", 1, 4, False) as answer,
        pytest.raises(requests.exceptions.ChunkedEncodingError),
    ):
        assert not answer.content


def test_stream_raw_predict_passes_a_container_s_status_and_body_on(own: Emulator, served: Served) -> None:
    with posted(own, served, "status", 418) as answer:
        assert (answer.status_code, answer.json()) == (418, {"said": "no"})
    body = HttpBody(data=b'{"instances": ["status", 429]}')
    with pytest.raises(ResourceExhausted, match="said"):
        list(served.predictions.stream_raw_predict(request={"endpoint": served.endpoint, "http_body": body}))


def test_a_stream_that_its_caller_left_gives_up_its_place(served: Served) -> None:
    # More than the places that there are.
    for _ in range(20):
        pieces = streamed(served, 2, 4)
        next(pieces)
        pieces.cancel()  # type: ignore[attr-defined]
        served.ask("go on")
    assert served.is_well()


def test_an_answer_that_is_no_json_is_an_error(served: Served) -> None:
    with pytest.raises(GoogleAPICallError, match="no JSON"):
        served.ask("no json")


def test_a_slow_answer_ends_at_the_caller_s_deadline(served: Served) -> None:
    with pytest.raises(DeadlineExceeded):
        served.ask("sleep", timeout=1)


def test_a_closed_connection_is_unavailable(served: Served) -> None:
    with pytest.raises(ServiceUnavailable, match="closed the connection"):
        served.ask("close")
    assert served.is_well()


def test_a_container_that_never_starts_fails_the_deployment_with_its_log(own: Emulator, project: str) -> None:
    made = Served(own, project, env=[{"name": "FLAWS", "value": "exit"}])
    with pytest.raises(FailedPrecondition, match=r"never became ready(.|\n)*exit_code: 1(.|\n)*cannot find my weights"):
        made.deploy()
    assert not made.endpoints.get_endpoint(name=made.endpoint).deployed_models


def test_a_container_that_never_becomes_healthy_fails_the_deployment(own: Emulator, project: str) -> None:
    made = Served(own, project, env=[{"name": "FLAWS", "value": "sick"}], deployment_timeout="3s")
    with pytest.raises(FailedPrecondition, match="not ready after 3 seconds"):
        made.deploy()


def test_a_container_that_dies_is_started_again(own: Emulator, project: str) -> None:
    made = Served(own, project)
    made.deploy()
    with pytest.raises(ServiceUnavailable):
        made.ask("die")
    wait_until(made.is_well, 60)


def test_an_unhealthy_container_gets_no_requests(own: Emulator, project: str) -> None:
    made = Served(own, project, health_route="/well", health_probe={"http_get": {"path": "/well"}, **QUICK})
    made.deploy()
    made.ask("fall sick")
    wait_until(lambda: not made.is_well(), 30)
    with pytest.raises(ServiceUnavailable, match="not healthy"):
        made.ask("describe")


def test_a_container_that_fails_its_liveness_probe_is_started_anew(own: Emulator, project: str) -> None:
    made = Served(own, project, health_route="/well", liveness_probe={"http_get": {"path": "/well"}, **QUICK})
    made.deploy()
    made.ask("fall sick")
    # Its files are its own and go with it.
    wait_until(lambda: made.is_well() and "sick" not in made.ask("describe")["cwd"], 60)


def test_a_probe_that_is_not_emulated_is_refused_by_name(own: Emulator, project: str) -> None:
    made = Served(own, project, liveness_probe={"exec": {"command": ["true"]}})
    with pytest.raises(MethodNotImplemented, match=r"liveness_probe\.exec"):
        made.deploy()


def test_an_image_that_only_docker_could_run_is_refused_at_once(own: Emulator, project: str) -> None:
    made = Served(own, project, image_uri="gcr.io/elsewhere/server:1")
    with pytest.raises(BadRequest, match=r"gcr\.io/elsewhere/server:1 .*Only Docker.*emulator\.image_table"):
        made.deploy()


@pytest.mark.parametrize("image", ["tf2-cpu.2-15", "pytorch-cpu.2-4"])
def test_prebuilt_images_of_other_frameworks_are_refused_by_name(own: Emulator, project: str, image: str) -> None:
    made = Served(own, project)
    uri = registry.put(own, project, "model", {"saved_model.pb": b"", "model.mar": b""})
    model = registry.described(uri, f"us-docker.pkg.dev/vertex-ai/prediction/{image}:latest")
    parent = made.model.partition("/models/")[0]
    made.model = registry.upload(own.client(ModelServiceClient), parent, model).name
    with pytest.raises(BadRequest, match=image.replace(".", r"\.")):
        made.deploy()


def test_a_startup_probe_that_never_succeeds_fails_the_deployment(own: Emulator, project: str) -> None:
    made = Served(own, project, health_route="/well", startup_probe={"http_get": {"path": "/elsewhere"}, **QUICK})
    with pytest.raises(FailedPrecondition, match="not ready after 1 seconds"):
        made.deploy()


def test_a_second_deployment_at_the_same_time_is_refused(own: Emulator, project: str) -> None:
    made = Served(own, project, env=[{"name": "FLAWS", "value": "sick"}])
    request: Any = {
        "endpoint": made.endpoint,
        "deployed_model": {"model": made.model, "dedicated_resources": {"machine_spec": {}, "min_replica_count": 1}},
        "traffic_split": {"0": 100},
    }
    first = made.endpoints.deploy_model(request)
    with pytest.raises(FailedPrecondition, match="other operations running on the Endpoint"):
        made.endpoints.deploy_model(request).result(timeout=60)
    made.endpoints.cancel_operation({"name": first.operation.name})
    with pytest.raises(GoogleAPICallError):
        first.result(timeout=60)


@pytest.mark.parametrize("verb", ["raw-predict", "stream-raw-predict"])
def test_gcloud_s_raw_predictions_are_the_container_s_answer(own: Emulator, served: Served, verb: str) -> None:
    said = own.run(
        "gcloud", "ai", "endpoints", verb, served.endpoint.rpartition("/")[2], f"--region={LOCATION}",
        "--project=own-containers", '--request={"instances": ["describe"]}',
        "--http-headers=Content-Type=application/json",
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["predictions"][0]["path"] == "/ask/me"


def test_a_dedicated_endpoint_answers_at_its_own_name(own: Emulator, project: str, parent: str) -> None:
    made = Served(own, project)
    made.endpoint = registry.new_endpoint(made.endpoints, parent, dedicated_endpoint_enabled=True)
    made.deploy()
    dns = made.endpoints.get_endpoint(name=made.endpoint).dedicated_endpoint_dns
    with own.exported():
        aiplatform.init(project=project, location=LOCATION)
        endpoint = aiplatform.Endpoint(made.endpoint)
        answer = endpoint.predict(instances=["describe"], use_dedicated_endpoint=True)
    assert dns.endswith(".prediction.vertexai.goog")
    endpoint_id = made.endpoint.rpartition("/")[2]
    assert answer.predictions[0]["env"]["AIP_ENDPOINT_ID"] == endpoint_id
    with pytest.raises(FailedPrecondition, match=dns):
        made.ask("describe")
    assert posted(own, made, "describe").json()["error"]["status"] == "FAILED_PRECONDITION"
    metadata = [("x-vertex-ai-endpoint-id", endpoint_id)]
    assert made.predictions.predict(endpoint=made.endpoint, instances=["describe"], metadata=metadata).predictions  # type: ignore[list-item]


def test_a_deployment_under_way_when_the_emulator_is_killed_leaves_nothing(
    own: Emulator, new_emulator: Callable[..., Emulator], project: str
) -> None:
    table = json.dumps({IMAGE: {"environment": "sklearn-cpu.1-6", "entrypoint": ["sleep", "600"]}})
    before = new_emulator("--image-table", table)
    made = Served(before, project)
    operation = made.endpoints.deploy_model(
        endpoint=made.endpoint,
        deployed_model={"model": made.model, "dedicated_resources": {"machine_spec": {}, "min_replica_count": 1}},  # type: ignore[arg-type]
        traffic_split={"0": 100},
    ).operation
    assert not operation.done
    before.stop(signal.SIGKILL)

    after = new_emulator("--image-table", table, state=before.state)
    endpoints = after.client(EndpointServiceClient)
    ended = endpoints.get_operation({"name": operation.name})
    assert ended.done
    assert ended.error.code
    assert not endpoints.get_endpoint(name=made.endpoint).deployed_models
    assert not after.client(ModelServiceClient).get_model(name=made.model).deployed_models
    assert endpoints.delete_endpoint(name=made.endpoint).result(timeout=60) is not None


def test_requests_under_way_when_the_emulator_is_killed_fail_and_the_model_comes_back(
    own: Emulator, new_emulator: Callable[..., Emulator], project: str
) -> None:
    (folder,) = own.state.parent.glob("image")
    entry = {"environment": "sklearn-cpu.1-6", "folder": str(folder), "entrypoint": ["python3", "server.py"]}
    table = json.dumps({IMAGE: entry})
    before = new_emulator("--image-table", table)
    made = Served(before, project)
    made.deploy()
    pieces = streamed(made, 2, 4)
    assert next(pieces).data == b"0000"
    before.stop(signal.SIGKILL)
    with pytest.raises(ServiceUnavailable):
        next(pieces)

    after = new_emulator("--image-table", table, state=before.state)
    made.predictions = after.client(PredictionServiceClient)
    wait_until(made.is_well, 60)
    assert made.ask("read") == {"weights.txt": "heavy"}


@pytest.mark.long
def test_twenty_models_share_an_endpoint(own: Emulator, project: str) -> None:
    made = Served(own, project)
    ids = [registry.deploy(made.endpoints, made.endpoint, made.model, {}) for _ in range(20)]
    made.endpoints.update_endpoint(
        endpoint=Endpoint(name=made.endpoint, traffic_split=dict.fromkeys(ids, 5)),
        update_mask={"paths": ["traffic_split"]},  # type: ignore[arg-type]
    )
    # One of 20 is missed by 400 fair throws once in 40 million runs.
    asked = {made.ask("describe")["env"]["AIP_DEPLOYED_MODEL_ID"] for _ in range(400)}
    assert asked == set(ids)


def test_the_folder_of_an_image_is_not_written_to(own: Emulator, served: Served, tmp_path: Path) -> None:
    served.ask("describe")
    (image,) = own.state.parent.glob("image")
    assert [path.name for path in image.iterdir()] == ["server.py"]
