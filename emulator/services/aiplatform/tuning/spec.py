"""Checks of what a hyperparameter tuning job asks for.

Source: the comments of study.proto and hyperparameter_tuning_job.proto
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

from google.api_core.exceptions import MethodNotImplemented
from selfloop_apis.aiplatform_v1 import HyperparameterTuningJob, StudySpec

from emulator.services.aiplatform.validation import FoundErrors
from emulator.services.aiplatform.worker_pools import check_job_spec

#: Trials of one job. Source: https://cloud.google.com/vertex-ai/docs/quotas
MOST_TRIALS = 1000
MOST_PARALLEL_TRIALS = 100
_MOST_VALUES = 1000
_LOG_SCALES = frozenset(
    {StudySpec.ParameterSpec.ScaleType.UNIT_LOG_SCALE, StudySpec.ParameterSpec.ScaleType.UNIT_REVERSE_LOG_SCALE}
)
_UNSUPPORTED = (
    "decay_curve_stopping_spec",
    "convex_automated_stopping_spec",
    "study_stopping_config",
)


def check_tuning_job(job: HyperparameterTuningJob) -> None:
    """Raises InvalidArgument with all that is wrong, MethodNotImplemented for what is right and not emulated."""
    errors = FoundErrors()
    errors.check_display_name(job.display_name)
    errors.check_labels(job.labels)
    if not 1 <= job.max_trial_count <= MOST_TRIALS:
        errors.add("max_trial_count", f"The number of trials must be between 1 and {MOST_TRIALS}.")
    if not 1 <= job.parallel_trial_count <= MOST_PARALLEL_TRIALS:
        errors.add("parallel_trial_count", f"The number of parallel trials must be 1 to {MOST_PARALLEL_TRIALS}.")
    elif job.parallel_trial_count > job.max_trial_count:
        errors.add("parallel_trial_count", "There must not be more parallel trials than trials in all.")
    if not 0 <= job.max_failed_trial_count <= max(job.max_trial_count, 0):
        errors.add("max_failed_trial_count", "The number of failed trials must be 0 to max_trial_count.")
    _check_study(job.study_spec, errors)
    check_job_spec(job.trial_job_spec, errors, "trial_job_spec")
    for field in _UNSUPPORTED:
        if job.study_spec.HasField(field):  # type: ignore[arg-type]  # the stub knows each name by itself
            raise MethodNotImplemented(
                f"study_spec.{field} is not emulated yet; add it to emulator/services/aiplatform/tuning/jobs.py"
            )


def _check_study(spec: StudySpec, errors: FoundErrors) -> None:
    if not spec.metrics:
        errors.add("study_spec.metrics", "Required field is not set.")
    _check_names([metric.metric_id for metric in spec.metrics], "metric_id", errors, "study_spec.metrics")
    if not spec.parameters:
        errors.add("study_spec.parameters", "Required field is not set.")
    is_grid = spec.algorithm == StudySpec.Algorithm.GRID_SEARCH
    _check_parameters(spec.parameters, errors, "study_spec.parameters", is_grid=is_grid)


def _check_parameters(specs: Any, errors: FoundErrors, where: str, *, is_grid: bool) -> None:
    _check_names([spec.parameter_id for spec in specs], "parameter_id", errors, where)
    for number, spec in enumerate(specs):
        _check_parameter(spec, errors, f"{where}[{number}]", is_grid=is_grid)


def _check_parameter(spec: Any, errors: FoundErrors, where: str, *, is_grid: bool) -> None:
    kind = spec.WhichOneof("parameter_value_spec")
    if kind is None:
        errors.add(f"{where}.parameter_value_spec", "Required field is not set.")
        return
    given = getattr(spec, kind)
    inside = f"{where}.{kind}"
    lowest: float = math.inf
    if kind in ("double_value_spec", "integer_value_spec"):
        lowest = given.min_value
        if not (math.isfinite(given.min_value) and math.isfinite(given.max_value)):
            errors.add(inside, "min_value and max_value must be finite.")
        elif given.min_value > given.max_value:
            errors.add(inside, "min_value must not be greater than max_value.")
        if is_grid and kind == "double_value_spec":
            errors.add(inside, "A grid search takes INTEGER, DISCRETE and CATEGORICAL parameters only.")
    else:
        values = list(given.values)
        if not 1 <= len(values) <= _MOST_VALUES:
            errors.add(f"{inside}.values", f"There must be 1 to {_MOST_VALUES} values.")
        elif kind == "discrete_value_spec":
            lowest = values[0]
            if any(following <= value for value, following in pairwise(values)):
                errors.add(f"{inside}.values", "The values must be in increasing order.")
        elif len(set(values)) != len(values):
            errors.add(f"{inside}.values", "The values must be unique.")
    if spec.scale_type in _LOG_SCALES and lowest <= 0:
        errors.add(f"{where}.scale_type", "A logarithmic scale needs values above 0.")
    for number, conditional in enumerate(spec.conditional_parameter_specs):
        place = f"{where}.conditional_parameter_specs[{number}]"
        if conditional.WhichOneof("parent_value_condition") is None:
            errors.add(f"{place}.parent_value_condition", "Required field is not set.")
        _check_parameter(conditional.parameter_spec, errors, f"{place}.parameter_spec", is_grid=is_grid)


def _check_names(names: list[str], field: str, errors: FoundErrors, where: str) -> None:
    for number, name in enumerate(names):
        if not name or re.search(r"\s", name):
            errors.add(f"{where}[{number}].{field}", f"{name!r} is empty or contains whitespace.")
        elif name in names[:number]:
            errors.add(f"{where}[{number}].{field}", f"{name!r} is there twice.")
