"""A script as people write them for Vertex AI: nothing in it knows of an emulator.

python own_script.py PROJECT BUCKET PACKAGE DATA grpc|rest
"""

from __future__ import annotations

import json
import sys
from typing import Any

from google.cloud import aiplatform, storage

project, bucket_name, package, data, transport = sys.argv[1:]

client = storage.Client(project=project)
bucket = client.create_bucket(bucket_name, location="us-central1")
for name, file in (("trainer.tar.gz", package), ("trips.csv", data)):
    bucket.blob(name).upload_from_filename(file)

aiplatform.init(project=project, location="us-central1", staging_bucket=f"gs://{bucket_name}", api_transport=transport)
training = aiplatform.CustomPythonPackageTrainingJob(
    display_name="tips",
    python_package_gcs_uri=f"gs://{bucket_name}/trainer.tar.gz",
    python_module_name="ml.taxi_tips.train",
    container_uri="us-docker.pkg.dev/vertex-ai/training/sklearn-cpu.1-6:latest",
    model_serving_container_image_uri="us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-6:latest",
)
model = training.run(
    args=["--data", f"gs://{bucket_name}/trips.csv"],
    model_display_name="tips",
    model_labels={"team": "a"},
    replica_count=1,
    machine_type="n1-standard-4",
)
assert model is not None
endpoint: Any = model.deploy(machine_type="n1-standard-2", min_replica_count=1, max_replica_count=1)
answer = endpoint.predict(instances=[[7, 20, 375, 1.6, 141, 233], [2, 23, 1984, 19.9, 142, 117]])
listed = [found.resource_name for found in aiplatform.Model.list(filter='display_name="tips"')]
told = {
    "predictions": answer.predictions,
    "version": answer.model_version_id,
    "listed": listed == [model.resource_name],
    "labels": dict(model.labels),
    "uri": model.uri,
}
endpoint.delete(force=True)
model.delete()
told["left"] = len(aiplatform.Model.list()) + len(aiplatform.Endpoint.list())
print("told " + json.dumps(told))
