"""A script as the guides to Model Registry and endpoints teach it: nothing in it knows of an emulator.

python registry_script.py PROJECT BUCKET FOLDER grpc|rest

FOLDER holds first/model.joblib, second/model.joblib and third.bst.
Sources: https://cloud.google.com/vertex-ai/docs/model-registry/versioning, /copy-model, /import-model,
https://cloud.google.com/vertex-ai/docs/general/deployment and the SDK's reference
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from google.api_core.exceptions import BadRequest, GoogleAPICallError
from google.cloud import aiplatform
from google.cloud.storage import Client

project, bucket_name, folder, transport = sys.argv[1:]
LOCATION = "us-central1"
IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest"
SCHEMA = "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml"

bucket = Client(project=project).create_bucket(bucket_name, location=LOCATION)
for version in ("first", "second"):
    bucket.blob(f"{version}/model.joblib").upload_from_filename(f"{folder}/{version}/model.joblib")
# No staging bucket: the helpers for local files make one.
aiplatform.init(project=project, location=LOCATION, api_transport=transport)

# Register a model, and a second version of it.
first = aiplatform.Model.upload(
    model_id="tips",
    display_name="tips",
    artifact_uri=f"gs://{bucket_name}/first",
    serving_container_image_uri=IMAGE,
    labels={"team": "taxi"},
    version_aliases=["live"],
    version_description="first",
)
second = aiplatform.Model.upload(
    parent_model="tips",
    display_name="tips",
    artifact_uri=f"gs://{bucket_name}/second",
    serving_container_image_uri=IMAGE,
    is_default_version=False,
    version_description="second",
)
assert (first.version_id, second.version_id) == ("1", "2")
assert first.version_aliases == ["live", "default"]

# Versions and aliases.
registry = aiplatform.models.ModelRegistry("tips")
assert [version.version_id for version in registry.list_versions()] == ["2", "1"]
registry.add_version_aliases(["live", "default"], version="2")
assert registry.get_version_info("live").version_description == "second"
registry.remove_version_aliases(["live"], version="2")
assert registry.get_version_info("2").version_aliases == ["default"]
try:
    registry.remove_version_aliases(["default"], version="2")
except BadRequest as error:
    assert "default" in error.message  # noqa: PT017  # a script, no test
else:
    raise AssertionError("the default alias went")
assert aiplatform.Model("tips").version_id == "2"
assert aiplatform.Model("tips@1").versioned_resource_name.endswith("/models/tips@1")

# Lists.
aiplatform.Model.upload(display_name="other", model_id="other")
for text, expected in (
    ('labels.team="taxi"', ["tips"]),
    ("labels.team:*", ["tips"]),
    ('display_name="other"', ["other"]),
    ('displayName!="other"', ["tips"]),
    ("model=tips", ["tips"]),
    ('NOT labels:team AND display_name="other"', ["other"]),
):
    assert [model.display_name for model in aiplatform.Model.list(filter=text)] == expected, text
assert [model.name for model in aiplatform.Model.list(order_by="display_name desc")] == ["tips", "other"]

# Copies: to another region, and to a version of another model.
abroad = second.copy(destination_location="europe-west4", destination_model_id="tips-abroad")
assert (abroad.location, abroad.version_id) == ("europe-west4", "1")
copied = first.copy(destination_location=LOCATION, destination_parent_model="other")
assert (copied.name, copied.version_id, copied.version_description) == ("other", "2", "first")

# An export.
exported = first.export_model(export_format_id="custom-trained", artifact_destination=f"gs://{bucket_name}/exports")
written = exported["artifactOutputUri"].removeprefix(f"gs://{bucket_name}/")
assert bucket.blob(f"{written}/model.joblib").download_as_bytes() == Path(folder, "first/model.joblib").read_bytes()

# Evaluations.
client = aiplatform.gapic.ModelServiceClient(
    client_options={"api_endpoint": f"{LOCATION}-aiplatform.googleapis.com"}, transport=transport
)
for name, area in ((first.versioned_resource_name, 0.5), (second.versioned_resource_name, 0.75)):
    evaluation: Any = {"display_name": "on 2024", "metrics_schema_uri": SCHEMA, "metrics": {"auRoc": area}}
    client.import_model_evaluation(parent=name, model_evaluation=evaluation)
(listed,) = first.list_model_evaluations()
assert dict(listed.metrics) == {"auRoc": 0.5}
found = second.get_model_evaluation()
assert found is not None
assert found.metrics["auRoc"] == 0.75
assert aiplatform.ModelEvaluation(found.resource_name).create_time == found.create_time

# Local files, by the helpers that stage them.
by_helper = aiplatform.Model.upload_scikit_learn_model_file(
    model_file_path=f"{folder}/first/model.joblib", sklearn_version="1.6", display_name="scikit-learn"
)
assert by_helper.uri.startswith(f"gs://{project}-vertex-staging-{LOCATION}")
boosted = aiplatform.Model.upload_xgboost_model_file(
    model_file_path=f"{folder}/third.bst", xgboost_version="2.1", display_name="xgboost"
)
assert boosted.gca_resource.container_spec.image_uri.endswith("prediction/xgboost-cpu.2-1:latest")
saved = aiplatform.Model.upload_tensorflow_saved_model(
    saved_model_dir=f"{folder}/saved", tensorflow_version="2.15", display_name="tensorflow"
)
assert saved.gca_resource.container_spec.image_uri.endswith("prediction/tf2-cpu.2-15:latest")

# An endpoint with two versions.
endpoint = aiplatform.Endpoint.create(display_name="tips", labels={"team": "taxi"}, endpoint_id="tips-1")
endpoint.deploy(first, deployed_model_display_name="first", machine_type="n1-standard-2")
endpoint.deploy(second, deployed_model_display_name="second", machine_type="n1-standard-2", traffic_percentage=30)
ids = {deployed.display_name: deployed.id for deployed in endpoint.list_models()}
assert endpoint.traffic_split == {ids["first"]: 70, ids["second"]: 30}
assert {endpoint.predict([[0, 0]]).predictions[0] for _ in range(60)} == {1.0, 2.0}
endpoint.update(
    display_name="renamed", description="two versions", labels={"team": "b"}, traffic_split={ids["second"]: 100}
)
assert (endpoint.display_name, endpoint.labels) == ("renamed", {"team": "b"})
answer = endpoint.predict(instances=[[0, 0]])
assert (answer.predictions, answer.model_version_id, answer.model_resource_name) == ([2.0], "2", second.resource_name)
raw = endpoint.raw_predict(body=b'{"instances": [[0, 0]]}', headers={"Content-Type": "application/json"})
assert raw.json() == {"predictions": [2.0]}
assert [one.display_name for one in aiplatform.Endpoint.list(filter='labels.team="b"')] == ["renamed"]
for refused in (lambda: registry.delete_version("2"), second.delete, endpoint.delete):
    try:
        refused()
    except GoogleAPICallError as error:
        assert error.code == 400, error  # noqa: PT017  # a script, no test
    else:
        raise AssertionError(f"{refused} was not refused")
endpoint.undeploy(ids["first"])
endpoint.undeploy_all()
endpoint.delete()

# And away.
registry.delete_version("1")
for location in (LOCATION, "europe-west4"):
    for model in aiplatform.Model.list(location=location):
        model.delete()
    assert aiplatform.Model.list(location=location) == []
assert aiplatform.Endpoint.list() == []
print("told all is well")
