"""Training code: plain Python that runs on a laptop, in a job and in a notebook alike.

Nothing here knows Google Cloud: arguments and `AIP_*` variables come in, `model.joblib` and
`metrics.json` go out. It runs on Python 3.10, the version of the prebuilt training image.
"""
