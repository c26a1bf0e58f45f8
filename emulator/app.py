"""Builds everything, explicitly: state, services, runners, server; and runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.api_core.exceptions import FailedPrecondition

from emulator.core import coverage
from emulator.core.certificates import CertificateAuthority
from emulator.core.clock import MovableClock
from emulator.core.control import Control
from emulator.core.dispatch import Dispatcher
from emulator.core.egress import Egress
from emulator.core.environment import sandbox_variables, shell_variables, write_gsutil_config
from emulator.core.front import Front
from emulator.core.grpc_server import GrpcServer
from emulator.core.iam_policies import IamPolicies
from emulator.core.interfaces import SandboxCaller
from emulator.core.journal import Journal
from emulator.core.operations import Operations
from emulator.core.plain_http import PlainHttp
from emulator.core.projects import Projects
from emulator.core.relay import Relay
from emulator.core.rest import RestApp
from emulator.core.schedule import Schedule
from emulator.core.service import DiscoveryService, GapicService
from emulator.core.state import Database, StateError
from emulator.core.state import Settings as StoredSettings
from emulator.core.state_directory import StateDirectory
from emulator.core.tables import Tables
from emulator.core.tokens import Tokens
from emulator.runners.process import ProcessRunner
from emulator.runners.sandbox import StartFailed
from emulator.runners.serving import ModelServers
from emulator.services import cloudresourcemanager, iamcredentials, metadata_server, mixins, oauth2, serviceusage
from emulator.services import logging as logging_api
from emulator.services import storage as storage_api
from emulator.services.aiplatform.serving import Serving
from emulator.services.aiplatform.tracking import Tracking
from emulator.services.aiplatform.training import Training
from emulator.settings import Settings

logger = logging.getLogger(__name__)

_OPERATOR_TOKEN_SECONDS = 10 * 365 * 24 * 3600.0


class CannotStartError(Exception):
    """The emulator cannot run as it was asked to; the text says why and what to do, in one line."""


class Network:
    """What a sandbox knows of the emulator: one address, one bundle, one listener. Filled in once there is a port."""

    def __init__(self, ca_bundle: Path, egress: Egress) -> None:
        self._ca_bundle = ca_bundle
        self._egress = egress
        self.front: Front | None = None

    @property
    def port(self) -> int:
        return self._listening.port

    @property
    def ca_bundle(self) -> Path:
        return self._ca_bundle

    def environment(self, ca_bundle: str, caller: SandboxCaller | None) -> Mapping[str, str]:
        """The same for every caller: who it is, its listener says."""
        return sandbox_variables(
            port=self.port, ca_bundle=ca_bundle, package_index=self._egress.package_index_variables()
        )

    def attach(self, listener: socket.socket, caller: SandboxCaller) -> Callable[[], None]:
        return self._listening.attach(listener, caller)

    @property
    def _listening(self) -> Front:
        if self.front is None:
            raise RuntimeError("a sandbox was started before the emulator listened")
        return self.front


class Emulator:
    """One emulator on one state directory. Raises StateError when that cannot be had."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._directory = StateDirectory(settings.state)
        self._directory.acquire()
        self._directory.finish_replacement()
        self._started = time.time()
        self._restore: tuple[str | None] | None = None
        self._stopping: asyncio.Event | None = None

        self.database = Database(settings.database)
        stored = StoredSettings(self.database)
        self.clock = MovableClock(
            timedelta(seconds=float(stored.get("clock_offset_seconds", "0"))),
            lambda offset: stored.set("clock_offset_seconds", repr(offset.total_seconds())),
        )
        self.schedule = Schedule(self.clock)
        self.journal = Journal(self.database)
        self.operations = Operations(self.database, self.clock)
        self.projects = Projects(self.database, self.clock)
        self.tokens = Tokens(settings.state / "credentials", settings.project)
        self._authority = CertificateAuthority(settings.state / "ca")
        self._ca_bundle = settings.state / "ca" / "bundle.pem"
        self._authority.write_bundle(self._ca_bundle)
        self._gsutil_config = settings.state / "gcloud" / "gsutil.boto"
        write_gsutil_config(self._gsutil_config, self.tokens.key_file)
        self._egress = Egress(settings.egress)
        self.network = Network(self._ca_bundle, self._egress)

        self._tables = Tables()
        self._services, self._plain = self._build_services()
        self._dispatcher = Dispatcher(self._services, self.journal)

    def _build_services(self) -> tuple[list[GapicService | DiscoveryService], list[PlainHttp]]:
        shared = (self.database, self.clock, self.projects)
        logs = logging_api.LogStore(*shared)
        self.objects = storage_api.ObjectFiles(
            database=self.database, clock=self.clock, projects=self.projects, folder=self.settings.objects
        )
        self.schedule.add(storage_api.Housekeeping(self.objects))
        self._runner = ProcessRunner(self.settings, self.objects, self.network)
        tracking = Tracking(
            database=self.database, clock=self.clock, projects=self.projects, operations=self.operations
        )
        self.objects.when_made.append(self._runner.links.add)
        self._serving = Serving(
            database=self.database,
            clock=self.clock,
            projects=self.projects,
            operations=self.operations,
            objects=self.objects,
            buckets=storage_api.ServiceBuckets(self.objects),
            servers=ModelServers(self._runner.sandboxes, self._runner.environments, self.settings.servers),
            logs=logs,
            models=self.settings.models,
            graph=tracking.graph,
        )
        self._training = Training(
            database=self.database,
            clock=self.clock,
            projects=self.projects,
            operations=self.operations,
            objects=self.objects,
            runner=self._runner,
            logs=logs,
            models=self._serving.versions,
            graph=tracking.graph,
            schedule=self.schedule,
            scratch=self.settings.jobs,
        )
        policies = IamPolicies(self.database)
        usage = serviceusage.UsageState(self.database)
        return [
            logging_api.LoggingService(logs, self.projects, self.clock),
            *storage_api.services(self.objects),
            *self._serving.services,
            *self._training.services,
            *tracking.services,
            mixins.OperationsService(self.operations, self.projects),
            mixins.LocationsService(self.projects),
            mixins.IamPolicyService(policies, self.projects),
            cloudresourcemanager.ProjectsService(self.projects, policies),
            cloudresourcemanager.ProjectsV1(self.projects, policies),
            serviceusage.Services(usage, self.projects),
            serviceusage.UsageOperations(usage),
            iamcredentials.ServiceAccounts(self.tokens),
        ], [
            oauth2.TokenEndpoint(self.tokens),
            oauth2.TokenFacts(self.tokens),
            metadata_server.MetadataServer(self.tokens, self.projects, self.settings.project, self.settings.location),
        ]

    async def run(self, ready: Callable[[str], None]) -> None:
        """Serve until a signal or a restore ends it. ready: called with the address once it answers."""
        loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self.close)
            front = self._open_front(stack)
            self._directory.announce(
                {"host": self.settings.host, "port": front.port, "pid": os.getpid(), "started": self._started},
                self.tokens.mint_access_token(self.tokens.email, lifetime_seconds=_OPERATOR_TOKEN_SECONDS),
            )
            stack.callback(self._directory.withdraw)
            self._serving.resume()
            self.schedule.start()
            ready(f"http://{self.settings.host}:{front.port}")
            await self._stopping.wait()
        if self._restore is not None:
            self._directory.replace_content(*self._restore)
            self._begin_again(front.port)

    def _open_front(self, stack: contextlib.AsyncExitStack) -> Front:
        """Listen, for gRPC behind the front and for everything else in it. Raises CannotStartError."""
        sockets = stack.enter_context(self._directory.sockets())
        tls_socket, plain_socket = str(sockets / "grpc-tls"), str(sockets / "grpc")
        relay = Relay()
        stack.callback(relay.close)
        grpc_server = GrpcServer(
            self._tables,
            self._dispatcher,
            self.tokens,
            credentials=self._authority.grpc_credentials(),
            tls_socket=tls_socket,
            plain_socket=plain_socket,
        )
        grpc_server.start()
        stack.push_async_callback(asyncio.to_thread, grpc_server.stop)
        control = Control(self, self.clock, self.schedule, self.journal)
        xml = storage_api.XmlApi(self.objects, self.tokens, self.settings.project)
        rest = RestApp(self._tables, self._dispatcher, self.tokens, [control, *self._plain], streamed=[xml])
        stack.callback(rest.close)
        front = Front(rest, self._authority, self._egress, relay, grpc_tls=tls_socket, grpc_plain=plain_socket)
        stack.push_async_callback(front.close)
        try:
            front.listen(self.settings.host, self.settings.port)
        except OSError as error:
            raise CannotStartError(
                f"{self.settings.host}:{self.settings.port} cannot be listened to: {error.strerror}; "
                "SELFLOOP_PORT=0 picks a free port"
            ) from error
        self.network.front = front
        return front

    def close(self) -> None:
        """End what runs and store what is in memory."""
        self.schedule.close()
        self.operations.close()
        self._training.close()
        self._serving.close()
        self._runner.close()
        self.journal.close()
        self.database.close()

    def _begin_again(self, port: int) -> None:
        """This process, started anew on the same port: nothing of the old state lives on in memory."""
        arguments = sys.orig_argv[1:]
        os.environ["SELFLOOP_PORT"] = str(port)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606  # its own arguments

    # What the control API asks.

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "pid": os.getpid(),
            "started": self._started,
            "project": self.settings.project,
            "location": self.settings.location,
            "state": str(self.settings.state),
            "egress": list(self.settings.egress),
            "sandbox": self._runner.sandboxes.level,
            "sandbox_reason": self._runner.sandboxes.level_reason,
        }

    def environment(self) -> dict[str, str]:
        return shell_variables(
            host=self.settings.host,
            port=self.network.port,
            ca_bundle=self._ca_bundle,
            key_file=self.tokens.key_file,
            project=self.settings.project,
            location=self.settings.location,
            cloudsdk_config=self.settings.state / "gcloud",
            gsutil_config=self._gsutil_config,
        )

    def coverage(self) -> dict[str, dict[str, str]]:
        return coverage.levels(self._tables, self._services)

    def coverage_tables(self) -> dict[Path, str]:
        """README -> the coverage table that belongs in it."""
        return coverage.tables_by_readme(self._tables, self._services)

    def snapshots(self) -> list[dict[str, Any]]:
        return self._directory.snapshots()

    def take_snapshot(self, name: str) -> dict[str, Any]:
        self._refuse_while_busy("a snapshot")
        return self._directory.take_snapshot(name, self.database)

    def restore(self, name: str | None) -> None:
        self._refuse_while_busy("a restore" if name else "a reset")
        if name is not None:
            self._directory.check_snapshot(name)
        self._restore = (name,)
        front, stopping = self.network.front, self._stopping
        if front is None or stopping is None:
            raise RuntimeError("the emulator is not running")
        # A moment later, so that this call is answered.
        front.loop.call_soon_threadsafe(front.loop.call_later, 0.1, stopping.set)

    def _busy(self) -> Sequence[str]:
        """Names of what runs and would be torn by a copy of the state."""
        return [*self.operations.unfinished(), *self._training.unfinished()]

    def _refuse_while_busy(self, what: str) -> None:
        busy = self._busy()
        if busy:
            names = ", ".join(busy[:5]) + (" and more" if len(busy) > 5 else "")
            raise FailedPrecondition(f"{what} has to wait or needs these cancelled first: {names}")


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run an emulator until it is told to stop. Raises CannotStartError."""
    try:
        emulator = Emulator(settings)
    except (StateError, StartFailed) as error:
        raise CannotStartError(str(error)) from error
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(emulator.run(ready))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
