"""Sharing: policies as files of other programs, on the Hugging Face Hub, and to and from stable-baselines3."""

from pixelq.agents.sharing.export import Difference, export, export_onnx

__all__ = ["Difference", "export", "export_onnx"]
