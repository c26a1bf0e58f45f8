"""Vertex AI EndpointService: endpoints, and the models deployed to them.

Source: https://cloud.google.com/vertex-ai/docs/reference/rpc/google.cloud.aiplatform.v1
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
)
from google.protobuf.message import Message
from selfloop_apis import aiplatform_v1, protobuf

from emulator.core import field_masks, pagination
from emulator.core.clock import Clock
from emulator.core.ids import new_etag, new_id
from emulator.core.messages import stamp
from emulator.core.operations import GRACE_SECONDS, Operations, Running
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.core.state import Database
from emulator.services.aiplatform import endpoint_resources as resources
from emulator.services.aiplatform import names, probes
from emulator.services.aiplatform.deployments import Deployments
from emulator.services.aiplatform.model_resources import check_etag
from emulator.services.aiplatform.model_versions import ModelVersions
from emulator.services.aiplatform.state import AiplatformState
from emulator.services.aiplatform.validation import FoundErrors

Endpoint = aiplatform_v1.Endpoint
DeployedModel = aiplatform_v1.DeployedModel
DeploymentStage = aiplatform_v1.DeploymentStage

_UPDATABLE = frozenset(
    {"display_name", "description", "labels", "traffic_split", "predict_request_response_logging_config"}
)
#: What UpdateEndpointLongRunning replaces, where the request has it.
_UPDATABLE_SLOWLY = ("client_connection_config", "predict_request_response_logging_config")


class EndpointService(GapicService):
    api = "google.cloud.aiplatform.v1.EndpointService"

    def __init__(
        self,
        *,
        database: Database,
        state: AiplatformState,
        clock: Clock,
        projects: Projects,
        operations: Operations,
        versions: ModelVersions,
        deployments: Deployments,
    ) -> None:
        self._database = database
        self._endpoints = state.endpoints
        self._clock = clock
        self._projects = projects
        self._operations = operations
        self._versions = versions
        self._deployments = deployments
        self._starting = threading.Lock()

    # Endpoints

    def create_endpoint(self, request: aiplatform_v1.CreateEndpointRequest, context: Context) -> Message:
        location = names.location_of(self._projects, request.parent)
        if request.endpoint_id:
            resources.check_endpoint_id(request.endpoint_id)
        endpoint = Endpoint()
        endpoint.CopyFrom(request.endpoint)
        endpoint.name = f"{location.parent}/endpoints/{request.endpoint_id or new_id()}"
        _check_endpoint(endpoint)
        if self._endpoints.find(endpoint.name) is not None:
            raise AlreadyExists(f"The Endpoint `{endpoint.name}` already exists.")
        if endpoint.dedicated_endpoint_enabled:
            endpoint.dedicated_endpoint_dns = resources.dedicated_dns(endpoint.name)

        def work(_: object) -> Endpoint:
            now = self._clock.now()
            stamp(endpoint.create_time, now)
            stamp(endpoint.update_time, now)
            endpoint.etag = new_etag()
            with self._database.transaction():
                created = self._endpoints.insert(endpoint)
                self._deployments.publish(created)
            return created

        return self._start(endpoint.name, aiplatform_v1.CreateEndpointOperationMetadata(), work, context)

    def get_endpoint(self, request: aiplatform_v1.GetEndpointRequest, context: Context) -> Endpoint:
        return self._endpoints.get(self._name(request.name))

    def list_endpoints(
        self, request: aiplatform_v1.ListEndpointsRequest, context: Context
    ) -> aiplatform_v1.ListEndpointsResponse:
        page = pagination.page(
            self._endpoints.list(names.location_of(self._projects, request.parent).parent),
            request,
            Endpoint,
            filterable=("display_name", "labels"),
            computed={"endpoint": lambda endpoint: names.last_part(endpoint.name)},
            canonical=self._projects.canonical,
            sortable=("display_name", "create_time", "update_time"),
        )
        return aiplatform_v1.ListEndpointsResponse(endpoints=page.items, next_page_token=page.next_page_token)

    def update_endpoint(self, request: aiplatform_v1.UpdateEndpointRequest, context: Context) -> Endpoint:
        """Change what the mask names. A new traffic split holds from the next prediction on."""

        def change(stored: Endpoint) -> None:
            check_etag(request.endpoint.etag, stored.etag)
            field_masks.update(stored, request.endpoint, request.update_mask.paths, _UPDATABLE)
            _check_endpoint(stored)

        return self._update(self._name(request.endpoint.name), change)

    def update_endpoint_long_running(
        self, request: aiplatform_v1.UpdateEndpointLongRunningRequest, context: Context
    ) -> Message:
        given = request.endpoint
        name = self._name(given.name)
        self._endpoints.get(name)
        paths = [field.name for field, _ in given.ListFields() if field.name in _UPDATABLE_SLOWLY]
        if not paths:
            raise InvalidArgument(f"Only {' and '.join(_UPDATABLE_SLOWLY)} can be updated this way.")

        def change(stored: Endpoint) -> None:
            check_etag(given.etag, stored.etag)
            field_masks.update(stored, given, paths)

        return self._start_alone(
            name,
            aiplatform_v1.UpdateEndpointOperationMetadata(),
            lambda _: self._update(name, change),
            context,
        )

    def delete_endpoint(self, request: aiplatform_v1.DeleteEndpointRequest, context: Context) -> Message:
        """Raises FailedPrecondition while a model is deployed, or being deployed."""
        name = self._name(request.name)
        with self._starting, self._database.transaction():
            endpoint = self._endpoints.get(name)
            deployed = [model.id for model in endpoint.deployed_models]
            if deployed:
                raise FailedPrecondition(
                    f"Endpoint has deployed or being-deployed DeployedModel(s): {', '.join(deployed)}."
                )
            self._check_alone(name)
            self._endpoints.delete(name)
            self._deployments.withdraw(name)
        operation: Message = self._operations.finished(
            name.rpartition("/endpoints/")[0],
            aiplatform_v1.DeleteOperationMetadata(),
            protobuf.Empty(),
            context,
        )
        return operation

    # Deployed models

    def deploy_model(self, request: aiplatform_v1.DeployModelRequest, context: Context) -> Message:
        """Run a model and, once it is ready, give it its share of the traffic."""
        name = self._name(request.endpoint)
        endpoint = self._endpoints.get(name)
        # Until the outcome is stored, or the request refused, nobody deletes the model.
        held = ExitStack()
        try:
            model = held.enter_context(self._versions.being_deployed(request.deployed_model.model, name))
            return self._deploy(endpoint, model, request, held, context)
        except BaseException:
            held.close()
            raise

    def _deploy(
        self,
        endpoint: Endpoint,
        model: aiplatform_v1.Model,
        request: aiplatform_v1.DeployModelRequest,
        held: ExitStack,
        context: Context,
    ) -> Message:
        name = endpoint.name
        deployed = DeployedModel()
        deployed.CopyFrom(request.deployed_model)
        resources.complete_deployed_model(deployed, model, endpoint.deployed_models)
        probes.check(model.container_spec)
        deployed.id = deployed.id or new_id()
        resources.new_split(endpoint, request.traffic_split, deployed.id)

        def work(running: Running) -> aiplatform_v1.DeployModelResponse:
            stages = _Stages(running)
            stages.enter(DeploymentStage.PREPARING_MODEL)
            try:
                with held:
                    stages.enter(DeploymentStage.STARTING_MODEL_SERVER)
                    self._deployments.start(endpoint, deployed, model, running.cancelled.is_set)
                    stages.enter(DeploymentStage.FINISHING_UP)
                    self._add(name, deployed, request.traffic_split)
            except GoogleAPICallError:
                stages.enter(DeploymentStage.FAILED_TO_DEPLOY)
                self._deployments.stop(name, deployed.id)
                raise
            stages.enter(DeploymentStage.SUCCESSFULLY_DEPLOYED)
            return aiplatform_v1.DeployModelResponse(deployed_model=deployed)

        metadata = aiplatform_v1.DeployModelOperationMetadata(deployment_stage=DeploymentStage.STARTING_DEPLOYMENT)
        return self._start_alone(name, metadata, work, context)

    def _add(self, name: str, deployed: DeployedModel, asked: Mapping[str, int]) -> None:
        """Store a model that is running, with the split that was asked for."""
        stamp(deployed.create_time, self._clock.now())

        def change(stored: Endpoint) -> None:
            split = resources.new_split(stored, asked, deployed.id)
            stored.deployed_models.add().CopyFrom(deployed)
            stored.traffic_split.clear()
            stored.traffic_split.update(split)

        with self._database.transaction():
            self._versions.add_deployment(f"{deployed.model}@{deployed.model_version_id}", name, deployed.id)
            self._update(name, change)

    def undeploy_model(self, request: aiplatform_v1.UndeployModelRequest, context: Context) -> Message:
        """Take a model out of the traffic, then end its servers."""
        name = self._name(request.endpoint)
        identifier = request.deployed_model_id
        endpoint = self._endpoints.get(name)
        resources.find_deployed_model(endpoint, identifier)
        resources.split_without(endpoint, request.traffic_split, identifier)

        def change(stored: Endpoint) -> None:
            deployed = resources.find_deployed_model(stored, identifier)
            split = resources.split_without(stored, request.traffic_split, identifier)
            self._versions.remove_deployment(f"{deployed.model}@{deployed.model_version_id}", name, identifier)
            stored.deployed_models.remove(deployed)
            stored.traffic_split.clear()
            stored.traffic_split.update(split)

        def work(_: object) -> aiplatform_v1.UndeployModelResponse:
            self._update(name, change)
            self._deployments.stop(name, identifier)
            return aiplatform_v1.UndeployModelResponse()

        return self._start_alone(name, aiplatform_v1.UndeployModelOperationMetadata(), work, context)

    def mutate_deployed_model(self, request: aiplatform_v1.MutateDeployedModelRequest, context: Context) -> Message:
        """Change how many replicas a deployed model has; stored and shown, while one process serves here."""
        name = self._name(request.endpoint)
        given = request.deployed_model
        paths = list(request.update_mask.paths)
        resources.mutate(resources.find_deployed_model(self._endpoints.get(name), given.id), given, paths)

        def change(stored: Endpoint) -> None:
            resources.mutate(resources.find_deployed_model(stored, given.id), given, paths)

        def work(_: object) -> aiplatform_v1.MutateDeployedModelResponse:
            endpoint = self._update(name, change)
            return aiplatform_v1.MutateDeployedModelResponse(
                deployed_model=resources.find_deployed_model(endpoint, given.id)
            )

        metadata = aiplatform_v1.MutateDeployedModelOperationMetadata()
        return self._start_alone(name, metadata, work, context)

    # What all of them do

    def _name(self, name: str) -> str:
        return names.resource_name(self._projects, name, "endpoints")

    def _update(self, name: str, change: Callable[[Endpoint], None]) -> Endpoint:
        """Change the stored endpoint, and route its traffic by it, as one step."""

        def stamped(stored: Endpoint) -> None:
            change(stored)
            stamp(stored.update_time, self._clock.now())
            stored.etag = new_etag()

        with self._database.transaction():
            endpoint = self._endpoints.update(name, stamped)
            self._deployments.publish(endpoint)
        return endpoint

    def _start_alone(
        self, name: str, metadata: Message, work: Callable[[Running], Message], context: Context
    ) -> Message:
        """Start an operation on an endpoint. Raises FailedPrecondition while another one runs."""
        with self._starting:
            self._endpoints.get(name)
            self._check_alone(name)
            operation = self._operations.start(name, metadata, work, context, grace_seconds=0)
        finished: Message = self._operations.wait(operation.name, GRACE_SECONDS)
        return finished

    def _start(self, name: str, metadata: Message, work: Callable[[Running], Message], context: Context) -> Message:
        operation: Message = self._operations.start(name, metadata, work, context)
        return operation

    def _check_alone(self, name: str) -> None:
        # One that is done is forgotten a moment after a client may have seen it.
        others = [one for one in self._operations.running(name) if not self._operations.get(one).done]
        if others:
            raise FailedPrecondition(
                f'There are other operations running on the Endpoint "{name}". Operation(s) are: {", ".join(others)}.'
            )


class _Stages:
    """Tells the caller of DeployModel how far it is."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def enter(self, stage: DeploymentStage.ValueType) -> None:
        self._running.report(aiplatform_v1.DeployModelOperationMetadata(deployment_stage=stage))


def _check_endpoint(endpoint: Endpoint) -> None:
    """Raises InvalidArgument."""
    found = FoundErrors()
    found.check_display_name(endpoint.display_name)
    found.check_labels(endpoint.labels)
    found.raise_any()
    resources.check_split(endpoint.traffic_split, [deployed.id for deployed in endpoint.deployed_models])
