"""The collections that Vertex AI keeps."""

from __future__ import annotations

from selfloop_apis import aiplatform_v1

from emulator.core.state import Collection, Database


class AiplatformState:
    """Resources by full name, with the project's number in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.custom_jobs = Collection(database, aiplatform_v1.CustomJob)
        self.tuning_jobs = Collection(database, aiplatform_v1.HyperparameterTuningJob)
        self.pipeline_jobs = Collection(database, aiplatform_v1.PipelineJob)
        self.schedules = Collection(database, aiplatform_v1.Schedule)
        self.training_pipelines = Collection(database, aiplatform_v1.TrainingPipeline)
        self.persistent_resources = Collection(database, aiplatform_v1.PersistentResource)
        self.datasets = Collection(database, aiplatform_v1.Dataset)
        self.endpoints = Collection(database, aiplatform_v1.Endpoint)
        self.model_evaluations = Collection(database, aiplatform_v1.ModelEvaluation)
        self.model_evaluation_slices = Collection(database, aiplatform_v1.ModelEvaluationSlice)
