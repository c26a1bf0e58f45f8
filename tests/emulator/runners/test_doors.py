"""Which port a container is given."""

from __future__ import annotations

import socket

from emulator.runners.doors import usable_port


def test_a_port_that_the_machine_uses_is_replaced() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wanted = listener.getsockname()[1]
        given = usable_port(wanted, taken=None)
    assert given not in (0, wanted)


def test_in_a_network_of_its_own_the_emulator_s_port_alone_is_taken() -> None:
    assert usable_port(8080, taken=9000) == 8080
    assert usable_port(8080, taken=8080) != 8080
