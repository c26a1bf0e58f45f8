from tests.ml.taxi_tips.conftest import generated

__all__ = ["generated"]
