"""scikit-learn models as Google's prebuilt container serves them.

Instances become one NumPy array, `predict` gives the predictions; names of columns are unknown to it.
Source: https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers and the prediction library of
AI Platform, whose messages these are.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import numpy

from . import forest
from .errors import LoadError, PredictionError

_FILES = ("model.joblib", "model.pkl")


class SklearnModel:
    """A loaded model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._predict = forest.direct(model) or model.predict

    @classmethod
    def load(cls, folder: str) -> SklearnModel:
        """The one of model.joblib and model.pkl that is in the folder. Raises LoadError."""
        found = [name for name in _FILES if os.path.isfile(os.path.join(folder, name))]
        if len(found) != 1:
            raise LoadError(f"Could not load the model: expected exactly one of {', '.join(_FILES)}.")
        path = os.path.join(folder, found[0])
        try:
            model = _read(path)
        except Exception as error:  # unpickling runs any code, which may raise anything
            raise LoadError(f"Could not load the model: {found[0]}. {type(error).__name__}: {error}.") from error
        if not callable(getattr(model, "predict", None)):
            raise LoadError(f"Could not load the model: {found[0]}. A {type(model).__name__} has no method predict.")
        return cls(model)

    def answer(self, body: bytes) -> bytes:
        """`{"predictions": […]}` of `{"instances": […]}`. Raises PredictionError."""
        predictions = self.predict(_instances(body))
        try:
            return json.dumps({"predictions": predictions}).encode()
        except (TypeError, ValueError) as error:
            raise PredictionError(f"The predictions cannot be written as JSON: {error}", 500) from error

    def predict(self, instances: list[Any]) -> list[Any]:
        """Predictions in the order of the instances. Raises PredictionError."""
        try:
            outputs = self._predict(numpy.array(instances))
        except Exception as error:  # a model's own code may raise anything
            raise PredictionError(f"Exception during sklearn prediction: {error}") from error
        if isinstance(outputs, numpy.ndarray):
            outputs = outputs.tolist()
        if not isinstance(outputs, list):
            raise PredictionError(
                f"Bad output type returned after running {type(self._model).__name__}: "
                "The post-processing function should return either a numpy ndarray or a list.",
                500,
            )
        return outputs


def _read(path: str) -> Any:
    if path.endswith(".pkl"):
        with open(path, "rb") as file:
            return pickle.load(file)  # noqa: S301  # the user's own model, inside its sandbox
    import joblib

    return joblib.load(path)


def _instances(body: bytes) -> list[Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise PredictionError(f"The request is no JSON document: {error}") from None
    instances = document.get("instances") if isinstance(document, dict) else None
    if not isinstance(instances, list):
        raise PredictionError('The request must be a JSON object with a list of "instances".')
    return instances
