"""Vertex AI PredictionService: online predictions.

Source: https://cloud.google.com/vertex-ai/docs/predictions/get-online-predictions and
https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from google.api_core import exceptions
from google.api_core.exceptions import InternalServerError, InvalidArgument
from selfloop_apis import aiplatform_v1
from selfloop_apis.api import HttpBody

from emulator.core import errors
from emulator.core.interfaces import LogRecord, LogSink, ServerAnswer, ServerStream
from emulator.core.projects import Projects
from emulator.core.service import Context, GapicService
from emulator.services.aiplatform import names, values
from emulator.services.aiplatform.deployments import Deployment, Deployments
from emulator.services.aiplatform.slots import Slots

#: Of a request and of its answer on a shared public endpoint.
LARGEST_PAYLOAD_BYTES = 1_572_864
#: Of each transport's 32 threads, so many at most wait for models: see Slots.
_MOST_AT_A_TIME = 16
_SLOW_SECONDS = 2.0
#: A longer message would not fit into the trailers of a gRPC answer.
_LARGEST_MESSAGE_BYTES = 4_000

#: A container's HTTP status -> what the caller gets; its body is the message.
_ERRORS: Mapping[int, type[exceptions.GoogleAPICallError]] = {
    400: exceptions.InvalidArgument,
    401: exceptions.Unauthenticated,
    403: exceptions.PermissionDenied,
    404: exceptions.NotFound,
    409: exceptions.Aborted,
    429: exceptions.ResourceExhausted,
    499: exceptions.Cancelled,
    500: exceptions.InternalServerError,
    501: exceptions.MethodNotImplemented,
    503: exceptions.ServiceUnavailable,
    504: exceptions.DeadlineExceeded,
}


class PredictionService(GapicService):
    api = "google.cloud.aiplatform.v1.PredictionService"

    def __init__(self, *, projects: Projects, deployments: Deployments, logs: LogSink) -> None:
        self._projects = projects
        self._deployments = deployments
        self._logs = logs
        self._slots = Slots(_MOST_AT_A_TIME, _SLOW_SECONDS)

    def predict(self, request: aiplatform_v1.PredictRequest, context: Context) -> aiplatform_v1.PredictResponse:
        """Ask one of the endpoint's models, chosen by the traffic split."""
        deployment, seconds = self._choose(request.endpoint, context)
        if not request.instances:
            raise InvalidArgument("The request must have at least one instance.")
        body = _request_body(request)
        _check_size(_size_of(request, body, context))
        with self._slots.take():
            answer = deployment.request(body, "application/json", _seconds(seconds, context))
        document = _predictions(answer, deployment, context)
        response = aiplatform_v1.PredictResponse(
            deployed_model_id=deployment.id,
            model=deployment.model,
            model_version_id=deployment.model_version_id,
            model_display_name=deployment.model_display_name,
        )
        try:
            values.extend(response.predictions, document["predictions"])
            if "metadata" in document:
                values.fill(response.metadata, document["metadata"])
        except OverflowError as error:
            raise InternalServerError(f"The container's answer has a number out of range: {error}") from None
        if deployment.is_logged:
            self._log(deployment, len(request.instances), len(response.predictions))
        return response

    def raw_predict(self, request: aiplatform_v1.RawPredictRequest, context: Context) -> HttpBody:
        """Pass a body of any kind to the container, and its answer back, its status and body unchanged."""
        deployment, seconds, content_type = self._raw(request.endpoint, request.http_body, context)
        with self._slots.take():
            answer = deployment.request(request.http_body.data, content_type, _seconds(seconds, context))
        if answer.status >= 400:
            _fail(answer, context, unchanged=True)
        _check_answer_size(answer, deployment)
        self._passed_on(deployment, context)
        return HttpBody(content_type=answer.content_type, data=answer.body)

    def stream_raw_predict(
        self, request: aiplatform_v1.StreamRawPredictRequest, context: Context
    ) -> Iterator[HttpBody]:
        """The same with the answer in pieces, each passed on as the container sends it; they may be of any length.

        An answer without a body is one empty piece: it has a content type.
        """
        deployment, seconds, content_type = self._raw(request.endpoint, request.http_body, context)
        with (
            self._slots.take(),
            deployment.stream(request.http_body.data, content_type, _seconds(seconds, context)) as answer,
        ):
            if answer.status >= 400:
                _fail(_whole(answer), context, unchanged=True)
            self._passed_on(deployment, context)
            yield HttpBody(content_type=answer.content_type, data=next(answer.pieces, b""))
            for piece in answer.pieces:
                yield HttpBody(content_type=answer.content_type, data=piece)

    def _raw(self, endpoint: str, body: HttpBody, context: Context) -> tuple[Deployment, float, str]:
        """Which deployment gets a body, the seconds it has, and the body's type."""
        deployment, seconds = self._choose(endpoint, context)
        _check_size(len(body.data))
        return deployment, seconds, body.content_type or "application/json"

    def _passed_on(self, deployment: Deployment, context: Context) -> None:
        """Log a raw prediction, and say in the answer's headers which model gave it."""
        if deployment.is_logged:
            self._log(deployment, 1, 1)
        context.response_headers.update(
            {
                "x-vertex-ai-endpoint-id": names.last_part(deployment.endpoint),
                "x-vertex-ai-deployed-model-id": deployment.id,
                "x-vertex-ai-model": deployment.model,
                "x-vertex-ai-model-version-id": deployment.model_version_id,
            }
        )

    def _choose(self, endpoint: str, context: Context) -> tuple[Deployment, float]:
        name = names.resource_name(self._projects, endpoint, "endpoints")
        return self._deployments.choose(name, by_shared_host=_is_by_shared_host(context))

    def _log(self, deployment: Deployment, instances: int, predictions: int) -> None:
        location = names.location_of(self._projects, deployment.endpoint)
        endpoint_id = names.last_part(deployment.endpoint)
        record = LogRecord(
            log_id="aiplatform.googleapis.com/prediction_access",
            resource_type="aiplatform.googleapis.com/Endpoint",
            resource_labels={
                "endpoint_id": endpoint_id,
                "location": location.region,
                "resource_container": location.project_id,
            },
            payload={
                "endpoint": deployment.endpoint,
                "deployed_model_id": deployment.id,
                "instance_count": instances,
                "prediction_count": predictions,
            },
            severity="INFO",
        )
        self._logs.write(location.project_id, [record])


