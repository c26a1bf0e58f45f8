"""Names, files and marks of registered models."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import FailedPrecondition
from selfloop_apis import aiplatform_v1

from emulator.services.aiplatform import model_resources as resources

DOCKER = "us-docker.pkg.dev/vertex-ai/prediction"


@pytest.mark.parametrize(
    ("image", "choices"),
    [
        (f"{DOCKER}/sklearn-cpu.1-6:latest", ("model.pkl", "model.joblib")),
        ("gcr.io/cloud-aiplatform/prediction/sklearn-cpu.0-23", ("model.pkl", "model.joblib")),
        ("eu.gcr.io/cloud-aiplatform/prediction/sklearn-cpu.0-23@sha256:00", ("model.pkl", "model.joblib")),
        ("europe-docker.pkg.dev/vertex-ai/prediction/xgboost-cpu.2-1", ("model.bst", "model.joblib", "model.pkl")),
        (f"{DOCKER}/tf2-gpu.2-15:latest", ("saved_model.pb", "saved_model.pbtxt")),
        (f"{DOCKER}/pytorch-cpu.2-4:latest", ("model.mar",)),
        (f"{DOCKER}/unheard-of.1-0:latest", ()),
        ("us-docker.pkg.dev/mine/prediction/sklearn-cpu.1-6:latest", ()),
        ("", ()),
    ],
)
def test_artifact_choices_are_those_of_the_prebuilt_image(image: str, choices: tuple[str, ...]) -> None:
    assert resources.artifact_choices(image) == choices


def test_check_artifacts_lists_what_it_wants_in_the_service_s_words() -> None:
    with pytest.raises(FailedPrecondition) as raised:
        resources.check_artifacts(f"{DOCKER}/xgboost-cpu.2-1:latest", "gs://b/m/", ["gs://b/m/model.json"])
    assert raised.value.message == (
        "Model directory gs://b/m/ is expected to contain exactly one of: [model.bst],  [model.joblib],  [model.pkl]."
    )


def test_check_artifacts_of_any_other_image_wants_something() -> None:
    resources.check_artifacts("mine", "gs://b/m/", ["gs://b/m/weights"])
    with pytest.raises(FailedPrecondition, match="empty or does not exist"):
        resources.check_artifacts("mine", "gs://b/m/", [])


def test_join_shows_the_model_s_fields_and_both_kinds_of_labels() -> None:
    shared = aiplatform_v1.Model(name="models/1", display_name="m", labels={"a": "model", "b": "model"}, etag="AM=")
    version = aiplatform_v1.Model(name="models/1@2", version_id="2", labels={"b": "version"}, etag="BM=")
    shown = resources.join(shared, version)
    assert (shown.name, shown.display_name, shown.version_id) == ("models/1", "m", "2")
    assert dict(shown.labels) == {"a": "model", "b": "version"}
