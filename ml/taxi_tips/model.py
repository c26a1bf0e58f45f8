"""The model: which estimator, how it is fitted, and what it answers.

It is built of scikit-learn's own parts and of functions that numpy exports, so `model.joblib` loads
wherever scikit-learn is: in the prebuilt serving image there is no `ml` package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, TargetEncoder
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from ml.errors import InputError
from ml.paths import local_path
from ml.taxi_tips import features

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# Below this a second thread gains nothing, and on a busy machine threads that wait for one another made
# a fit of 0.6 s last 6 to 15 s.
_ROWS_WORTH_THREADS = 200_000


@dataclass(frozen=True)
class Parameters:
    """What a person or a tuning job may choose."""

    learning_rate: float = 0.1
    max_leaf_nodes: int = 8
    max_iter: int = 300
    """The most trees; validation rows decide how many are kept."""
    min_samples_leaf: int = 20
    seed: int = 0


def new_pipeline(parameters: Parameters) -> Pipeline:
    """An unfitted pipeline from instances (lists of six numbers) to 0 or 1, the label's values."""
    # Target encoding puts a zone's number where trees can use it: between zones that tip alike. It is
    # fitted across folds, so that no row sees its own label, and a zone never seen gets the mean.
    zones = TargetEncoder(target_type="binary", random_state=parameters.seed)
    columns = ColumnTransformer([("zones", zones, features.ZONES), ("numbers", "passthrough", features.NUMBERS)])
    trees = HistGradientBoostingClassifier(
        learning_rate=parameters.learning_rate,
        max_leaf_nodes=parameters.max_leaf_nodes,
        max_iter=parameters.max_iter,
        min_samples_leaf=parameters.min_samples_leaf,
        early_stopping=False,  # its own validation rows would be drawn at random; ours go by the trip's key
        random_state=parameters.seed,
    )
    # JSON gives whole numbers, doubles, null and sometimes "7": all become doubles, or one clear ValueError.
    as_numbers = FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})
    return Pipeline([("as_numbers", as_numbers), ("columns", columns), ("trees", trees)])


def fit(
    train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels], parameters: Parameters
) -> tuple[Pipeline, int]:
    """A fitted pipeline, and how many trees it kept: as many as did best on the validation rows.

    The same rows and parameters give the same model.
    """
    threads = None if len(train[0]) > _ROWS_WORTH_THREADS else 1
    with threadpool_limits(limits=threads, user_api="openmp"):
        return _fit(train, validation, parameters)


def _fit(
    train: tuple[Matrix, Labels], validation: tuple[Matrix, Labels], parameters: Parameters
) -> tuple[Pipeline, int]:
    longest = new_pipeline(parameters).fit(*train)
    losses = [log_loss(validation[1], share) for share in _staged_probabilities(longest, validation[0])]
    trees = int(np.argmin(losses)) + 1
    if trees == parameters.max_iter:
        return longest, trees
    return new_pipeline(replace(parameters, max_iter=trees)).fit(*train), trees


def probabilities(model: Pipeline, rows: Matrix) -> Matrix:
    """The probability of a tip of 20 % or more, for each row."""
    positive: Matrix = model.predict_proba(rows)[:, 1]
    return positive


def scores(location: str, rows: Matrix) -> Matrix:
    """The probabilities that a saved model gives, one that you trust: loading it runs its code.

    location: of its model.joblib, a path or a gs:// URI. Raises InputError when it is no model of our columns.
    """
    path = local_path(location)
    try:
        return probabilities(joblib.load(path), rows)
    except OSError:
        raise
    except Exception as error:  # unpickling can raise anything
        raise InputError(f"{location}: is not a model of these columns: {error}") from error


def _staged_probabilities(model: Pipeline, rows: Matrix) -> Iterator[Matrix]:
    """The same after one tree, two trees, and so on."""
    for both in model[-1].staged_predict_proba(model[:-1].transform(rows)):
        yield both[:, 1]
