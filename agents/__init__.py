"""Value-based agents: DQN, its configuration and presets, and evaluation."""

from pixelq.agents.checkpoint import InvalidCheckpoint
from pixelq.agents.config import AgentConfig, InvalidConfig
from pixelq.agents.dqn import DQN
from pixelq.agents.evaluation import Evaluation, evaluate
from pixelq.agents.options import LearnOptions, RunUnwritable, TrainingDiverged
from pixelq.agents.presets import PRESETS, preset
from pixelq.agents.replay import Replay
from pixelq.agents.run_log import InvalidRun
from pixelq.agents.windows import Batch

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
