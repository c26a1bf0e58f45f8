"""A prebuilt prediction container's server, as a program.

    python …/model_server --framework sklearn|xgboost --model DIR --socket PATH

It runs inside a sandbox under the interpreter of the image's environment (any Python from 3.9), which has the
framework and nothing of the emulator. It keeps to the container contract's health and predict routes, and to
the answers of Google's own containers. It listens on a Unix socket, because a sandbox's network is its own.
Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""
