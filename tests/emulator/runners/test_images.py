"""Which environment stands in for an image."""

from __future__ import annotations

import pytest

from emulator.runners import images
from emulator.runners.images import NoEnvironment
from emulator.settings import StandIn, parse_image_table


@pytest.mark.parametrize(
    ("image", "environment"),
    [
        ("us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest", "sklearn-cpu.1-6"),
        ("europe-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest", "sklearn-cpu.1-6"),
        ("asia-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-0", "sklearn-cpu.1-0"),
        ("us-docker.pkg.dev/vertex-ai/training/scikit-learn-cpu.0-23:latest", "sklearn-cpu.0-23"),
        ("gcr.io/cloud-aiplatform/prediction/sklearn-cpu.0-22:latest", "sklearn-cpu.0-23"),
        ("eu.gcr.io/cloud-aiplatform/training/xgboost-cpu.2-1@sha256:abc", "xgboost-cpu.2-1"),
        ("us-docker.pkg.dev/vertex-ai/training/xgboost-cpu.1-6:latest", "xgboost-cpu.1-6"),
        *(
            (f"us-docker.pkg.dev/vertex-ai/{kind}/xgboost-cpu.{version}:latest", f"xgboost-cpu.{version}")
            for kind in ("training", "prediction")
            for version in ("2-0", "1-7", "1-5", "1-4", "1-3", "1-2", "1-1")
        ),
        ("us-docker.pkg.dev/vertex-ai/training/tf-cpu.2-17.py310:latest", "tf-cpu.2-17"),
    ],
)
def test_uri_leads_to_an_environment(image: str, environment: str) -> None:
    assert images.environment_name(image) == environment


@pytest.mark.parametrize(
    "image",
    [
        "gcr.io/my-project/sklearn-cpu.1-6",
        "us-docker.pkg.dev.evil.example/vertex-ai/training/sklearn-cpu.1-6",
        "x/us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6",
        "us-docker.pkg.dev/vertex-ai/training/more/sklearn-cpu.1-6",
        "",
    ],
)
def test_other_uri_is_for_docker_alone(image: str) -> None:
    with pytest.raises(NoEnvironment, match="Only Docker could run it"):
        images.environment_name(image)


def test_unknown_prebuilt_image_names_those_of_its_kind() -> None:
    with pytest.raises(NoEnvironment, match=r"There is one for sklearn-cpu\.0-20, sklearn-cpu\.0-22"):
        images.environment_name("us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest")


def no_other(_: str) -> bool:
    return False


def every(_: str) -> bool:
    return True


def test_own_python_is_taken_where_the_libraries_have_wheels_for_it() -> None:
    recipe = images.recipe("sklearn-cpu.1-6", "3.11", every, exact=False)
    assert recipe.python == "3.11"
    assert "scikit-learn==1.6.1" in recipe.requirements
    assert recipe.description().startswith("Python 3.11 (the image has 3.10), scikit-learn 1.6.1, numpy 1.26.4")
    assert not recipe.is_exact


def test_the_image_s_library_counts_more_than_the_own_python() -> None:
    recipe = images.recipe("sklearn-cpu.1-0", "3.11", every, exact=False)
    assert (recipe.python, recipe.is_exact) == ("3.10", True)
    assert "scikit-learn==1.0.2" in recipe.requirements


def test_nearest_library_is_taken_and_named() -> None:
    recipe = images.recipe("sklearn-cpu.1-0", "3.11", no_other, exact=False)
    assert recipe.python == "3.11"
    assert "scikit-learn 1.1.3 (the image has 1.0.2)" in recipe.description()


def test_exact_takes_nothing_but_the_image_s_versions() -> None:
    assert images.recipe("sklearn-cpu.1-6", "3.11", every, exact=True).is_exact
    with pytest.raises(NoEnvironment, match=r"emulator\.images is exact, which needs Python 3\.10"):
        images.recipe("sklearn-cpu.1-6", "3.11", no_other, exact=True)


def test_python_that_nothing_is_made_for_is_named() -> None:
    with pytest.raises(NoEnvironment, match=r"wheels for Python 3\.14"):
        images.recipe("sklearn-cpu.1-0", "3.14", no_other, exact=False)


@pytest.mark.parametrize(
    "image", ["gcr.io/p/trainer", "gcr.io/p/trainer:v2", "gcr.io/p/trainer@sha256:ab", "gcr.io/p/trainer:v2@sha256:ab"]
)
def test_entry_without_a_tag_is_for_all_of_them(image: str) -> None:
    assert images.stand_in(image, {"gcr.io/p/trainer": StandIn("sklearn-cpu.1-6")}) == StandIn("sklearn-cpu.1-6")


def test_entry_with_a_tag_is_for_that_alone() -> None:
    table = {"localhost:5000/trainer:v1": StandIn("one"), "localhost:5000/trainer": StandIn("rest")}
    assert images.stand_in("localhost:5000/trainer:v1", table) == StandIn("one")
    assert images.stand_in("localhost:5000/trainer:v2", table) == StandIn("rest")
    assert images.stand_in("localhost:5000/train", table) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is no JSON object"),
        ('{"a": 1}', "entry of a in the image table cannot be understood"),
        ('{"a": {"colour": "red"}}', "unexpected keyword argument 'colour'"),
        ('{"a": {}}', "needs one of environment and python"),
        ("{", "Expecting property name"),
    ],
)
def test_table_that_cannot_be_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_image_table(text)
