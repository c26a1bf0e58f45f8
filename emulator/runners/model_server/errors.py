"""What goes wrong in a model server."""

from __future__ import annotations


class LoadError(Exception):
    """The files are no model that this server can load."""


class PredictionError(Exception):
    """A request that the model cannot answer; `status` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
