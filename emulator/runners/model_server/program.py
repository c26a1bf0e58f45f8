"""The command line of a model server, and its routes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from .errors import LoadError, PredictionError
from .server import Answer, serve

#: Framework -> where its class is; an environment has one framework, so that only its module can be imported.
_MODELS = {"sklearn": (".sklearn_model", "SklearnModel"), "xgboost": (".xgboost_model", "XgboostModel")}


class Model(Protocol):
    """A loaded model."""

    def answer(self, body: bytes) -> bytes:
        """The body of an answer to the body of a request. Raises PredictionError."""
        ...


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="model_server")
    parser.add_argument("--framework", required=True, choices=sorted(_MODELS))
    parser.add_argument("--model", required=True, help="folder with the model's files")
    parser.add_argument("--socket", required=True, help="path of the Unix socket to listen on")
    options = parser.parse_args(arguments)
    try:
        module, name = _MODELS[options.framework]
        model: Model = getattr(importlib.import_module(module, __package__), name).load(options.model)
    except LoadError as error:
        print(f"Failed to load model: {error}", file=sys.stderr, flush=True)
        return 1
    # What the model's code printed while it was loaded belongs before the first request.
    sys.stdout.flush()
    serve(options.socket, Routes(model, os.environ).answer)
    return 0


class Routes:
    """Health and predict, at the paths that the contract's variables name."""

    def __init__(self, model: Model, variables: os._Environ[str]) -> None:
        self._model = model
        self._health = variables.get("AIP_HEALTH_ROUTE") or "/health"
        self._predict = variables.get("AIP_PREDICT_ROUTE") or "/predict"

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path == self._predict and method == "POST":
            try:
                return Answer(200, self._model.answer(body))
            except PredictionError as error:
                return Answer.of(error.status, {"error": f"Prediction failed: {error}"})
        if path == self._health and method in ("GET", "HEAD"):
            return Answer(200, b"{}")
        return Answer.of(404, {"error": f"There is nothing at {method} {path}"})
