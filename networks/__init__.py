"""Networks for value-based reinforcement learning: encoders, memory and value heads. Torch only."""

from pixelq.networks.base import Encoder
from pixelq.networks.cnn import ImpalaCNN, MinAtarCNN, NatureCNN
from pixelq.networks.encoders import make_encoder
from pixelq.networks.heads import ScalarHead, ValueHead
from pixelq.networks.lstm import LSTM, LSTMState
from pixelq.networks.mlp import MLP
from pixelq.networks.q_network import QNetwork

__all__ = [
    "LSTM",
    "MLP",
    "Encoder",
    "ImpalaCNN",
    "LSTMState",
    "MinAtarCNN",
    "NatureCNN",
    "QNetwork",
    "ScalarHead",
    "ValueHead",
    "make_encoder",
]
