"""Predictions of a forest by its trees themselves.

For one row scikit-learn spends twenty times as long around the trees as in them: each tree's call saves the
configuration and installs warning filters anew. Rows that are plain numbers need none of that. The sums are formed
in scikit-learn's order, so results are equal; every other input goes to the model's own `predict`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

Predict = Callable[[Any], Any]

_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")
_PROBES = 64


def direct(model: Any) -> Predict | None:
    """A faster `predict` of the same results, or None for a model that is no forest of one output."""
    kind = type(model)
    if not kind.__module__.startswith("sklearn.ensemble.") or kind.__name__ not in _CLASSIFIERS + _REGRESSORS:
        return None
    try:
        found = _Forest(model)
        # Trees of an older release keep counts where those of today keep shares: better to see than to know.
        probes = found.probes(_PROBES)
        is_equal = numpy.array_equal(found.predict(probes), model.predict(probes))
    except Exception:  # noqa: BLE001  # whatever is unusual about it, its own predict is the authority
        return None
    return found.predict if is_equal else None


class _Forest:
    def __init__(self, model: Any) -> None:
        if model.n_outputs_ != 1:
            raise ValueError("the forest has several outputs")
        self._model = model
        self._trees = [estimator.tree_ for estimator in model.estimators_]
        self._features = int(model.n_features_in_)
        self._classes = model.classes_ if type(model).__name__ in _CLASSIFIERS else None

    def predict(self, rows: Any) -> Any:
        if rows.ndim != 2 or rows.shape[1] != self._features or not len(rows) or rows.dtype.kind not in "fiu":
            return self._model.predict(rows)
        with numpy.errstate(over="ignore"):
            single = numpy.ascontiguousarray(rows, dtype=numpy.float32)
        if not numpy.isfinite(single).all():
            return self._model.predict(rows)
        if self._classes is None:
            total = numpy.zeros(len(single))
            for tree in self._trees:
                total += tree.predict(single)[:, 0]
            return total / len(self._trees)
        shares = numpy.zeros((len(single), len(self._classes)))
        for tree in self._trees:
            shares += tree.predict(single)
        shares /= len(self._trees)
        return self._classes.take(shares.argmax(axis=1), axis=0)

    def probes(self, count: int) -> Any:
        """Rows that reach many leaves: values around the thresholds of the trees."""
        generator = numpy.random.default_rng(0)
        rows = numpy.zeros((count, self._features))
        for tree in self._trees:
            inner = numpy.flatnonzero(tree.children_left >= 0)
            if len(inner):
                nodes = generator.choice(inner, count)
                rows[numpy.arange(count), tree.feature[nodes]] = tree.threshold[nodes] + generator.choice([-1e-3, 1e-3])
        # A split between values and missing ones has an infinite threshold.
        return numpy.where(numpy.isfinite(rows), rows, 0.0)
