"""Model servers in sandboxes of both levels."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from google.api_core.exceptions import Cancelled, DeadlineExceeded, FailedPrecondition, ServiceUnavailable
from sklearn.linear_model import LinearRegression

from emulator.core.interfaces import ExitReason, ModelServer, OutputLine, ServerAnswer
from emulator.runners.serving import ModelServers, RunningServer
from tests.emulator.runners.conftest import Runtime

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
SECONDS = 60


class Code:
    """A pickle of a model with this method `predict(rows)`, a Python expression."""

    def __init__(self, predict: str, loading: str = "None") -> None:
        self.source = f'[type("Model", (), {{"predict": lambda self, rows: {predict}}})(), {loading}][0]'

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, (self.source,)


def dumped(model: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


class Served:
    """Starts servers of models, and keeps what they print."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        runner = runtime.runner
        self.servers = ModelServers(runner.sandboxes, runner.environments, runtime.settings.servers)
        self.lines: list[OutputLine] = []
        self._folder = folder
        self._started: list[RunningServer] = []

    def start(self, model: object, image: str = IMAGE) -> RunningServer:
        artifacts = self._folder / "artifacts"
        artifacts.mkdir(exist_ok=True)
        (artifacts / "model.joblib").write_bytes(model if isinstance(model, bytes) else dumped(model))
        server = ModelServer("endpoints/1/replicas/0", "project", "robot@x", image, artifacts, predict_route="/ask")
        self._started.append(self.servers.start(server, self.lines.extend))
        return self._started[-1]

    def ready(self, model: object) -> RunningServer:
        server = self.start(model)
        server.wait_until_ready(SECONDS)
        return server

    def close(self) -> None:
        for server in self._started:
            server.stop()


@pytest.fixture
def served(runtime: Runtime, tmp_path: Path) -> Iterator[Served]:
    made = Served(runtime, tmp_path)
    yield made
    made.close()


def ask(server: RunningServer, instances: Any, timeout: float = SECONDS) -> ServerAnswer:
    body = json.dumps({"instances": instances}).encode()
    return server.request("/ask", body, "application/json", timeout)


def test_a_model_predicts_behind_its_route(served: Served) -> None:
    server = served.ready(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]))
    answer = ask(server, [[3.0], [4.0]])
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body)["predictions"] == pytest.approx([6.0, 8.0])
    assert server.request("/other", b"", "", SECONDS).status == 404


def test_a_stopped_server_is_gone(served: Served, runtime: Runtime) -> None:
    server = served.ready(Code("[1]"))
    server.stop()
    assert server.wait().reason is ExitReason.CANCELLED
    with pytest.raises(ServiceUnavailable):
        ask(server, [1])
    assert not list(runtime.settings.servers.iterdir())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (b"no model", "Failed to load model: Could not load the model: model.joblib"),
        (Code("[1]", '__import__("os")._exit(9)'), 'exit_code: 9 reason: "Error"'),
        (Code("[1]", '[print("on my way"), 1/0]'), "on my way\n"),
        (Code("[1]", '__import__("os").kill(__import__("os").getpid(), 9)'), "exit_code: 137"),
    ],
    ids=["no pickle", "exits", "raises", "killed"],
)
def test_a_model_that_does_not_load_is_told_with_its_last_output(served: Served, model: object, says: str) -> None:
    server = served.start(model)
    with pytest.raises(FailedPrecondition, match="Model server never became ready") as raised:
        server.wait_until_ready(SECONDS)
    assert says in raised.value.message


def test_a_model_that_loads_for_too_long_is_not_ready(served: Served) -> None:
    server = served.start(Code("[1]", '__import__("time").sleep(600)'))
    with pytest.raises(FailedPrecondition, match="was not ready after 3 seconds"):
        server.wait_until_ready(3)
    server.stop()


def test_waiting_can_be_cancelled(served: Served) -> None:
    server = served.start(Code("[1]", '__import__("time").sleep(600)'))
    with pytest.raises(Cancelled):
        server.wait_until_ready(SECONDS, lambda: True)


def test_a_crash_while_predicting_is_unavailable(served: Served) -> None:
    server = served.ready(Code('__import__("os")._exit(3)'))
    with pytest.raises(ServiceUnavailable):
        ask(server, [1])
    assert server.wait().exit_code == 3
    with pytest.raises(ServiceUnavailable):
        ask(server, [1])


def test_a_slow_prediction_times_out(served: Served) -> None:
    server = served.ready(Code('__import__("time").sleep(600)'))
    with pytest.raises(DeadlineExceeded):
        ask(server, [1], timeout=0.2)


def test_stop_ends_a_server_that_does_not_heed(served: Served) -> None:
    server = served.ready(Code("list(map(lambda _: _, iter(int, 1)))"))
    with pytest.raises(DeadlineExceeded):
        ask(server, [1], timeout=0.2)
    server.stop()
    assert server.wait().exit_code in (137, 143)


def test_what_the_model_prints_is_delivered(served: Served) -> None:
    server = served.ready(Code('print("asked") or [1]', 'print("loaded")'))
    ask(server, [1])
    server.stop()
    assert [line.text for line in served.lines] == ["loaded", "asked"]


def test_an_image_without_an_environment_is_refused(served: Served) -> None:
    server = served.start(Code("[1]"), image="us-docker.pkg.dev/mine/own/server:1")
    with pytest.raises(FailedPrecondition, match=r"us-docker\.pkg\.dev/mine/own/server:1"):
        server.wait_until_ready(SECONDS)


def test_a_socket_that_the_model_replaced_by_a_link_is_not_followed(served: Served, tmp_path: Path) -> None:
    link = (
        'exec("""\nimport sys, os, time\nfolder = os.path.dirname(sys.argv[sys.argv.index(\'--socket\') + 1])\n'
        "os.symlink('/etc/passwd', folder + '/socket')\ntime.sleep(600)\"\"\")"
    )
    server = served.start(Code("[1]", link))
    with pytest.raises(FailedPrecondition, match="in place of its socket"):
        server.wait_until_ready(SECONDS)


@pytest.mark.parametrize("level", ["full"])
def test_the_model_cannot_be_written_and_nothing_of_the_emulator_is_seen(served: Served, runtime: Runtime) -> None:
    probe = '[__import__("os").access("/opt/selfloop/model/model.joblib", 2), __import__("os").path.exists("%s")]'
    server = served.ready(Code(probe % runtime.settings.state))
    assert json.loads(ask(server, [1]).body)["predictions"] == [False, False]


def test_many_threads_share_a_server(served: Served) -> None:
    server = served.ready(Code("[float(row[0]) for row in rows]"))
    answers: list[float] = []

    def work(number: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(20):
                answers.extend(json.loads(ask(server, [[number]]).body)["predictions"])

        return run

    threads = [threading.Thread(target=work(number)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted([float(number) for number in range(16)] * 20)
