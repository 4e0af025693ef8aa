"""Vector environments as NumPy arrays: Atari on ale_py's native vector environment, and other Gymnasium ids."""

from pixelq.envs.atari import AtariVec
from pixelq.envs.atari_single import AtariGames
from pixelq.envs.catch import Catch
from pixelq.envs.errors import EnvironmentFailed, InvalidEnv
from pixelq.envs.film import FilmedAtari
from pixelq.envs.games import ATARI5, ATARI26, ATARI57, REFERENCE_SCORES, human_normalized_score, reference_score
from pixelq.envs.gymnasium_vec import GymnasiumVec
from pixelq.envs.ids import check_imported, id_of, is_atari
from pixelq.envs.interface import (
    BackgroundStepping,
    Restartable,
    Restorable,
    background_stepping,
    env_id,
    frame_stack_of,
    frames_per_step,
    protocol_of,
    restartable,
    restorable,
)
from pixelq.envs.make import make_filmed, make_vec
from pixelq.envs.masking import MaskObservation
from pixelq.envs.memory_tasks import RepeatPrevious, TMaze
from pixelq.envs.named import import_module
from pixelq.envs.observed import Preparation
from pixelq.envs.protocols import GYMNASIUM, PROTOCOLS, Protocol, resolve_protocol, split_rules, with_flicker
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
    "AtariGames",
    "AtariVec",
    "BackgroundStepping",
    "Catch",
    "EnvironmentFailed",
    "FilmedAtari",
    "GymnasiumVec",
    "InvalidEnv",
    "MaskObservation",
    "Preparation",
    "Protocol",
    "PublishedCurve",
    "RepeatPrevious",
    "Restartable",
    "Restorable",
    "TMaze",
    "background_stepping",
    "check_imported",
    "env_id",
    "frame_stack_of",
    "frames_per_step",
    "has_published_rules",
    "human_normalized_score",
    "id_of",
    "import_module",
    "is_atari",
    "make_filmed",
    "make_vec",
    "protocol_of",
    "published_curve",
    "reference_score",
    "resolve_protocol",
    "restartable",
    "restorable",
    "split_rules",
    "with_flicker",
]
