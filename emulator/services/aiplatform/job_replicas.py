"""The replicas of a custom job at work: side by side, to the end of the primary one, or of the first that fails.

One whose machine is lost starts again, from the beginning and with the same name: alone, or with all the others
where the job asks for `restart_job_on_worker_restart`.
Source: the comments of Scheduling in custom_job.proto, and
https://cloud.google.com/vertex-ai/docs/training/code-requirements#resilience
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from signal import SIGTERM

from selfloop_apis.aiplatform_v1 import CustomJob

from emulator.core.interfaces import (
    Container,
    ContainerHandle,
    ContainerResult,
    ContainerRunner,
    ExitReason,
    PythonPackage,
    ReplicaNetwork,
    SandboxCaller,
)
from emulator.services.aiplatform.job_environment import PORT, TrialPlace, host_name, replica_environment
from emulator.services.aiplatform.job_logs import JobLog
from emulator.services.aiplatform.names import Location, last_part
from emulator.services.aiplatform.worker_pools import EVALUATORS, Replica, replicas

#: Without a timeout in the spec. Source: the comment of Scheduling.timeout.
DEFAULT_TIMEOUT_SECONDS = 7 * 24 * 3600
#: Starts of a job's replicas after a lost machine, the first start among them.
MOST_ATTEMPTS = 3

_STOPPED = ContainerResult(128 + SIGTERM, ExitReason.CANCELLED)

Failures = list[tuple[str, ContainerResult]]
"""names and ends of replicas, in the order in which they ended"""


class StartedContainers:
    """The containers of one job, so that it can be ended from outside at any moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: list[ContainerHandle] = []
        self._stopped = False

    def start(
        self, runner: ContainerRunner, container: Container, log: JobLog, replica: Replica
    ) -> ContainerHandle | None:
        """Start one, unless all were stopped meanwhile."""
        with self._lock:
            if self._stopped:
                return None
            handle = runner.start(container, log.output(replica))
            self._handles.append(handle)
            return handle

    def end(self) -> None:
        """End those that run."""
        with self._lock:
            handles, self._handles = self._handles, []
        for handle in handles:
            handle.cancel()

    def stop(self) -> None:
        """End those that run, and let none start."""
        with self._lock:
            self._stopped = True
        self.end()