def _is_by_shared_host(context: Context) -> bool:
    """Whether the client called the host of all endpoints. Over gRPC a header marks calls to one of their own."""
    if context.transport == "grpc":
        return "x-vertex-ai-endpoint-id" not in context.headers
    return context.host.endswith("aiplatform.googleapis.com")


def _request_body(request: aiplatform_v1.PredictRequest) -> bytes:
    """`{"instances": […], "parameters": …}` as a container gets it. Raises InvalidArgument for NaN and Infinity."""
    document: dict[str, Any] = {"instances": [values.plain(instance) for instance in request.instances]}
    if request.HasField("parameters"):
        document["parameters"] = values.plain(request.parameters)
    try:
        return json.dumps(document, allow_nan=False).encode()
    except ValueError:
        raise InvalidArgument("The instances hold NaN or Infinity, which JSON does not have.") from None


def _size_of(request: aiplatform_v1.PredictRequest, body: bytes, context: Context) -> int:
    """Bytes that the client sent."""
    if context.transport == "grpc":
        return request.ByteSize()
    length = context.headers.get("content-length", "")
    return int(length) if length.isdecimal() and "content-encoding" not in context.headers else len(body)


def _check_size(size: int) -> None:
    if size > LARGEST_PAYLOAD_BYTES:
        raise InvalidArgument(f"Request payload size exceeds the limit: {LARGEST_PAYLOAD_BYTES} bytes.")


def _check_answer_size(answer: ServerAnswer, deployment: Deployment) -> None:
    size = len(answer.body)
    if size > LARGEST_PAYLOAD_BYTES:
        raise InvalidArgument(
            f"Failed to handle request. endpoint_id: {names.last_part(deployment.endpoint)}, "
            f"deployed_model_id: {deployment.id} with error: Response size too large. "
            f"Received at least {size} bytes; max is {LARGEST_PAYLOAD_BYTES}."
        )


def _whole(answer: ServerStream) -> ServerAnswer:
    """A streamed answer with its body, up to the largest that is passed on at once."""
    body = b""
    for piece in answer.pieces:
        body += piece
        if len(body) > LARGEST_PAYLOAD_BYTES:
            break
    return ServerAnswer(answer.status, answer.content_type, body[:LARGEST_PAYLOAD_BYTES])


def _seconds(seconds: float, context: Context) -> float:
    left = context.seconds_left()
    return seconds if left is None else max(min(seconds, left), 0.001)


def _predictions(answer: ServerAnswer, deployment: Deployment, context: Context) -> dict[str, Any]:
    """The container's document, which has a list of predictions. Raises what the caller is to get else."""
    if answer.status >= 400:
        _fail(answer, context)
    _check_answer_size(answer, deployment)
    try:
        document = json.loads(answer.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InternalServerError(f"The response from the container is no JSON document: {error}") from None
    if isinstance(document, dict) and isinstance(document.get("predictions"), list):
        return document
    if isinstance(document, dict) and "error" in document:
        raise InvalidArgument(_text(answer, context))
    raise InternalServerError("The response from the container must have a list in its predictions field.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _fail(answer: ServerAnswer, context: Context, *, unchanged: bool = False) -> NoReturn:
    """Raise what a container's status means. unchanged: over REST its own status and body are the answer."""
    default = exceptions.InvalidArgument if answer.status < 500 else exceptions.ServiceUnavailable
    error = _ERRORS.get(answer.status, default)(_text(answer, context))
    if unchanged:
        error = errors.answered(error, errors.Answer(answer.status, answer.content_type, answer.body))
    raise error


def _text(answer: ServerAnswer, context: Context) -> str:
    body = answer.body[:_LARGEST_MESSAGE_BYTES] if context.transport == "grpc" else answer.body
    return body.decode("utf-8", "replace")
