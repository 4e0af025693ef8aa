"""Sharing: policies as files of other programs, on the Hugging Face Hub, and to and from stable-baselines3."""

from pixelq.agents.sharing.export import Difference, export, export_onnx
from pixelq.agents.sharing.sb3 import load_sb3, save_sb3

__all__ = ["Difference", "export", "export_onnx", "load_sb3", "save_sb3"]
