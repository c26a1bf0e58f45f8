"""The replicas behind every endpoint, and which of them answers a request.

What is deployed where is stored with the endpoints; this is what runs of it, and is made anew from there when
the emulator starts.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from google.api_core.exceptions import FailedPrecondition, NotFound
from selfloop_apis import aiplatform_v1

from emulator.core.interfaces import (
    LogRecord,
    LogSink,
    ModelServer,
    ModelServerRunner,
    OutputLine,
    ServerAnswer,
    ServerStream,
)
from emulator.core.projects import Projects
from emulator.core.state import Collection
from emulator.services.aiplatform import model_resources, names, probes
from emulator.services.aiplatform.model_files import ModelFiles, published_uri
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.replicas import Replica

logger = logging.getLogger(__name__)

Endpoint = aiplatform_v1.Endpoint
DeployedModel = aiplatform_v1.DeployedModel

#: How long a server may take to become ready where its container_spec does not say.
_DEPLOYMENT_SECONDS = 30 * 60.0
#: How long a prediction may take where the endpoint's client_connection_config does not say.
_INFERENCE_SECONDS = 60.0
#: How long a model that is undeployed may take to answer what it was asked before.
_DRAIN_SECONDS = 30.0


class Deployment:
    """One deployed model as it runs. `model` and the other texts are what a prediction's answer says of it."""

    def __init__(
        self, endpoint: str, deployed: DeployedModel, model: aiplatform_v1.Model, replicas: Sequence[Replica]
    ) -> None:
        self.endpoint = endpoint
        self.id = deployed.id
        self.model = deployed.model
        self.model_version_id = deployed.model_version_id
        self.model_display_name = model.display_name
        self.is_logged = deployed.enable_access_logging
        self.predict_route = _predict_route(endpoint, deployed.id, model.container_spec)
        self.replicas = replicas
        self._turns = itertools.cycle(replicas)
        self._active = 0
        self._changed = threading.Condition()

    def request(self, body: bytes, content_type: str, timeout_seconds: float) -> ServerAnswer:
        """Ask one of the replicas to predict. Raises ServiceUnavailable, DeadlineExceeded."""
        with self._asked() as replica:
            return replica.request(self.predict_route, body, content_type, timeout_seconds)

    @contextmanager
    def stream(self, body: bytes, content_type: str, timeout_seconds: float) -> Iterator[ServerStream]:
        """The same with the answer as it comes; the time is for the whole of it."""
        with (
            self._asked() as replica,
            replica.stream(self.predict_route, body, content_type, timeout_seconds) as answer,
        ):
            yield answer

    @contextmanager
    def _asked(self) -> Iterator[Replica]:
        """The replica whose turn it is, with a request more under way."""
        with self._changed:
            self._active += 1
        try:
            yield next(self._turns)
        finally:
            with self._changed:
                self._active -= 1
                if not self._active:
                    self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until every request has its answer, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active, seconds)

    def stop(self) -> None:
        for replica in self.replicas:
            replica.stop()


@dataclass(frozen=True)
class _Route:
    """How an endpoint's traffic goes: deployments, and the sum of percents up to and including each."""

    deployments: tuple[Deployment, ...]
    cumulative: tuple[int, ...]
    timeout_seconds: float
    dedicated_dns: str
    """the host that alone answers for the endpoint; empty for one that the shared host serves"""


