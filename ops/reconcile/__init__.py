"""Desired state and live state of each kind of resource, the plan between them, and what carries it out."""
