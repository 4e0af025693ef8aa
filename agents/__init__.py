"""Value-based agents: DQN and its family, their configuration and presets, and evaluation."""

from importlib.metadata import version

from pixelq.agents.acting.policy import Policy
from pixelq.agents.agent import Agent
from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS, preset
from pixelq.agents.dqn import DQN
from pixelq.agents.errors import (
    InvalidCheckpoint,
    InvalidConfig,
    InvalidRun,
    RunFailed,
    RunUnwritable,
    TrainingDiverged,
    UserError,
)
from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
from pixelq.agents.experience.batches import Batch
from pixelq.agents.experience.replay import Replay

__all__ = [
    "DQN",
    "PRESETS",
    "Agent",
    "AgentConfig",
    "Batch",
    "Evaluation",
    "InvalidCheckpoint",
    "InvalidConfig",
    "InvalidRun",
    "Policy",
    "Replay",
    "RunFailed",
    "RunUnwritable",
    "TrainingDiverged",
    "UserError",
    "__version__",
    "evaluate",
    "preset",
]

__version__ = version("pixelq")
