"""Threads for handlers: results and errors come back, as many run at once as may, and they end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from emulator.core.workers import Workers


def test_result_and_error_come_back_to_who_awaits() -> None:
    async def use() -> None:
        workers = Workers(2, "test")
        assert await workers.run(lambda number: number + 1, 41) == 42
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert await workers.run(threading.get_ident) != threading.get_ident()
        workers.close()

    asyncio.run(use())


def test_as_many_run_at_once_as_there_are_threads() -> None:
    async def use() -> None:
        workers = Workers(4, "test")
        together = threading.Barrier(4, timeout=20)
        await asyncio.gather(*(workers.run(together.wait) for _ in range(4)))
        # More than there are threads wait their turn.
        done = await asyncio.gather(*(workers.run(lambda number: number, number) for number in range(100)))
        assert done == list(range(100))
        workers.close()

    asyncio.run(use())


def test_one_call_after_another_needs_one_thread() -> None:
    async def use() -> None:
        workers = Workers(8, "test")
        seen = {await workers.run(threading.get_ident) for _ in range(50)}
        assert len(seen) <= 2
        workers.close()

    asyncio.run(use())


def test_cancelled_call_leaves_its_thread_to_others() -> None:
    async def use() -> None:
        workers = Workers(1, "test")
        release = threading.Event()
        first = asyncio.ensure_future(workers.run(release.wait, 20))
        await asyncio.sleep(0)
        first.cancel()
        release.set()
        assert await workers.run(lambda: "next") == "next"
        workers.close()

    asyncio.run(use())


def test_closed_workers_end_their_threads() -> None:
    async def use() -> list[threading.Thread]:
        workers = Workers(3, "ending")
        together = threading.Barrier(3, timeout=20)
        await asyncio.gather(*(workers.run(together.wait) for _ in range(3)))
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("ending-")]
        workers.close()
        with pytest.raises(RuntimeError):
            await workers.run(print)
        return threads

    threads = asyncio.run(use())
    assert len(threads) == 3
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
