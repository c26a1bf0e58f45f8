"""What is run for a model server: a worker of ours for a prebuilt image, or the container's own program.

plan = find_plan(image, environments, has_command=False)     # raises NoEnvironment
running = plan.open(server, ...)                             # a program in a sandbox, and the door to it
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulator.core.interfaces import ModelServer, SandboxCaller
from emulator.runners.doors import Door, PortDoor, SocketDoor, usable_port
from emulator.runners.environments import Environment, Environments
from emulator.runners.images import NoEnvironment
from emulator.runners.replica_network import SharedNetwork
from emulator.runners.sandbox import Description, Sandbox, Sandboxes, StartFailed
from emulator.settings import StandIn

_WORKER = Path(__file__).with_name("model_server")
_WORKER_SEEN = "/opt/selfloop/model_server"
_MODEL_SEEN = "/opt/selfloop/model"
_SOCKET_FOLDER_SEEN = "/run/server"
_APP_SEEN = "/app"
#: A request has few rows: on a machine with other work, threads that wait for one another cost a row of gradient
#: boosting 200 ms at the 99th percentile instead of 12. The container_spec may say otherwise.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
#: Name of a prebuilt prediction image, up to its dot -> the worker's model class.
_WORKERS = {"sklearn-cpu": "sklearn", "xgboost-cpu": "xgboost"}
_REFERENCE = re.compile(r"\$(\$)?\((\w+)\)")


@dataclass(frozen=True)
class Opened:
    """A sandbox that is ready to run a server, and how to ask it."""

    sandbox: Sandbox
    command: Sequence[str]
    env: Mapping[str, str]
    folder: str
    door: Door
    network: SharedNetwork | None = None

    def close(self) -> None:
        self.sandbox.close()
        if self.network is not None:
            self.network.close()


def worker_of(image: str) -> str | None:
    """The worker that serves a prebuilt prediction image; None for other images."""
    name = image.partition("/prediction/")[2].partition(".")[0]
    return _WORKERS.get(name)


def check(image: str, environments: Environments, *, has_command: bool) -> str | None:
    """None when an image can be served from, else the sentence that says why not."""
    problem = environments.check(image)
    if problem is not None:
        return problem
    found = environments.stand_in(image)
    if has_command or (found is not None and found.entrypoint):
        return None
    if found is not None:
        return (
            f"The container_spec of {image} names no command, and that of the image is not known here: name one, or an "
            "entrypoint in emulator.image_table of config."
        )
    if worker_of(image) is None:
        served = ", ".join(sorted(_WORKERS))
        return (
            f"The image {image} cannot be served: of the prebuilt prediction images those of {served} can. "
            "emulator.image_table in config can name an environment and a command that stand in for it."
        )
    return None


def open_server(
    server: ModelServer, sandboxes: Sandboxes, environments: Environments, environment: Environment, folder: Path
) -> Opened:
    """Make the sandbox for a server. folder: a private one, for its socket. Raises StartFailed, NoEnvironment."""
    found = environments.stand_in(server.image)
    if found is None and not server.command:
        return _open_worker(server, sandboxes, environment, folder)
    return _open_container(server, sandboxes, environment, found)


def _open_worker(server: ModelServer, sandboxes: Sandboxes, environment: Environment, folder: Path) -> Opened:
    framework = worker_of(server.image)
    if framework is None:
        raise NoEnvironment(f"The image {server.image} cannot be served.")
    artifacts = {_MODEL_SEEN: server.artifacts} if server.artifacts else {}
    sandbox = sandboxes.open(
        Description(
            name=server.name,
            environment=environment,
            caller=_caller(server),
            writable={_SOCKET_FOLDER_SEEN: folder / "mounted"},
            readonly={_WORKER_SEEN: _WORKER, **artifacts},
            gcs=False,
        )
    )
    model = sandbox.seen(_MODEL_SEEN)
    command = ["python3", sandbox.seen(_WORKER_SEEN), "--framework", framework, "--model", model]
    command += ["--socket", sandbox.seen(f"{_SOCKET_FOLDER_SEEN}/socket")]
    env = _ONE_THREAD | _variables(server, model, server.port, {})
    return Opened(sandbox, command, env, "/", SocketDoor(folder))


def _open_container(
    server: ModelServer, sandboxes: Sandboxes, environment: Environment, found: StandIn | None
) -> Opened:
    """A program that listens on a port, in a network that the emulator can reach into."""
    entrypoint = server.command or (found.entrypoint if found else ())
    network: SharedNetwork | None = None
    hostname = "localhost"
    if sandboxes.level == "full":
        hostname = re.sub(r"[^a-z0-9]+", "-", server.name.lower()).strip("-")[-60:].lstrip("-")
        try:
            network = SharedNetwork([hostname], sandboxes.network, _caller(server))
        except (OSError, RuntimeError) as error:
            raise StartFailed(
                f"this machine does not let the emulator into a sandbox's network ({error}), so that containers of "
                "one's own cannot be asked; sandbox level none can"
            ) from error
    try:
        port = usable_port(server.port, taken=sandboxes.network.port if network else None)
        sandbox = sandboxes.open(
            Description(
                name=server.name,
                environment=environment,
                caller=_caller(server),
                hostname=hostname,
                readonly={_MODEL_SEEN: server.artifacts} if server.artifacts else {},
                network=network,
                gcs=False,
            )
        )
        try:
            _copy_app(sandbox, found.folder if found else "")
        except OSError as error:
            sandbox.close()
            raise StartFailed(f"the folder of {server.image} in emulator.image_table cannot be read: {error}") from None
    except BaseException:
        if network is not None:
            network.close()
        raise
    variables = _variables(server, sandbox.seen(_MODEL_SEEN), port, dict(found.env) if found else {})
    command = [expand(word, variables) for word in (*entrypoint, *server.args)]
    return Opened(sandbox, command, variables, _APP_SEEN, PortDoor(port, network), network)


def _copy_app(sandbox: Sandbox, folder: str) -> None:
    """What the image has at its working directory: a copy, since a container may write to its own files."""
    target = sandbox.outside(_APP_SEEN)
    if folder:
        shutil.copytree(folder, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".git"))
    else:
        target.mkdir()


def _caller(server: ModelServer) -> SandboxCaller:
    return SandboxCaller(server.name, server.project, server.service_account)


def _variables(server: ModelServer, model: str, port: int, of_image: Mapping[str, str]) -> dict[str, str]:
    """The image's variables, then AIP_*, then those of the container_spec, which may name what comes before.

    The image's own cannot be named.
    """
    set_here = {name: value for name, value in server.env.items() if name.startswith("AIP_")} | {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": server.health_route,
        "AIP_PREDICT_ROUTE": server.predict_route,
        "AIP_STORAGE_URI": server.env.get("AIP_STORAGE_URI", model if server.artifacts else ""),
    }
    known = dict(set_here)
    for name, value in server.env.items():
        if not name.startswith("AIP_"):
            known[name] = expand(value, known)
    return {**of_image, **known}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by its value, `$$(NAME)` by `$(NAME)`; an unknown name stays as it is.

    Source: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)
