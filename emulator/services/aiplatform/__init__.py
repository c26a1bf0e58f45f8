"""Vertex AI, `{region}-aiplatform.googleapis.com`. README.md says what is faithful."""
