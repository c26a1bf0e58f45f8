"""Models for tests of the registry and of serving: tiny ones, put into a bucket and registered."""

from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
from google.cloud.aiplatform_v1 import (
    EndpointServiceClient,
    Model,
    ModelServiceClient,
    UploadModelRequest,
)
from google.cloud.storage import Client
from sklearn.tree import DecisionTreeRegressor

from tests.conftest import Emulator

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
SECONDS = 60


class Exits:
    """A pickle that ends the process that loads it."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        import os

        return os._exit, (7,)


def constant(value: float) -> DecisionTreeRegressor:
    """A model of two features that always says the same."""
    return DecisionTreeRegressor().fit([[0.0, 0.0], [1.0, 1.0]], [value, value])


def dumped(model: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


def put(emulator: Emulator, project: str, folder: str, files: dict[str, bytes]) -> str:
    """Files in the project's bucket, made when it is not there; the folder's URI."""
    with emulator.exported():
        bucket = Client(project=project).bucket(f"{project}-models")
        if not bucket.exists():
            bucket.create(location="us-central1")
        for name, data in files.items():
            bucket.blob(f"{folder}/{name}").upload_from_string(data)
    return f"gs://{bucket.name}/{folder}"


def put_model(emulator: Emulator, project: str, model: object, folder: str = "model") -> str:
    return put(emulator, project, folder, {"model.joblib": dumped(model)})


def pickled(model: object) -> bytes:
    return pickle.dumps(model)


def described(artifact_uri: str = "", image: str = IMAGE, **fields: Any) -> Model:
    return Model(
        display_name=fields.pop("display_name", "a model"),
        artifact_uri=artifact_uri,
        container_spec={"image_uri": image} if image else None,
        **fields,
    )


def upload(models: ModelServiceClient, parent: str, model: Model | None = None, **request: Any) -> Model:
    """Register a version and read it back by its own name."""
    asked = UploadModelRequest(parent=parent, model=model or Model(display_name="a model"), **request)
    response = models.upload_model(asked).result(timeout=SECONDS)
    return models.get_model(name=f"{response.model}@{response.model_version_id}")


def new_endpoint(endpoints: EndpointServiceClient, parent: str, **fields: Any) -> str:
    endpoint = {"display_name": "an endpoint", **fields}
    operation = endpoints.create_endpoint(parent=parent, endpoint=endpoint)  # type: ignore[arg-type]
    return str(operation.result(timeout=SECONDS).name)


def deploy(endpoints: EndpointServiceClient, endpoint: str, model: str, split: dict[str, int], **fields: Any) -> str:
    """The id of what was deployed."""
    resources = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}
    operation = endpoints.deploy_model(
        endpoint=endpoint,
        deployed_model={"model": model, "dedicated_resources": resources, **fields},  # type: ignore[arg-type]
        traffic_split=split,
    )
    return str(operation.result(timeout=SECONDS).deployed_model.id)