class Deployments:
    """Everything that is deployed. What was so before is known at once, and runs again after `resume`."""

    def __init__(
        self,
        *,
        servers: ModelServerRunner,
        endpoints: Collection[Endpoint],
        versions: ModelVersions,
        files: ModelFiles,
        projects: Projects,
        logs: LogSink,
    ) -> None:
        self._servers = servers
        self._versions = versions
        self._files = files
        self._projects = projects
        self._logs = logs
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], Deployment] = {}
        self._routes: dict[str, _Route] = {}
        self._is_closed = False
        self._waiting: list[tuple[Deployment, float]] = []
        for endpoint in endpoints.list():
            for deployed in endpoint.deployed_models:
                self._restore(endpoint, deployed)
            self.publish(endpoint)

    def resume(self) -> None:
        """Start again, in the background, what was deployed before: once sandboxes have a way out."""
        waiting, self._waiting = self._waiting, []
        for deployment, seconds in waiting:
            for replica in deployment.replicas:
                replica.resume(seconds)

    def _restore(self, endpoint: Endpoint, deployed: DeployedModel) -> None:
        try:
            model = self._versions.get(f"{deployed.model}@{deployed.model_version_id}")
        except NotFound as error:
            logger.error("%s of %s cannot be served: %s", deployed.id, endpoint.name, error.message)
            return
        deployment = self._deployment(endpoint, deployed, model)
        self._add(deployment)
        self._waiting.append((deployment, _deployment_seconds(model.container_spec)))

    def start(
        self,
        endpoint: Endpoint,
        deployed: DeployedModel,
        model: aiplatform_v1.Model,
        is_cancelled: Callable[[], bool],
    ) -> None:
        """Run a model that is not in the endpoint yet; block until it is ready. `publish` gives it traffic.

        Raises FailedPrecondition when it never becomes ready; nothing is left running then.
        """
        container = model.container_spec
        reason = self._servers.check_image(container.image_uri, has_command=bool(container.command))
        if reason is not None:
            raise FailedPrecondition(reason)
        if _reads_objects(model):
            self._files.publish(f"{deployed.model}@{deployed.model_version_id}", is_cancelled)
        deployment = self._deployment(endpoint, deployed, model)
        self._add(deployment)
        try:
            for replica in deployment.replicas:
                replica.deploy(_deployment_seconds(model.container_spec), is_cancelled)
        except FailedPrecondition as error:
            self.stop(endpoint.name, deployed.id)
            raise FailedPrecondition(
                f"{error.message} Model server logs can be found at {self._logs_url(endpoint.name)}."
            ) from None
        except BaseException:
            self.stop(endpoint.name, deployed.id)
            raise

    def stop(self, endpoint: str, deployed_model_id: str) -> None:
        """End a deployed model's replicas, once they have answered what was asked; nothing where none runs."""
        with self._lock:
            deployment = self._running.pop((endpoint, deployed_model_id), None)
        if deployment is not None:
            deployment.drain(_DRAIN_SECONDS)
            deployment.stop()

    def publish(self, endpoint: Endpoint) -> None:
        """Route an endpoint's traffic as it says, from the next request on."""
        chosen = [
            (self._running[endpoint.name, identifier], percent)
            for identifier, percent in sorted(endpoint.traffic_split.items())
            if percent > 0 and (endpoint.name, identifier) in self._running
        ]
        cumulative = itertools.accumulate(percent for _, percent in chosen)
        timeout = endpoint.client_connection_config.inference_timeout
        self._routes[endpoint.name] = _Route(
            tuple(deployment for deployment, _ in chosen),
            tuple(cumulative),
            timeout.seconds + timeout.nanos / 1e9 or _INFERENCE_SECONDS,
            endpoint.dedicated_endpoint_dns,
        )

    def withdraw(self, endpoint: str) -> None:
        """Forget an endpoint that was deleted."""
        self._routes.pop(endpoint, None)

    def choose(self, endpoint: str, *, by_shared_host: bool) -> tuple[Deployment, float]:
        """The deployment that answers the next request, and the seconds that it has for it.

        By chance, weighted by the traffic split: that of one request says nothing of the next.
        Raises NotFound for an endpoint that is not there, FailedPrecondition for one without traffic, and for a
        dedicated one that is asked by the host that others share.
        """
        route = self._routes.get(endpoint)
        if route is None:
            raise NotFound(f"Endpoint `{endpoint}` not found.")
        if route.dedicated_dns and by_shared_host:
            raise FailedPrecondition(
                f"Endpoint `{endpoint}` is a dedicated endpoint and is not served by the shared domain; "
                f"use {route.dedicated_dns}."
            )
        if not route.deployments:
            raise FailedPrecondition(f"Endpoint `{endpoint}` has no deployed model that takes traffic.")
        chosen = route.deployments[0]
        if len(route.deployments) > 1:
            chosen = random.choices(route.deployments, cum_weights=route.cumulative)[0]  # noqa: S311  # no secret
        return chosen, route.timeout_seconds

    def close(self) -> None:
        """End everything that runs; what is deployed stays so in the state."""
        with self._lock:
            self._is_closed = True
            running = list(self._running.values())
            self._running.clear()
        for deployment in running:
            deployment.stop()

    def _logs_url(self, endpoint: str) -> str:
        """The page of the console that shows an endpoint's log."""
        resource = f"aiplatform.googleapis.com/Endpoint/endpoint_id/{names.last_part(endpoint)}"
        project = names.location_of(self._projects, endpoint).project_number
        return f"https://console.cloud.google.com/logs/viewer?project={project}&resource={quote(resource, safe='')}"

    def _add(self, deployment: Deployment) -> None:
        with self._lock:
            if self._is_closed:
                raise FailedPrecondition("The emulator is being stopped.")
            self._running[deployment.endpoint, deployment.id] = deployment

    def _deployment(self, endpoint: Endpoint, deployed: DeployedModel, model: aiplatform_v1.Model) -> Deployment:
        server = self._server(endpoint, deployed, model)
        output = self._output(endpoint, deployed)
        return Deployment(endpoint.name, deployed, model, [Replica(self._servers, server, output)])

    def _server(self, endpoint: Endpoint, deployed: DeployedModel, model: aiplatform_v1.Model) -> ModelServer:
        location = names.location_of(self._projects, endpoint.name)
        container = model.container_spec
        endpoint_id = names.last_part(endpoint.name)
        port = container.ports[0].container_port if container.ports else 8080
        default_account = f"service-{location.project_number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
        variables = {variable.name: variable.value for variable in container.env}
        variables |= {
            "AIP_DEPLOYED_MODEL_ID": deployed.id,
            "AIP_ENDPOINT_ID": endpoint_id,
            "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
            "AIP_MACHINE_TYPE": deployed.dedicated_resources.machine_spec.machine_type,
            "AIP_MODE": "PREDICTION",
            "AIP_MODE_VERSION": "1.0.0",
            "AIP_MODEL_NAME": endpoint_id,
            "AIP_PROJECT_NUMBER": location.project_number,
            "AIP_VERSION_NAME": deployed.id,
        }
        version = f"{deployed.model}@{deployed.model_version_id}"
        if _reads_objects(model):
            variables["AIP_STORAGE_URI"] = published_uri(version)
        return ModelServer(
            name=f"endpoints/{endpoint_id}/deployedModels/{deployed.id}/replicas/0",
            project=location.project_id,
            service_account=deployed.service_account or default_account,
            image=container.image_uri,
            artifacts=self._files.of(version) if model.artifact_uri else None,
            health_route=_health_route(endpoint.name, deployed.id, container),
            predict_route=_predict_route(endpoint.name, deployed.id, container),
            port=port,
            command=tuple(container.command),
            args=tuple(container.args),
            env=variables,
            startup_probe=probes.probe(container, "startup_probe"),
            health_probe=probes.probe(container, "health_probe"),
            liveness_probe=probes.probe(container, "liveness_probe"),
        )

    def _output(self, endpoint: Endpoint, deployed: DeployedModel) -> Callable[[Sequence[OutputLine]], None]:
        """Where what a container prints goes: to Cloud Logging, unless the deployment says no."""
        location = names.location_of(self._projects, endpoint.name)
        labels = {
            "endpoint_id": names.last_part(endpoint.name),
            "location": location.region,
            "resource_container": location.project_id,
        }

        def write(lines: Sequence[OutputLine]) -> None:
            self._logs.write(
                location.project_id,
                [
                    LogRecord(
                        log_id="aiplatform.googleapis.com/prediction_container",
                        resource_type="aiplatform.googleapis.com/Endpoint",
                        resource_labels=labels,
                        payload={"message": line.text},
                        severity="ERROR" if line.is_error else "INFO",
                        labels={"deployed_model_id": deployed.id},
                    )
                    for line in lines
                ],
            )

        return (lambda lines: None) if deployed.disable_container_logging else write


def _reads_objects(model: aiplatform_v1.Model) -> bool:
    """Whether a container of the user's own reads the model's files; servers of prebuilt images have the folder."""
    container = model.container_spec
    is_own = bool(container.command) or not model_resources.artifact_choices(container.image_uri)
    return is_own and bool(model.artifact_uri)


def _deployment_seconds(container: aiplatform_v1.ModelContainerSpec) -> float:
    seconds = float(container.deployment_timeout.seconds)
    return seconds or _DEPLOYMENT_SECONDS


def _predict_route(endpoint: str, deployed_id: str, container: aiplatform_v1.ModelContainerSpec) -> str:
    """Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements"""
    return container.predict_route or (
        f"/v1/endpoints/{names.last_part(endpoint)}/deployedModels/{deployed_id}:predict"
    )


def _health_route(endpoint: str, deployed_id: str, container: aiplatform_v1.ModelContainerSpec) -> str:
    return container.health_route or f"/v1/endpoints/{names.last_part(endpoint)}/deployedModels/{deployed_id}"
