"""The one file that holds a model."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import Any

from .errors import LoadError


def find(folder: str, names: Sequence[str]) -> str:
    """The one of these files that is in the folder. Raises LoadError."""
    found = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    if len(found) != 1:
        raise LoadError(f"Could not load the model: expected exactly one of {', '.join(names)}.")
    return found[0]


def unpickled(path: str) -> Any:
    """Raises whatever the code in it raises."""
    if path.endswith(".pkl"):
        with open(path, "rb") as file:
            return pickle.load(file)  # noqa: S301  # the user's own model, inside its sandbox
    import joblib

    return joblib.load(path)


def could_not_load(name: str, error: Exception) -> LoadError:
    return LoadError(f"Could not load the model: {name}. {type(error).__name__}: {error}.")
