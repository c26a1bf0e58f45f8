"""Pipelines as people write them for Vertex AI, unchanged."""
