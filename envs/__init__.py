"""Environments as numpy arrays: Atari on ale_py's native vector environment, and any small Gymnasium id."""

from pixelq.envs.atari import AtariVec
from pixelq.envs.catch import Catch
from pixelq.envs.errors import EnvironmentFailed, InvalidEnv
from pixelq.envs.film import FilmedAtari
from pixelq.envs.games import ATARI5, ATARI26, ATARI57, REFERENCE_SCORES, human_normalized_score, reference_score
from pixelq.envs.gymnasium_vec import ClassicVec
from pixelq.envs.ids import id_of, is_atari
from pixelq.envs.interface import fact
from pixelq.envs.make import make_filmed, make_vec
from pixelq.envs.masking import MaskObservation
from pixelq.envs.memory_tasks import RepeatPrevious, TMaze
from pixelq.envs.protocols import GYMNASIUM, PROTOCOLS, Protocol
from pixelq.envs.published import (
    PUBLISHED_AGENTS,
    PUBLISHED_SOURCE,
    PublishedCurve,
    has_published_rules,
    published_curve,
)

__all__ = [
    "ATARI5",
    "ATARI26",
    "ATARI57",
    "GYMNASIUM",
    "PROTOCOLS",
    "PUBLISHED_AGENTS",
    "PUBLISHED_SOURCE",
    "REFERENCE_SCORES",
    "AtariVec",
    "Catch",
    "ClassicVec",
    "EnvironmentFailed",
    "FilmedAtari",
    "InvalidEnv",
    "MaskObservation",
    "Protocol",
    "PublishedCurve",
    "RepeatPrevious",
    "TMaze",
    "fact",
    "has_published_rules",
    "human_normalized_score",
    "id_of",
    "is_atari",
    "make_filmed",
    "make_vec",
    "published_curve",
    "reference_score",
]
