"""The task of a TrainingPipeline: its free-form inputs as the CustomJobSpec that they are.

Source: https://cloud.google.com/vertex-ai/docs/training/create-training-pipeline and
gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml
"""

from __future__ import annotations

import re

import selfloop_apis
from google.api_core.exceptions import InvalidArgument
from google.protobuf import json_format
from selfloop_apis.aiplatform_v1 import CustomJobSpec, TrainingPipeline

from emulator.core import field_behavior
from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.worker_pools import check_job_spec

_SCHEMAS = "gs://google-cloud-aiplatform/schema/trainingjob/definition/"
_CUSTOM_TASK = re.compile(re.escape(_SCHEMAS) + r"custom_task_1\.\d+\.\d+\.yaml")


def job_spec_of(pipeline: TrainingPipeline) -> CustomJobSpec:
    """The job that a training pipeline asks for, checked as if it had been given to CreateCustomJob.

    Keys are snake_case from the SDK and camelCase from gcloud and REST; every number is a double.
    Raises InvalidArgument for another task than custom training, and for inputs that are no CustomJobSpec.
    """
    definition = pipeline.training_task_definition
    if not _CUSTOM_TASK.fullmatch(definition):
        known = f"the emulator runs {_SCHEMAS}custom_task_1.0.0.yaml"
        raise InvalidArgument(f'Training task definition "{definition}" is not emulated yet; {known}.')
    if pipeline.training_task_inputs.WhichOneof("kind") != "struct_value":
        raise InvalidArgument("training_task_inputs must be an object.")
    spec = CustomJobSpec()
    try:
        json_format.ParseDict(
            json_format.MessageToDict(pipeline.training_task_inputs), spec, descriptor_pool=selfloop_apis.POOL
        )
    except json_format.ParseError as error:
        raise InvalidArgument(f"Invalid training_task_inputs: {error}") from None
    field_behavior.clean(spec)
    check_job_spec(spec, FoundErrors(), "training_task_inputs")
    return spec


def check_pipeline(pipeline: TrainingPipeline, spec: CustomJobSpec) -> None:
    """Raises InvalidArgument for what a training pipeline has beside its task and must not have."""
    errors = FoundErrors()
    errors.check_display_name(pipeline.display_name)
    errors.check_labels(pipeline.labels)
    if pipeline.HasField("model_to_upload"):
        model = pipeline.model_to_upload
        errors.check_display_name(model.display_name, "model_to_upload.display_name")
        errors.check_labels(model.labels, "model_to_upload.labels")
        if pipeline.model_id and pipeline.parent_model:
            errors.add("model_id", "Only one of model_id and parent_model may be set.")
        if model.artifact_uri:
            errors.check_gcs_uri(model.artifact_uri, "model_to_upload.artifact_uri")
        elif not spec.HasField("base_output_directory"):
            errors.add(
                "training_task_inputs.base_output_directory",
                "Required where model_to_upload is set without an artifact_uri.",
            )
    errors.raise_any()
