"""What a run's config.json says."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gymnasium.vector import VectorEnv

from pixelq.agents.training.options import LearnOptions

if TYPE_CHECKING:
    from pixelq.agents.dqn import DQN


def describe(
    agent: DQN, envs: VectorEnv, options: LearnOptions, last_step: int, resumed: list[dict[str, Any]]
) -> dict[str, Any]:
    """A run up to ``last_step`` as JSON values; ``resumed`` says for each time whether it went on exactly."""
    return {
        "version": version("pixelq"),
        "env": agent.env_id,
        "protocol": agent.protocol,
        "flicker": agent.flicker,
        "num_envs": envs.num_envs,
        "seed": agent.seed,
        "steps": last_step,
        "evaluate_every": options.evaluate_every,
        "evaluation_episodes": options.evaluation_episodes,
        "checkpoint_every": options.checkpoint_every,
        "keep": options.keep,
        "log_every": options.log_every,
        "device": str(agent.device),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "agent": agent.config.to_dict(),
        "hardware": hardware(agent.device),
        **options.description,
        "resumed": resumed,
    }


def cpu_name() -> str:
    """What the processor calls itself."""
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].split(":", 1)[1].strip()
    return platform.processor()


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run's speed depends on, as JSON values."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def arithmetic(device: torch.device) -> dict[str, str | int]:
    """What the same numbers come from, beside the program: sums are rounded in the order in which they are made."""
    if device.type == "cpu":
        processor = f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"
        return {
            "device": "cpu",
            "processor": processor,
            "PyTorch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    return {
        "device": torch.cuda.get_device_name(device),
        "PyTorch": torch.__version__,
        "deterministic": is_deterministic,
    }
