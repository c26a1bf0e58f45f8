"""Kubeflow pipelines of the models. They need kfp; what their steps run is in the models' own packages."""
