"""A replica over its lives, with servers that a test ends by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
from google.api_core.exceptions import FailedPrecondition, ServiceUnavailable

from emulator.core.interfaces import ContainerResult, ExitReason, ModelServer, OutputLine, ServerAnswer, ServerStream
from emulator.services.aiplatform import replicas
from emulator.services.aiplatform.replicas import Replica
from tests.emulator.services.aiplatform.world import until

SERVER = ModelServer("endpoints/1/deployedModels/2/replicas/0", "project", "account", "image")
ANSWER = ServerAnswer(200, "application/json", b"{}")


class FakeServer:
    """A server that is ready when the test says so, and lives until `end`."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.over = threading.Event()
        self.stopped = False

    def wait_until_ready(self, timeout_seconds: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        until(lambda: self.ready.is_set() or self.over.is_set() or is_cancelled())
        if not self.ready.is_set():
            raise FailedPrecondition("Model server never became ready.")

    def request(self, route: str, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        if self.over.is_set():
            raise ServiceUnavailable("gone")
        return ANSWER

    def stream(
        self, route: str, body: bytes, content_type: str, timeout_seconds: float
    ) -> AbstractContextManager[ServerStream]:
        answer = self.request(route, body, content_type, timeout_seconds)
        return nullcontext(ServerStream(answer.status, answer.content_type, iter([answer.body])))

    def wait(self) -> ContainerResult:
        self.over.wait(10)
        return ContainerResult(1, ExitReason.EXITED)

    def stop(self) -> None:
        self.stopped = True
        self.over.set()


class FakeServers:
    def __init__(self) -> None:
        self.started: list[FakeServer] = []
        self.are_ready = True

    def start(self, server: ModelServer, output: Callable[[Sequence[OutputLine]], None]) -> FakeServer:
        started = FakeServer()
        if self.are_ready:
            started.ready.set()
        self.started.append(started)
        return started

    def check_image(self, image: str, *, has_command: bool) -> str | None:
        return None


@pytest.fixture
def servers() -> FakeServers:
    return FakeServers()


@pytest.fixture
def replica(servers: FakeServers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replica]:
    monkeypatch.setattr(replicas, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(replicas, "_PATIENCE_SECONDS", 5)
    made = Replica(servers, SERVER, lambda lines: None)
    yield made
    made.stop()


def ask(replica: Replica) -> ServerAnswer:
    return replica.request("/predict", b"{}", "application/json", 1)


def is_serving(replica: Replica) -> bool:
    try:
        return ask(replica) == ANSWER
    except ServiceUnavailable:
        return False


def test_deploy_returns_once_the_server_is_ready(servers: FakeServers, replica: Replica) -> None:
    replica.deploy(10, lambda: False)
    assert ask(replica) == ANSWER
    assert len(servers.started) == 1


def test_deploy_of_a_server_that_ends_fails_and_tries_no_more(servers: FakeServers, replica: Replica) -> None:
    servers.are_ready = False
    failed: list[Exception] = []

    def deploy() -> None:
        try:
            replica.deploy(10, lambda: False)
        except FailedPrecondition as error:
            failed.append(error)

    thread = threading.Thread(target=deploy)
    thread.start()
    until(lambda: bool(servers.started))
    servers.started[0].over.set()
    thread.join()
    assert len(failed) == 1
    assert servers.started[0].stopped
    assert len(servers.started) == 1


def test_a_server_that_ends_is_started_again(servers: FakeServers, replica: Replica) -> None:
    replica.deploy(10, lambda: False)
    servers.started[0].over.set()
    until(lambda: len(servers.started) == 2 and is_serving(replica))


def test_requests_are_refused_at_once_while_it_is_started_again(servers: FakeServers, replica: Replica) -> None:
    replica.deploy(10, lambda: False)
    servers.are_ready = False
    servers.started[0].over.set()
    until(lambda: len(servers.started) == 2)
    with pytest.raises(ServiceUnavailable, match="started again"):
        ask(replica)


def test_a_start_that_fails_is_tried_again(servers: FakeServers, replica: Replica) -> None:
    servers.are_ready = False
    replica.resume(10)
    until(lambda: len(servers.started) == 1)
    servers.started[0].over.set()
    until(lambda: len(servers.started) == 2)
    servers.are_ready = True
    servers.started[1].over.set()
    until(lambda: is_serving(replica))


def test_a_request_waits_for_the_first_start_after_the_emulator_s(servers: FakeServers, replica: Replica) -> None:
    servers.are_ready = False
    replica.resume(10)
    until(lambda: len(servers.started) == 1)
    answers: list[ServerAnswer] = []
    thread = threading.Thread(target=lambda: answers.append(replica.request("/predict", b"", "", 5)))
    thread.start()
    servers.started[0].ready.set()
    thread.join()
    assert answers == [ANSWER]


def test_stop_ends_the_server_and_starts_no_other(servers: FakeServers, replica: Replica) -> None:
    replica.deploy(10, lambda: False)
    replica.stop()
    replica.stop()
    assert servers.started[0].stopped
    assert len(servers.started) == 1
    with pytest.raises(ServiceUnavailable):
        ask(replica)


def test_stop_ends_a_server_that_is_not_ready_yet(servers: FakeServers, replica: Replica) -> None:
    servers.are_ready = False
    replica.resume(10)
    until(lambda: len(servers.started) == 1)
    replica.stop()
    assert [server.stopped for server in servers.started] == [True]
