"""Value-based agents: DQN, its configuration and presets, and evaluation."""

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.presets import PRESETS, preset
from pixelq.agents.dqn import DQN
from pixelq.agents.errors import InvalidCheckpoint, InvalidConfig, InvalidRun, RunUnwritable, TrainingDiverged
from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
from pixelq.agents.experience.batches import Batch
from pixelq.agents.experience.replay import Replay
from pixelq.agents.training.options import LearnOptions

__all__ = [
    "DQN",
    "PRESETS",
    "AgentConfig",
    "Batch",
    "Evaluation",
    "InvalidCheckpoint",
    "InvalidConfig",
    "InvalidRun",
    "LearnOptions",
    "Replay",
    "RunUnwritable",
    "TrainingDiverged",
    "evaluate",
    "preset",
]
