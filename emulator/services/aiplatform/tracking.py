"""Builds the services that keep track of things: MetadataService, TensorboardService."""

from __future__ import annotations

from emulator.core.clock import Clock
from emulator.core.operations import Operations
from emulator.core.projects import Projects
from emulator.core.service import GapicService
from emulator.core.state import Database
from emulator.services.aiplatform.metadata.graph import MetadataGraph
from emulator.services.aiplatform.metadata_service import MetadataService
from emulator.services.aiplatform.tensorboard_service import TensorboardService
from emulator.services.aiplatform.tensorboards.tree import Tensorboards


class Tracking:
    """The graph of metadata, and the services that clients see."""

    def __init__(self, *, database: Database, clock: Clock, projects: Projects, operations: Operations) -> None:
        self.graph = MetadataGraph(database, clock)
        """in which jobs, pipelines and models write down what they did"""
        self.services: list[GapicService] = [
            MetadataService(graph=self.graph, projects=projects, operations=operations),
            TensorboardService(tree=Tensorboards(database, clock, projects), projects=projects, operations=operations),
        ]
