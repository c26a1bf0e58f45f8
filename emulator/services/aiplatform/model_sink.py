"""What training asks of the model registry; the models' side implements it."""

from __future__ import annotations

from typing import Protocol

from selfloop_apis.aiplatform_v1 import Model


class ModelSink(Protocol):
    """Registers models on behalf of other methods than UploadModel."""

    def register(self, parent: str, model: Model, model_id: str, parent_model: str) -> Model:
        """Store a new model, or a version of `parent_model`, with the checks and the answer of UploadModel.

        parent: `projects/N/locations/L`, canonical. model: its artifact_uri is a folder with files in it.
        model_id, parent_model: as of UploadModelRequest, empty where the caller gave none.
        Gives back the stored version, its `name` and `version_id` set. Raises what UploadModel raises.
        """
        ...
