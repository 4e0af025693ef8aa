"""Section "What the network sees": first filters, feature maps and saliency at chosen moments, and a map of states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.acting.policy import Policy
from pixelq.agents.insight.activations import feature_maps, first_filters
from pixelq.agents.insight.recording import RecordedEpisode
from pixelq.agents.insight.saliency import Saliency, saliency
from pixelq.agents.insight.state_map import LEAST_STATES, map_states
from pixelq.agents.report.page import Section
from pixelq.agents.report.pictures import data_uri, grey, grid, heat, sheet, shrunk, signed_grey
from pixelq.agents.results.formatting import format_score, format_signed
from pixelq.envs import is_atari
from pixelq.networks.encoders import image_layout

NAME = "inside"
MOST_MAPS = 64
"""Greatest number of feature maps that are shown of a layer."""
COLUMNS = 8
"""Columns of a grid of feature maps."""
THUMBNAILS = 12
"""Greatest number of states of the map that have a thumbnail."""
TALLEST = 105
"""Height of a state's picture on the sheet in pixels, half an Atari screen."""
SHEET_COLUMNS = 25
"""Columns of the sheet with the pictures of all states."""


@dataclass(frozen=True)
class Moment:
    """State of an episode that the page shows in detail."""

    index: int
    """Index among the S states of the recording."""
    why: str
    """Reasons for which it was chosen, for readers."""


def inside_section(policy: Policy, episode: RecordedEpisode) -> Section:
    """Return the section about what a policy's network computes in the states of an episode."""
    is_image = len(policy.observation_space.shape) in (2, 3)
    is_stack = is_atari(policy.env_id or "") and policy.observation_space.shape[0] > 1
    states = len(episode.states)
    moments = chosen_moments(episode) if is_image else []
    values = {
        "is_image": is_image,
        "is_stack": is_stack,
        "filters": _filters(policy),
        "moments": [_describe_moment(policy, episode, moment) for moment in moments],
        "palette": data_uri(heat(np.linspace(0, 1, 128)[None])),
        "states": states,
        "apart": int(episode.states[1]) if states > 1 else 1,
        "least_states": LEAST_STATES,
    }
    return Section(NAME, "What the network sees", values, None if states < LEAST_STATES else _map(policy, episode))


def chosen_moments(episode: RecordedEpisode) -> list[Moment]:
    """Return the moments of an episode to show, in its order, each with all reasons for which it was chosen."""
    states, rewards = episode.states, episode.rewards
    values, gaps = episode.values[states], episode.gaps[states]  # [S]
    reasons: dict[int, list[str]] = {}

    def choose(index: Any, why: str) -> None:
        reasons.setdefault(int(index), []).append(why)

    def last_state_before(step: Any) -> Any:
        return np.searchsorted(states, step, "right") - 1

    choose(values.argmax(), "the highest value")
    choose(values.argmin(), "the lowest value")
    if rewards.max() > max(0.0, rewards.min()):
        choose(last_state_before(rewards.argmax()), f"before the greatest reward, {format_signed(rewards.max())}")
    if rewards.min() < 0:
        choose(last_state_before(rewards.argmin()), f"before the lowest reward, {format_signed(rewards.min())}")
    if episode.q_values.shape[1] > 1:
        choose(gaps.argmax(), "the clearest choice, with the widest gap between the two best actions")
    return [Moment(index, "; ".join(reasons[index])) for index in sorted(reasons)]


def channels_of(observation: NDArray[Any]) -> NDArray[Any]:
    """Return the channels [C, H, W] of an image of any layout; the oldest frame of a stack comes first."""
    match image_layout(observation.shape):
        case "HW":
            return observation[None]
        case "HWC":
            return np.moveaxis(observation, -1, 0)
        case "CHW":
            return observation


def _filters(policy: Policy) -> list[str]:
    """Return a picture of each filter of the first layer: its channels in a column, in grey with its own scale."""
    return [data_uri(grid(signed_grey(weights), 1)) for weights in first_filters(policy)[:MOST_MAPS]]


def _describe_moment(policy: Policy, episode: RecordedEpisode, moment: Moment) -> dict[str, Any]:
    """Return the values that the template shows of a moment."""
    step, observation = int(episode.states[moment.index]), episode.observations[moment.index]
    inputs = grey(channels_of(observation))
    memory = None if episode.memories is None else episode.memories[moment.index]
    allowed = ~np.isneginf(episode.q_values[step])
    found = saliency(policy, observation, memory, allowed if allowed.any() else None)  # none: a network that diverged
    assert found is not None  # the observation is an image
    action = int(episode.actions[step])
    return {
        "step": step,
        "why": moment.why,
        "value": _digits(episode.q_values[step].max()),
        "action": episode.action_names[action],
        "picture": data_uri(episode.pictures[moment.index]),
        "inputs": [data_uri(channel) for channel in inputs],
        "newest": data_uri(inputs[-1]),
        "saliency": _heats(found),
        "layers": [
            {
                "name": layer.name,
                "count": len(layer.maps),
                "size": "×".join(map(str, layer.maps.shape[1:])),
                "shown": min(len(layer.maps), MOST_MAPS),
                "grid": data_uri(grid(np.stack([grey(one) for one in layer.maps[:MOST_MAPS]]), COLUMNS)),
            }
            for layer in feature_maps(policy, observation)
        ],
    }


def _heats(found: Saliency) -> list[dict[str, Any]]:
    """Return heat maps of the saliency of the value and of all q-values, for an overlay on the newest frame."""
    heats = []
    for name, called, values in (("value", "the value", found.value), ("q", "all q-values", found.q_values)):
        row, column = np.unravel_index(values.argmax(), values.shape)
        where = f"strongest at row {row} and column {column} of {'×'.join(map(str, values.shape))}"
        heats.append(
            {
                "name": name,
                "called": called,
                "heat": data_uri(heat(values)),
                "most": _digits(values.max()),
                "where": where if values.max() > 0 else "nowhere",
            }
        )
    return heats


def _map(policy: Policy, episode: RecordedEpisode) -> dict[str, Any]:
    """Return the map of states as JSON values, with a sheet of all their pictures."""
    thumbnails = min(THUMBNAILS, len(episode.states) // 4)
    found = map_states(policy, episode.observations, episode.memories, thumbnails=thumbnails)
    pictures = shrunk(episode.pictures, TALLEST)
    return {
        "x": np.round(found.positions[:, 0], 3).tolist(),
        "y": np.round(found.positions[:, 1], 3).tolist(),
        # As played: the map's own values are the greatest of all actions, also of forbidden ones
        "values": [float(f"{value:.6g}") for value in episode.values[episode.states]],
        "steps": episode.states.tolist(),
        "representatives": found.representatives.tolist(),
        "sheet": data_uri(sheet(pictures, SHEET_COLUMNS), ".jpg"),
        "columns": SHEET_COLUMNS,
        "height": pictures.shape[1],
        "width": pictures.shape[2],
    }


def _digits(value: Any) -> str:
    """Return a number as text with three significant digits, or as a score from a thousand on."""
    return f"{float(value):.3g}".replace("-", "−") if abs(value) < 1000 else format_score(float(value))
