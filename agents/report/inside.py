"""What the network sees: its first filters, what layers answer to chosen moments, where it looks, all its states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.dqn import DQN
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
MOST_MAPS = 64  # of a layer
COLUMNS = 8
THUMBNAILS = 12
TALLEST = 105  # pixels of a state's picture on the sheet; half an Atari screen
SHEET_COLUMNS = 25


@dataclass(frozen=True)
class Moment:
    """A state of an episode worth a look."""

    index: int
    """Among the S states of the recording."""
    why: str


def inside_section(agent: DQN, episode: RecordedEpisode) -> Section:
    """The section of what an agent's network computes in the states of an episode."""
    is_image = len(agent.observation_space.shape or ()) in (2, 3)
    is_stack = is_atari(agent.env_id or "") and agent.observation_space.shape[0] > 1
    states = len(episode.states)
    values = {
        "is_image": is_image,
        "is_stack": is_stack,
        "filters": _filters(agent),
        "moments": [_look(agent, episode, moment) for moment in chosen_moments(episode)] if is_image else [],
        "palette": data_uri(heat(np.linspace(0, 1, 128)[None])),
        "states": states,
        "apart": int(episode.states[1]) if states > 1 else 1,
        "least_states": LEAST_STATES,
    }
    return Section(NAME, "What the network sees", values, None if states < LEAST_STATES else _map(agent, episode))


def chosen_moments(episode: RecordedEpisode) -> list[Moment]:
    """Moments in the order of the episode, each with all reasons for which it was chosen."""
    states, rewards = episode.states, episode.rewards
    q = np.sort(episode.q_values[states], 1)  # [S, A], rising
    reasons: dict[int, list[str]] = {}

    def choose(index: Any, why: str) -> None:
        reasons.setdefault(int(index), []).append(why)

    def before(step: Any) -> Any:
        return np.searchsorted(states, step, "right") - 1

    choose(q[:, -1].argmax(), "the highest value")
    choose(q[:, -1].argmin(), "the lowest value")
    if rewards.max() > max(0.0, rewards.min()):
        choose(before(rewards.argmax()), f"before the greatest reward, {format_signed(rewards.max())}")
    if rewards.min() < 0:
        choose(before(rewards.argmin()), f"before the lowest reward, {format_signed(rewards.min())}")
    if q.shape[1] > 1:
        choose((q[:, -1] - q[:, -2]).argmax(), "the clearest choice: one action stands out most")
    return [Moment(index, "; ".join(reasons[index])) for index in sorted(reasons)]


def channels_of(observation: NDArray[Any]) -> NDArray[Any]:
    """The channels [C, H, W] of an image of any layout; of a stack the oldest frame first."""
    match image_layout(observation.shape):
        case "HW":
            return observation[None]
        case "HWC":
            return np.moveaxis(observation, -1, 0)
        case "CHW":
            return observation


def _filters(agent: DQN) -> list[str]:
    """Each filter of the first convolution as a column of its channels, in grey of its own."""
    return [data_uri(grid(signed_grey(weights), 1)) for weights in first_filters(agent)[:MOST_MAPS]]


def _look(agent: DQN, episode: RecordedEpisode, moment: Moment) -> dict[str, Any]:
    """What the page shows of a moment."""
    step, observation = int(episode.states[moment.index]), episode.observations[moment.index]
    inputs = grey(channels_of(observation))
    found = saliency(agent, observation, None if episode.memories is None else episode.memories[moment.index])
    assert found is not None  # it is an image
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
                "grid": data_uri(grid(grey(layer.maps[:MOST_MAPS]), COLUMNS)),
            }
            for layer in feature_maps(agent, observation)
        ],
    }


def _heats(found: Saliency) -> list[dict[str, Any]]:
    """Saliency of the value and of the q-values, to lie over the newest frame."""
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


def _map(agent: DQN, episode: RecordedEpisode) -> dict[str, Any]:
    """The map of states as JSON values, with a sheet of all their pictures."""
    thumbnails = min(THUMBNAILS, len(episode.states) // 4)
    found = map_states(agent, episode.observations, episode.memories, thumbnails=thumbnails)
    pictures = shrunk(episode.pictures, TALLEST)
    return {
        "x": np.round(found.positions[:, 0], 3).tolist(),
        "y": np.round(found.positions[:, 1], 3).tolist(),
        "values": [float(f"{value:.6g}") for value in found.values],
        "steps": episode.states.tolist(),
        "representatives": found.representatives.tolist(),
        "sheet": data_uri(sheet(pictures, SHEET_COLUMNS), ".jpg"),
        "columns": SHEET_COLUMNS,
        "height": pictures.shape[1],
        "width": pictures.shape[2],
    }


def _digits(value: Any) -> str:
    """Three digits that count."""
    return f"{float(value):.3g}".replace("-", "−") if abs(value) < 1000 else format_score(float(value))
