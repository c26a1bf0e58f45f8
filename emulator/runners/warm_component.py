"""The program of a sandbox that waits for a component: kfp's executor, loaded before there is anything to do.

    warm_component.py ORDERS

ORDERS is an inherited socket. A byte goes out once all is loaded; back come a length and, as JSON, the source of the
component's module, the executor's arguments and the environment variables; another byte tells that they are there.
It runs inside, under the environment's interpreter, with nothing of the emulator to import.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import tempfile
from typing import Any


def main() -> None:
    orders = wait_for_orders(int(sys.argv[1]))
    os.environ.update(orders["env"])
    # As kfp's own command does it.
    path = os.path.join(tempfile.mkdtemp(), "ephemeral_component.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(orders["source"])
    from kfp.dsl import executor_main  # loaded already

    sys.argv = [str(executor_main.__file__), "--component_module_path", path, *orders["args"]]
    sys.path[0] = os.getcwd()
    executor_main.executor_main()


def wait_for_orders(descriptor: int) -> dict[str, Any]:
    """Load kfp, say so, and wait."""
    os.environ["_KFP_RUNTIME"] = "true"
    importlib.import_module("kfp.dsl.executor_main")

    with socket.socket(fileno=descriptor) as control:
        control.sendall(b"r")
        with control.makefile("rb") as stream:
            length = int.from_bytes(stream.read(8), "big")
            data = stream.read(length)
        if len(data) < length or not length:
            # The emulator has no use for it any more.
            os._exit(0)
        control.sendall(b"t")
    orders: dict[str, Any] = json.loads(data)
    return orders


if __name__ == "__main__":
    main()
