"""Value-based agents: DQN, PQN and their family, their configuration and presets, and evaluation.

Configurations, presets and errors are imported at once. What computes with PyTorch is imported when it is first used:
PyTorch takes seconds to load, and a command line is read without it.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pixelq.agents.config.agent_config import AgentConfig
from pixelq.agents.config.parts import register_encoder, register_head, register_target
from pixelq.agents.config.presets import PRESETS, preset
from pixelq.agents.config.schedules import Constant, Cosine, Exponential, Linear, Piecewise
from pixelq.agents.errors import (
    CallbackFailed,
    InvalidCheckpoint,
    InvalidConfig,
    InvalidRun,
    InvalidSpec,
    MissingExtra,
    RunFailed,
    RunUnwritable,
    TrainingDiverged,
    UserError,
)

if TYPE_CHECKING:
    from pixelq.agents.acting.policy import Policy
    from pixelq.agents.agent import Agent
    from pixelq.agents.distributed.actor_envs import ActorEnvs
    from pixelq.agents.distributed.folder import sweep_status
    from pixelq.agents.distributed.study import TuneOptions
    from pixelq.agents.distributed.sweep import LaunchOptions, sweep
    from pixelq.agents.distributed.tune import tune
    from pixelq.agents.distributed.tune_folder import TrialState, TuneStatus, tune_status
    from pixelq.agents.dqn import DQN
    from pixelq.agents.evaluation.evaluate import Evaluation, evaluate
    from pixelq.agents.experience.batches import Batch
    from pixelq.agents.experience.replay import Replay
    from pixelq.agents.kinds import load
    from pixelq.agents.learning.own_targets import TargetInputs
    from pixelq.agents.pqn import PQN
    from pixelq.agents.training.callbacks import Callback, Training
    from pixelq.agents.training.ranks import Ranks
    from pixelq.agents.training.stopping import StopAfter, StopAtScore, StopWithoutProgress
    from pixelq.agents.training.trackers.mlflow_tracker import MlflowTracker
    from pixelq.agents.training.trackers.tracker import Tracker
    from pixelq.agents.training.trackers.trackio_tracker import TrackioTracker
    from pixelq.agents.training.trackers.wandb_tracker import WandbTracker

__all__ = [
    "DQN",
    "PQN",
    "PRESETS",
    "ActorEnvs",
    "Agent",
    "AgentConfig",
    "Batch",
    "Callback",
    "CallbackFailed",
    "Constant",
    "Cosine",
    "Evaluation",
    "Exponential",
    "InvalidCheckpoint",
    "InvalidConfig",
    "InvalidRun",
    "InvalidSpec",
    "LaunchOptions",
    "Linear",
    "MissingExtra",
    "MlflowTracker",
    "Piecewise",
    "Policy",
    "Ranks",
    "Replay",
    "RunFailed",
    "RunUnwritable",
    "StopAfter",
    "StopAtScore",
    "StopWithoutProgress",
    "TargetInputs",
    "Tracker",
    "TrackioTracker",
    "Training",
    "TrainingDiverged",
    "TrialState",
    "TuneOptions",
    "TuneStatus",
    "UserError",
    "WandbTracker",
    "__version__",
    "evaluate",
    "load",
    "preset",
    "register_encoder",
    "register_head",
    "register_target",
    "sweep",
    "sweep_status",
    "tune",
    "tune_status",
]

__version__ = version("pixelq")

_IMPORTED_LATE = {
    "ActorEnvs": "distributed.actor_envs",
    "Agent": "agent",
    "Batch": "experience.batches",
    "Callback": "training.callbacks",
    "DQN": "dqn",
    "Evaluation": "evaluation.evaluate",
    "LaunchOptions": "distributed.sweep",
    "MlflowTracker": "training.trackers.mlflow_tracker",
    "PQN": "pqn",
    "Policy": "acting.policy",
    "Ranks": "training.ranks",
    "Replay": "experience.replay",
    "StopAfter": "training.stopping",
    "StopAtScore": "training.stopping",
    "StopWithoutProgress": "training.stopping",
    "TargetInputs": "learning.own_targets",
    "Tracker": "training.trackers.tracker",
    "TrackioTracker": "training.trackers.trackio_tracker",
    "Training": "training.callbacks",
    "TrialState": "distributed.tune_folder",
    "TuneOptions": "distributed.study",
    "TuneStatus": "distributed.tune_folder",
    "WandbTracker": "training.trackers.wandb_tracker",
    "evaluate": "evaluation.evaluate",
    "load": "kinds",
    "sweep": "distributed.sweep",
    "sweep_status": "distributed.folder",
    "tune": "distributed.tune",
    "tune_status": "distributed.tune_folder",
}
"""Module of each name that needs PyTorch; the imports above tell type checkers the same."""


def __getattr__(name: str) -> Any:
    if name == "sharing":  # a room of which people use the functions
        return importlib.import_module(f"{__name__}.sharing")
    if name not in _IMPORTED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_IMPORTED_LATE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
