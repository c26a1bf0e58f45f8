"""The program inside the sandbox, without one: its answers, and its HTTP."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from sklearn.ensemble import RandomForestClassifier

from emulator.runners import model_server
from emulator.runners.model_server.errors import LoadError, PredictionError
from emulator.runners.model_server.sklearn_model import SklearnModel
from tests.conftest import wait_until
from tests.emulator.runners.test_serving import dumped

ROWS: Any = numpy.random.default_rng(0).random((60, 3))
FOREST = RandomForestClassifier(5, random_state=0).fit(ROWS, ROWS[:, 0] > 0.5)


def answer(model: Any, document: Any) -> Any:
    return json.loads(SklearnModel(model).answer(json.dumps(document).encode()))


class Gives:
    """A model whose predict gives back what it was made with."""

    def __init__(self, outputs: Any) -> None:
        self.outputs = outputs

    def predict(self, rows: Any) -> Any:
        return self.outputs


def test_predictions_are_those_of_the_model() -> None:
    assert answer(FOREST, {"instances": ROWS.tolist()}) == {"predictions": FOREST.predict(ROWS).tolist()}


@pytest.mark.parametrize(
    ("outputs", "shown"),
    [
        (numpy.array([1, 2]), [1, 2]),
        (numpy.array([[0.5, 0.5]]), [[0.5, 0.5]]),
        (numpy.array(["yes"]), ["yes"]),
        (["a", 1], ["a", 1]),
    ],
)
def test_arrays_and_lists_are_predictions(outputs: Any, shown: Any) -> None:
    assert answer(Gives(outputs), {"instances": [[1]]}) == {"predictions": shown}


def test_other_outputs_are_an_error_of_the_server() -> None:
    with pytest.raises(PredictionError, match="Bad output type returned after running Gives") as raised:
        answer(Gives("text"), {"instances": [[1]]})
    assert raised.value.status == 500


@pytest.mark.parametrize("instances", [[[1, 2]], [1, 2, 3], [{"a": 1}], [["x", "y", "z"]], [[1], [2, 3]], [], [None]])
def test_instances_that_do_not_fit_tell_what_scikit_learn_said(instances: Any) -> None:
    with pytest.raises(PredictionError, match=r"^Exception during sklearn prediction: ") as raised:
        answer(FOREST, {"instances": instances})
    assert raised.value.status == 400


@pytest.mark.parametrize("document", [[], {}, {"instances": 5}, {"instances": {"a": 1}}, "text"])
def test_requests_of_another_form_are_refused(document: Any) -> None:
    with pytest.raises(PredictionError, match="instances"):
        answer(FOREST, document)


def test_outputs_that_are_no_json_are_an_error_of_the_server() -> None:
    with pytest.raises(PredictionError, match="JSON") as raised:
        answer(Gives([object()]), {"instances": [[1]]})
    assert raised.value.status == 500


@pytest.mark.parametrize("names", [[], ["model.joblib", "model.pkl"], ["other.joblib"]])
def test_load_wants_exactly_one_file(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(dumped(FOREST))
    with pytest.raises(LoadError, match=r"exactly one of model\.joblib, model\.pkl"):
        SklearnModel.load(str(tmp_path))


class Server:
    def __init__(self, process: subprocess.Popen[bytes], path: Path) -> None:
        self.process = process
        self.path = path

    @contextlib.contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            yield connection

    def is_listening(self) -> bool:
        try:
            with self.connect():
                return True
        except OSError:
            return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "model.joblib").write_bytes(dumped(FOREST))
    program = str(Path(model_server.__file__).parent)
    command = [
        sys.executable,
        program,
        "--framework",
        "sklearn",
        "--model",
        str(tmp_path),
        "--socket",
        str(tmp_path / "s"),
    ]
    process = subprocess.Popen(command, env={"AIP_PREDICT_ROUTE": "/v1/e:predict"}, stderr=subprocess.PIPE)
    made = Server(process, tmp_path / "s")
    wait_until(made.is_listening)
    yield made
    process.kill()
    process.communicate()


def receive(connection: socket.socket, count: int = 1) -> bytes:
    """Bytes until so many answers are complete; all of them when the server closes."""
    data = b""
    while data.count(b"HTTP/1.1 ") < count or not data.endswith(b"}"):
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


def request(path: str, body: bytes = b"", method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


BODY = json.dumps({"instances": ROWS[:1].tolist()}).encode()


def test_routes_are_those_of_the_variables(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(request("/v1/e:predict", BODY))
        assert receive(connection).startswith(b"HTTP/1.1 200 OK\r\n")
        connection.sendall(request("/health", method="GET"))
        assert receive(connection).startswith(b"HTTP/1.1 200 OK\r\n")
        connection.sendall(request("/predict", BODY))
        assert receive(connection).startswith(b"HTTP/1.1 404 ")
        connection.sendall(request("/v1/e:predict", b"{}"))
        assert receive(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_requests_that_come_in_pieces_or_together_are_answered(server: Server) -> None:
    with server.connect() as connection:
        for piece in (
            b"POST /v1/e:pre",
            b"dict HTTP/1.1\r\nContent-Le",
            b"ngth: %d\r\n\r" % len(BODY),
            b"\n" + BODY[:5],
        ):
            connection.sendall(piece)
        connection.sendall(BODY[5:])
        assert receive(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(request("/v1/e:predict", BODY) * 3)
        assert receive(connection, 3).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_what_cannot_be_read_ends_the_connection_alone(server: Server, data: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""
    with server.connect() as connection:
        connection.sendall(request("/v1/e:predict", BODY))
        assert receive(connection).startswith(b"HTTP/1.1 200")


def test_sigterm_ends_it(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0


def test_a_model_that_does_not_load_is_status_one(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"no pickle")
    program = str(Path(model_server.__file__).parent)
    done = subprocess.run(
        [sys.executable, program, "--framework", "sklearn", "--model", str(tmp_path), "--socket", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Failed to load model: Could not load the model: model.pkl. UnpicklingError:")


def test_modules_of_the_program_do_not_hide_others(tmp_path: Path) -> None:
    """A model may ask for a module `server` or `errors` of its own; the program's folder is not on the path."""
    (tmp_path / "model.pkl").write_bytes(b"cserver\nthing\n.")
    program = str(Path(model_server.__file__).parent)
    done = subprocess.run(
        [sys.executable, program, "--framework", "sklearn", "--model", str(tmp_path), "--socket", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "No module named 'server'" in done.stderr
