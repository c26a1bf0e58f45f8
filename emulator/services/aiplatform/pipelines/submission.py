"""What is checked of a pipeline job before it is taken, and what it is given to run with."""

from __future__ import annotations

import re
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, MethodNotImplemented, NotFound
from selfloop_apis.aiplatform_v1 import PipelineJob

from emulator.core.interfaces import ObjectStore
from emulator.services.aiplatform.names import Location
from emulator.services.aiplatform.pipelines.compiler import compile_spec
from emulator.services.aiplatform.pipelines.lineage import Lineage, as_value, store_name
from emulator.services.aiplatform.pipelines.parameters import WrongType, check
from emulator.services.aiplatform.pipelines.plan import Pipeline
from emulator.services.aiplatform.pipelines.values import Artifact, Values
from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.values import plain, plain_struct

#: Source: the pattern of `pipeline_job_id` in the Python SDK.
_JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}", re.IGNORECASE)
_MOST_TEMPLATE_BYTES = 10 << 20


def check_job(job: PipelineJob, job_id: str) -> None:
    """Raises InvalidArgument for what the job says besides its pipeline."""
    errors = FoundErrors()
    if job_id and not _JOB_ID.fullmatch(job_id):
        errors.add("pipeline_job_id", f"{job_id!r} does not match {_JOB_ID.pattern}.")
    errors.check_display_name(job.display_name, "pipeline_job.display_name")
    errors.check_labels(job.labels, "pipeline_job.labels")
    root, field = job.runtime_config.gcs_output_directory, "pipeline_job.runtime_config.gcs_output_directory"
    if root:
        errors.check_gcs_uri(root, field)
    else:
        errors.add(field, "Required field is not set.")
    errors.raise_any()
    if job.runtime_config.parameters:
        raise MethodNotImplemented(
            "pipeline_job.runtime_config.parameters is of pipelines before schema 2.1; use parameter_values."
        )


def load_template(job: PipelineJob, objects: ObjectStore) -> None:
    """Fill in the specification of a job that names only where it is. Raises InvalidArgument, MethodNotImplemented."""
    if job.pipeline_spec.fields or not job.template_uri:
        return
    uri = job.template_uri
    if not uri.startswith("gs://"):
        raise MethodNotImplemented(f"A template at {uri} is not emulated: only gs:// is; or send the pipeline_spec.")
    data = bytearray()
    try:
        for piece in objects.read(uri):
            data += piece
            if len(data) > _MOST_TEMPLATE_BYTES:
                raise InvalidArgument(f"The template {uri} has more than {_MOST_TEMPLATE_BYTES >> 20} MiB.")
    except NotFound:
        raise InvalidArgument(f"The template {uri} does not exist.") from None
    try:
        job.pipeline_spec.update(_read_yaml(bytes(data)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"The template {uri} is no compiled pipeline: {error}") from None


def compile_job(job: PipelineJob) -> Pipeline:
    """The plan of a job's pipeline. Raises what `compile_spec` raises."""
    if not job.pipeline_spec.fields:
        raise InvalidArgument("One of pipeline_job.pipeline_spec and pipeline_job.template_uri must be set.")
    return compile_spec(plain_struct(job.pipeline_spec))


def root_inputs(job: PipelineJob, pipeline: Pipeline, location: Location, lineage: Lineage) -> Values:
    """The values of the pipeline's own inputs, defaults left to the components. Raises InvalidArgument."""
    errors, declared = FoundErrors(), pipeline.root.inputs
    field = "pipeline_job.runtime_config"
    parameters: dict[str, Any] = {}
    given = {name: plain(value) for name, value in job.runtime_config.parameter_values.items()}
    for name, value in given.items():
        wanted = declared.parameters.get(name)
        if wanted is None:
            errors.add(f"{field}.parameter_values", f"The pipeline has no input parameter {name!r}.")
            continue
        try:
            # null asks for the default.
            if value is not None or wanted.is_required:
                parameters[name] = check(value, wanted.kind)
        except WrongType as error:
            errors.add(f"{field}.parameter_values", f"The input parameter {name!r} has the wrong type: {error}.")
    for name, wanted in declared.parameters.items():
        if wanted.is_required and name not in given:
            errors.add(f"{field}.parameter_values", f"The required input parameter {name!r} is missing.")
    artifacts = _root_artifacts(job, pipeline, location, lineage, errors)
    errors.raise_any()
    return Values(parameters, artifacts)


def _root_artifacts(
    job: PipelineJob, pipeline: Pipeline, location: Location, lineage: Lineage, errors: FoundErrors
) -> dict[str, list[Artifact]]:
    field = "pipeline_job.runtime_config.input_artifacts"
    artifacts = {}
    for name, given in job.runtime_config.input_artifacts.items():
        if name not in pipeline.root.inputs.artifacts:
            errors.add(field, f"The pipeline has no input artifact {name!r}.")
            continue
        found = lineage.artifact(f"{store_name(location)}/artifacts/{given.artifact_id}")
        if found is None:
            errors.add(field, f"The artifact {given.artifact_id!r} does not exist.")
        else:
            artifacts[name] = [as_value(found)]
    for name, wanted in pipeline.root.inputs.artifacts.items():
        if not wanted.is_optional and name not in job.runtime_config.input_artifacts:
            errors.add(field, f"The required input artifact {name!r} is missing.")
    return artifacts


def _read_yaml(data: bytes) -> dict[str, Any]:
    """The first document of a YAML or JSON file; a second one is for other platforms. Raises ValueError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        for document in YAML(typ="safe", pure=True).load_all(data.decode()):
            if isinstance(document, dict):
                return document
            break
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from None
    raise ValueError("it is no mapping")


def api_error(raised: Exception) -> str:
    """What is told of an error that kept a job from running."""
    return raised.message if isinstance(raised, GoogleAPICallError) else str(raised)
