"""xgboost models as Google's prebuilt container serves them.

Instances become one DMatrix, in which the text "NaN" is a missing value; the booster's `predict` gives the
predictions. A pickle may hold a booster, or a model of xgboost's scikit-learn interface, whose own `predict` answers.
Source: https://cloud.google.com/vertex-ai/docs/predictions/pre-built-containers and
https://cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts
"""

from __future__ import annotations

import os
from typing import Any

import numpy

from . import files, messages
from .errors import LoadError, PredictionError

_FILES = ("model.bst", "model.joblib", "model.pkl")


class XgboostModel:
    """A loaded model."""

    def __init__(self, model: Any) -> None:
        import xgboost

        self._model = model
        self._matrix = xgboost.DMatrix if isinstance(model, xgboost.Booster) else None

    @classmethod
    def load(cls, folder: str) -> XgboostModel:
        """The one of model.bst, model.joblib and model.pkl that is in the folder. Raises LoadError."""
        name = files.find(folder, _FILES)
        path = os.path.join(folder, name)
        try:
            model = _read(path)
        except Exception as error:  # unpickling runs any code, which may raise anything
            raise files.could_not_load(name, error) from error
        if not callable(getattr(model, "predict", None)):
            raise LoadError(f"Could not load the model: {name}. A {type(model).__name__} has no method predict.")
        return cls(model)

    def answer(self, body: bytes) -> bytes:
        """`{"predictions": […]}` of `{"instances": […]}`. Raises PredictionError."""
        instances = messages.instances(body)
        try:
            rows = numpy.array(instances, dtype=float)
            outputs = self._model.predict(rows if self._matrix is None else self._matrix(rows))
        except Exception as error:  # a model's own code may raise anything
            raise PredictionError(f"Exception during xgboost prediction: {error}") from error
        return messages.predictions(outputs, self._model)


def _read(path: str) -> Any:
    import xgboost

    if path.endswith(".bst"):
        return xgboost.Booster(model_file=path)
    try:
        return files.unpickled(path)
    except (KeyError, ValueError):
        # Boosters were saved under such names by `save_model` as well.
        return xgboost.Booster(model_file=path)
