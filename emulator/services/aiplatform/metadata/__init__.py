"""Vertex ML Metadata: what was made of what, by which execution, in which context."""
