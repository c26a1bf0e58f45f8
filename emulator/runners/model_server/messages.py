"""The requests and answers that Google's prebuilt containers share."""

from __future__ import annotations

import json
from typing import Any

import numpy

from .errors import PredictionError


def instances(body: bytes) -> list[Any]:
    """The instances of `{"instances": […]}`. Raises PredictionError."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PredictionError(f"The request is no JSON document: {error}") from None
    found = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise PredictionError('The request must be a JSON object with a list of "instances".')
    return found


def predictions(outputs: Any, model: Any) -> bytes:
    """`{"predictions": […]}` of what a model gave. Raises PredictionError for what is neither array nor list."""
    if isinstance(outputs, numpy.ndarray):
        outputs = outputs.tolist()
    if not isinstance(outputs, list):
        raise PredictionError(
            f"Bad output type returned after running {type(model).__name__}: "
            "The post-processing function should return either a numpy ndarray or a list.",
            500,
        )
    try:
        return json.dumps({"predictions": outputs}).encode()
    except (TypeError, ValueError) as error:
        raise PredictionError(f"The predictions cannot be written as JSON: {error}", 500) from error