class JobReplicas:
    """The replicas of one job, started once or, after a lost machine, again."""

    def __init__(
        self,
        *,
        job: CustomJob,
        location: Location,
        log: JobLog,
        variables: Mapping[str, str],
        trial: TrialPlace | None,
        containers: StartedContainers,
        runner: ContainerRunner,
    ) -> None:
        """variables: of every replica's environment, besides those that follow from the job."""
        self._job = job
        self._location = location
        self._log = log
        self._variables = variables
        self._trial = trial
        self._containers = containers
        self._runner = runner
        self._members = replicas(job.job_spec)
        self._deadline = time.monotonic() + timeout_seconds(job)
        self._lock = threading.Lock()
        self._attempt = 1

    @property
    def images(self) -> list[str]:
        """Of all replicas, each once."""
        return list(dict.fromkeys(replica.image for replica in self._members))

    def run(self) -> Failures:
        """Run all to the end of the primary one, or of the first that fails.

        Gives back those that failed by themselves, or the primary one if it was stopped.
        """
        network = self._connect() if len(self._members) > 1 else None
        try:
            failures = None
            while failures is None:
                failures = self._attempt_all(network)
            return failures
        finally:
            if network is not None:
                network.close()

    def _attempt_all(self, network: ReplicaNetwork | None) -> Failures | None:
        """What `run` gives back, or None when all have to start again."""
        failed: Failures = []
        primary_is_over, all_again = threading.Event(), threading.Event()
        primary = self._members[0]

        def follow(replica: Replica, handle: ContainerHandle) -> None:
            result = handle.wait()
            while (
                result.reason is ExitReason.LOST
                and not (primary_is_over.is_set() or all_again.is_set())
                and self._may_start_again(replica)
            ):
                if self._restarts_all:
                    all_again.set()
                    self._containers.end()
                    return
                result = self._start_and_wait(replica, network)
            if all_again.is_set():
                return
            counts = not result.succeeded and replica.pool != EVALUATORS and not primary_is_over.is_set()
            if result.reason is ExitReason.CANCELLED:
                counts = replica is primary and not failed
            if counts:
                failed.append((replica.name, result))
            if replica is primary:
                primary_is_over.set()
            if replica is primary or failed:
                self._containers.stop()

        first: ContainerHandle | None = None
        others: list[threading.Thread] = []
        for replica in self._members:
            handle = self._start(replica, network)
            if handle is None:
                break
            if replica is primary:
                first = handle
            else:
                others.append(threading.Thread(target=follow, args=(replica, handle), name=replica.name, daemon=True))
                others[-1].start()
        if all_again.is_set():
            self._containers.end()  # those that were started since
        if first is None:
            failed.append((primary.name, _STOPPED))
        else:
            follow(primary, first)
        for thread in others:
            thread.join()
        return None if all_again.is_set() and not failed else failed

    @property
    def _restarts_all(self) -> bool:
        return self._job.job_spec.scheduling.restart_job_on_worker_restart

    def _may_start_again(self, replica: Replica) -> bool:
        """Whether a lost replica gets another machine; the log says so."""
        if self._job.job_spec.scheduling.disable_retries:
            return False
        with self._lock:
            if self._attempt == MOST_ATTEMPTS:
                return False
            self._attempt += 1
            attempt = self._attempt
        again = "all replicas start" if self._restarts_all else "it starts"
        self._log.tell(
            f"The machine of replica {replica.name} was lost; {again} again, attempt {attempt} of {MOST_ATTEMPTS}.",
            severity="WARNING",
        )
        return True

    def _start(self, replica: Replica, network: ReplicaNetwork | None) -> ContainerHandle | None:
        return self._containers.start(self._runner, self._container(replica, network), self._log, replica)

    def _start_and_wait(self, replica: Replica, network: ReplicaNetwork | None) -> ContainerResult:
        handle = self._start(replica, network)
        return _STOPPED if handle is None else handle.wait()

    def _connect(self) -> ReplicaNetwork:
        job_id = last_part(self._job.name)
        caller = SandboxCaller(f"customJobs/{job_id}", self._location.project_id, self._identity)
        network = self._runner.connect(caller, [host_name(job_id, replica) for replica in self._members])
        if network.problem is not None:
            self._log.tell(f"The replicas cannot reach one another: {network.problem}.", severity="WARNING")
        return network

    def _container(self, replica: Replica, network: ReplicaNetwork | None) -> Container:
        is_package = replica.spec.HasField("python_package_spec")
        package = replica.spec.python_package_spec
        task = package if is_package else replica.spec.container_spec
        job_id = last_part(self._job.name)
        alone = [f"{host_name(job_id, replica)}:{PORT}"]
        addresses = dict(zip(self._members, network.addresses if network else alone, strict=True))
        return Container(
            name=f"customJobs/{job_id}/{replica.name}",
            project=self._location.project_id,
            service_account=self._identity,
            image=replica.image,
            command=() if is_package else tuple(replica.spec.container_spec.command),
            args=tuple(task.args),
            package=PythonPackage(tuple(package.package_uris), package.python_module) if is_package else None,
            env={
                **replica_environment(self._job, self._location, replica, addresses, self._trial),
                **self._variables,
            },
            timeout_seconds=max(0.0, self._deadline - time.monotonic()),
            mounts={str(self._trial.folder): self._trial.folder} if self._trial else {},
            network=network,
        )

    @property
    def _identity(self) -> str:
        """The service account as which a job's code calls Google."""
        number = self._location.project_number
        return self._job.job_spec.service_account or f"service-{number}@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"


def timeout_seconds(job: CustomJob) -> float:
    """How long all replicas of a job may run."""
    given = job.job_spec.scheduling.timeout
    return given.seconds + given.nanos / 1e9 or DEFAULT_TIMEOUT_SECONDS
