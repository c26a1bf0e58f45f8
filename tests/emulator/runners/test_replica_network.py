"""Replicas of one job, which reach one another and nothing else but the emulator."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from emulator.core.interfaces import ReplicaNetwork, SandboxCaller
from emulator.runners import replica_network
from tests.emulator.runners.conftest import Job, MakeRuntime, Runtime, processes_with

CALLER = SandboxCaller("customJobs/1", "project", "robot@project.iam.gserviceaccount.com")
NAMES = ("cmle-training-workerpool0-x-0", "cmle-training-workerpool1-x-0")
#: Answers one connection, at all addresses, with its own host name.
SERVER = (
    "import os, socket, sys\n"
    "with socket.create_server(('', int(sys.argv[1].rpartition(':')[2]))) as server:\n"
    "    client, _ = server.accept()\n"
    "    client.sendall(os.environ['HOSTNAME'].encode())\n"
    "    client.close()\n"
)
CLIENT = (
    "import socket, sys, time\n"
    "host, _, port = sys.argv[1].rpartition(':')\n"
    "while True:\n"
    "    try:\n"
    "        with socket.create_connection((host, int(port)), 5) as server:\n"
    "            print(server.recv(100).decode())\n"
    "        break\n"
    "    except ConnectionRefusedError:\n"
    "        time.sleep(0.02)\n"
)


def run_both(runtime: Runtime, network: ReplicaNetwork, *programs: str) -> list[Job]:
    """A program for each replica, given the second one's address."""
    done: dict[int, Job] = {}

    def run(index: int) -> None:
        command = ("python3", "-c", programs[index], network.addresses[1])
        container = runtime.container(*command, env={"HOSTNAME": NAMES[index]}, network=network, timeout_seconds=30)
        done[index] = runtime.run(replace(container, name=f"customJobs/1/workerpool{index}-0"))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[index] for index in range(len(programs))]


def test_a_replica_reaches_another_at_its_address(runtime: Runtime) -> None:
    network = runtime.runner.connect(CALLER, NAMES)
    try:
        assert network.problem is None
        client, server = run_both(runtime, network, CLIENT, SERVER)
    finally:
        network.close()
    assert client.result.succeeded, client.text
    assert server.result.succeeded, server.text
    assert client.lines[-1].text == NAMES[1]


def test_addresses_are_as_the_level_allows(runtime: Runtime) -> None:
    network = runtime.runner.connect(CALLER, NAMES)
    network.close()
    if runtime.is_full:
        assert network.addresses == [f"{NAMES[0]}:2222", f"{NAMES[1]}:2223"]
    else:
        assert len({address.rpartition(":")[2] for address in network.addresses}) == 2
        assert all(address.startswith("127.0.0.1:") for address in network.addresses)


def test_a_shared_network_leads_to_the_emulator_and_nowhere_else(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime("full")
    port = runtime.network.port
    source = (
        "import os, socket\n"
        f"with socket.create_connection(('127.0.0.1', {port}), 5) as emulator: print(emulator.recv(100).decode())\n"
        "print(sorted(name for _, name in socket.if_nameindex()))\n"
        "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    network = runtime.runner.connect(CALLER, NAMES)
    try:
        jobs = run_both(runtime, network, source, source)
    finally:
        network.close()
    for job in jobs:
        said = [line.text for line in job.lines if "lo" in line.text or "custom" in line.text or "unreach" in line.text]
        assert said[-3:] == ["customJobs/1", "['lo']", "Network is unreachable"], job.text


def test_a_closed_network_leaves_no_process(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime("full")
    network = runtime.runner.connect(CALLER, NAMES)
    assert isinstance(network, replica_network.SharedNetwork)
    holder = network.command()[-1]
    assert int(holder) in processes_with("join_network.py")
    network.close()
    network.close()
    assert int(holder) not in processes_with("join_network.py")


def test_without_permission_replicas_stay_alone(make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = make_runtime("full")
    monkeypatch.setattr(replica_network, "_PROGRAM", replica_network.__file__)
    network = runtime.runner.connect(CALLER, NAMES)
    assert network.addresses == [f"{NAMES[0]}:2222", f"{NAMES[1]}:2222"]
    assert network.problem is not None
    assert "does not let sandboxes share a network" in network.problem
    (job,) = run_both(runtime, network, "print('ran')")
    assert job.lines[-1].text == "ran"


def test_no_proxy_is_asked_for_a_replica(make_runtime: MakeRuntime) -> None:
    """gRPC heeds the proxy's variables whatever it connects to: TensorFlow's workers would not find one another."""
    runtime = make_runtime("full")
    network = runtime.runner.connect(CALLER, NAMES)
    try:
        jobs = run_both(runtime, network, "import os; print(os.environ['NO_PROXY'], os.environ['no_proxy'])")
    finally:
        network.close()
    assert jobs[0].lines[-1].text == " ".join([",".join(NAMES)] * 2)
