"""Loops for one connection each: blocking there keeps nobody else waiting, and they are used again."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from emulator.core.connection_loops import ConnectionLoops
from tests.conftest import Emulator, wait_until

MakeLoops = Callable[[int], ConnectionLoops]


@pytest.fixture
def make_loops() -> Iterator[MakeLoops]:
    made: list[ConnectionLoops] = []

    def make(most: int) -> ConnectionLoops:
        made.append(ConnectionLoops(most, asyncio.new_event_loop))
        return made[-1]

    yield make
    for loops in made:
        loops.close()


def test_connections_that_block_do_not_wait_for_one_another(make_loops: MakeLoops) -> None:
    loops = make_loops(4)
    together, served = threading.Barrier(5, timeout=20), []

    async def connection() -> None:
        together.wait()
        served.append(threading.get_ident())

    for _ in range(4):
        loop = loops.take()
        assert loop is not None
        loops.serve(loop, connection())
    assert loops.take() is None
    together.wait()
    wait_until(lambda: len(set(served)) == 4)


def test_loop_of_a_connection_that_ended_serves_the_next(make_loops: MakeLoops) -> None:
    loops = make_loops(1)
    threads = []

    async def connection() -> None:
        threads.append(threading.get_ident())

    async def broken() -> None:
        raise ConnectionResetError

    for ending in (connection, broken, connection):
        loops.serve(wait_until(loops.take), ending())
    wait_until(lambda: len(threads) == 2)
    assert len(set(threads)) == 1


def test_threads_end_with_close(make_loops: MakeLoops) -> None:
    loops = make_loops(1)
    loop = loops.take()
    assert loop is not None
    loops.close()
    wait_until(loop.is_closed)
    assert loops.take() is None


def test_more_connections_than_loops_are_all_answered(emulator: Emulator) -> None:
    connections = [http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60) for _ in range(200)]

    def call(connection: http.client.HTTPConnection) -> list[int]:
        statuses = []
        for _ in range(3):
            connection.request("GET", "/storage/v1/b/there-is-none-of-this-name")
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        return statuses

    try:
        # All are open at once, and stay so.
        for connection in connections:
            connection.connect()
        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(call, connections)) == [[404] * 3] * 200
    finally:
        for connection in connections:
            connection.close()
