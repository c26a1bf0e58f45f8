"""The services that a project can enable, with the titles that Google gives them.

Source: https://cloud.google.com/service-usage/docs/enabled-service and the discovery documents' titles.
"""

from __future__ import annotations

from collections.abc import Mapping

TITLES: Mapping[str, str] = {
    "aiplatform.googleapis.com": "Vertex AI API",
    "apikeys.googleapis.com": "API Keys API",
    "artifactregistry.googleapis.com": "Artifact Registry API",
    "bigquery.googleapis.com": "BigQuery API",
    "bigquerydatatransfer.googleapis.com": "BigQuery Data Transfer API",
    "bigquerystorage.googleapis.com": "BigQuery Storage API",
    "cloudapis.googleapis.com": "Google Cloud APIs",
    "cloudbuild.googleapis.com": "Cloud Build API",
    "cloudfunctions.googleapis.com": "Cloud Functions API",
    "cloudresourcemanager.googleapis.com": "Cloud Resource Manager API",
    "cloudscheduler.googleapis.com": "Cloud Scheduler API",
    "cloudtrace.googleapis.com": "Cloud Trace API",
    "compute.googleapis.com": "Compute Engine API",
    "container.googleapis.com": "Kubernetes Engine API",
    "containerregistry.googleapis.com": "Container Registry API",
    "dataflow.googleapis.com": "Dataflow API",
    "iam.googleapis.com": "Identity and Access Management (IAM) API",
    "iamcredentials.googleapis.com": "IAM Service Account Credentials API",
    "logging.googleapis.com": "Cloud Logging API",
    "monitoring.googleapis.com": "Cloud Monitoring API",
    "notebooks.googleapis.com": "Notebooks API",
    "pubsub.googleapis.com": "Cloud Pub/Sub API",
    "run.googleapis.com": "Cloud Run Admin API",
    "secretmanager.googleapis.com": "Secret Manager API",
    "servicemanagement.googleapis.com": "Service Management API",
    "serviceusage.googleapis.com": "Service Usage API",
    "sourcerepo.googleapis.com": "Cloud Source Repositories API",
    "storage-api.googleapis.com": "Google Cloud Storage JSON API",
    "storage-component.googleapis.com": "Cloud Storage",
    "storage.googleapis.com": "Cloud Storage API",
    "sts.googleapis.com": "Security Token Service API",
}
#: On in a new project here, so that a first call is not refused for want of an enabled API: everything that the
#: loop calls. A new project of Google's has the part of them that concerns storage, logging and monitoring.
ENABLED_AT_FIRST = frozenset(TITLES) - {
    "cloudfunctions.googleapis.com", "compute.googleapis.com", "container.googleapis.com",
    "containerregistry.googleapis.com", "dataflow.googleapis.com", "notebooks.googleapis.com", "run.googleapis.com",
}  # fmt: skip
