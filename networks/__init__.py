"""Networks for value-based reinforcement learning: encoders, LSTM and value heads. They need PyTorch only."""

from pixelq.networks.action_masks import among_allowed
from pixelq.networks.activations import Activation
from pixelq.networks.base import DrawnFrom, Encoder, Init, pixels_to_float
from pixelq.networks.categorical import CategoricalHead, CategoricalLoss
from pixelq.networks.cnn import CompactCNN, DataEfficientCNN, ImpalaCNN, MinAtarCNN, NatureCNN
from pixelq.networks.encoders import make_encoder
from pixelq.networks.hadamax import HadamaxCNN
from pixelq.networks.heads import HeadLoss, ScalarHead, ScalarTargetHead, Target, ValueHead
from pixelq.networks.implicit import FractionHead, ImplicitHead, QuantileFunction
from pixelq.networks.lstm import LSTM, LSTMState
from pixelq.networks.mlp import MLP
from pixelq.networks.noisy import NoisyLinear
from pixelq.networks.norms import ChannelNorm, LayerNorm
from pixelq.networks.q_network import LastStep, QNetwork
from pixelq.networks.quantile import QuantileHead
from pixelq.networks.streams import ActionStreams, Noise

__all__ = [
    "LSTM",
    "MLP",
    "ActionStreams",
    "Activation",
    "CategoricalHead",
    "CategoricalLoss",
    "ChannelNorm",
    "CompactCNN",
    "DataEfficientCNN",
    "DrawnFrom",
    "Encoder",
    "FractionHead",
    "HadamaxCNN",
    "HeadLoss",
    "ImpalaCNN",
    "ImplicitHead",
    "Init",
    "LSTMState",
    "LastStep",
    "LayerNorm",
    "MinAtarCNN",
    "NatureCNN",
    "Noise",
    "NoisyLinear",
    "QNetwork",
    "QuantileFunction",
    "QuantileHead",
    "ScalarHead",
    "ScalarTargetHead",
    "Target",
    "ValueHead",
    "among_allowed",
    "make_encoder",
    "pixels_to_float",
]
