"""scikit-learn models as Google's prebuilt container serves them.

Instances become one NumPy array, `predict` gives the predictions; names of columns are unknown to it.
Source: https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers and the prediction library of
AI Platform, whose messages these are.
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from . import files, forest, messages
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
        name = files.find(folder, _FILES)
        try:
            model = files.unpickled(os.path.join(folder, name))
        except Exception as error:  # unpickling runs any code, which may raise anything
            raise files.could_not_load(name, error) from error
        if not callable(getattr(model, "predict", None)):
            raise LoadError(f"Could not load the model: {name}. A {type(model).__name__} has no method predict.")
        return cls(model)

    def answer(self, body: bytes) -> bytes:
        """`{"predictions": […]}` of `{"instances": […]}`. Raises PredictionError."""
        instances = messages.instances(body)
        try:
            outputs = self._predict(numpy.array(instances))
        except Exception as error:  # a model's own code may raise anything
            raise PredictionError(f"Exception during sklearn prediction: {error}") from error
        return messages.predictions(outputs, self._model)
