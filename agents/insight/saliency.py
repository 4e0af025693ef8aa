"""Saliency of a policy: how much its values change when a part of the image is blurred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pixelq.agents.acting.memory import Memory, joined
from pixelq.agents.acting.policy import Policy
from pixelq.networks.encoders import image_layout

BATCH = 64
"""Perturbed images in one forward pass."""
BLUR = 3.0
"""Standard deviation σ_A of the paper's blur, in pixels."""
STRIDE, MASK = 5, 5.0
"""Distance between the points of the paper's grid, and standard deviation of its masks, in pixels."""
SMALL = 36
"""Images with a side below this have a stride of 1 and masks with σ = 1."""
TRUNCATE = 4.0
"""Standard deviations at which a Gaussian is cut off."""


@dataclass(frozen=True)
class Saliency:
    """Change of the values at one observation when the image is blurred around each pixel."""

    value: NDArray[np.float32]
    """[height, width], ½ (V − V')² with V the greatest q-value, in squared units of the return."""
    q_values: NDArray[np.float32]
    """[height, width], ½ ‖Q − Q'‖², summed over the allowed actions."""


def saliency(
    policy: Policy, obs: NDArray[Any], memory: Memory | None = None, action_mask: NDArray[np.bool_] | None = None
) -> Saliency | None:
    """Return the saliency by perturbation at one observation; None if the observation is not an image.

    Follows Greydanus et al. (2018), "Visualizing and Understanding Atari Agents", equations 1 to 3: at each point of a
    grid with stride 5, the image I becomes I ⊙ (1 − M) + A ⊙ M, where A is the image blurred with σ = 3 and M a
    Gaussian mask with σ = 5 around the point, which is 1 at its centre. All channels, and so all frames of a stack, are
    blurred alike. Q-values take the place of the logits of the paper's policy. Between the points the map is
    interpolated linearly. Images with a side below 36 pixels have stride 1 and masks with σ = 1.

    Args:
        policy: The policy whose values are compared.
        obs: One observation [*observation].
        memory: LSTM state before the observation, which is left unchanged; None if it is the first of an episode.
        action_mask: Whether each action is allowed, [A], at least one; the others count for nothing. None allows all.

    Raises:
        ValueError: If the observation does not fit the observation space, or is a batch, or the mask is not of the
            policy's actions or allows none.
    """
    shape = policy.observation_space.shape
    if np.shape(obs) != shape:
        raise ValueError(f"the observation must have shape {shape}, got {np.shape(obs)}")
    allowed = np.ones(policy.num_actions, np.bool_) if action_mask is None else np.asarray(action_mask, np.bool_)
    if allowed.shape != (policy.num_actions,) or not allowed.any():
        raise ValueError(f"action_mask must allow at least one of {policy.num_actions} actions, got {action_mask}")
    if len(shape) not in (2, 3):
        return None
    channels = _channels_first(obs)  # [C, H, W]
    height, width = channels.shape[1:]
    stride, sigma = (STRIDE, MASK) if min(height, width) >= SMALL else (1, 1.0)
    blurred = gaussian_blur(channels, BLUR)
    rows, columns = range(0, height, stride), range(0, width, stride)
    points = [(row, column) for row in rows for column in columns]
    changes = []
    for start in range(0, len(points), BATCH):
        masks = torch.stack([gaussian_mask(height, width, *point, sigma) for point in points[start : start + BATCH]])
        perturbed = channels + (blurred - channels) * masks.unsqueeze(1)  # [B, C, H, W]
        # The image itself is in every batch: the size of a batch may change the rounding of its values.
        images = _observations(torch.cat([channels[None], perturbed]), obs)
        q = policy.q_values(images, None if memory is None else joined([memory] * len(images))).cpu()
        q = q[:, torch.from_numpy(allowed)]  # [1 + B, A], without the values of forbidden actions
        value = q.max(1).values
        changes.append(torch.stack([(value[1:] - value[0]).square(), (q[1:] - q[0]).square().sum(1)]) / 2)
    grid = torch.cat(changes, 1).view(2, len(rows), len(columns))
    of_value, of_q = _upsampled(grid, stride, height, width).numpy()
    return Saliency(of_value, of_q)


def gaussian_mask(height: int, width: int, row: int, column: int, sigma: float) -> Tensor:
    """Return exp(−d² / 2σ²) [height, width], where d is the distance to the pixel at `row` and `column`."""
    down = (torch.arange(height) - row).square().unsqueeze(1)
    across = (torch.arange(width) - column).square()
    return torch.exp(-(down + across) / (2 * sigma**2))


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Return images [C, H, W] blurred with a Gaussian that is cut off at 4σ; edge pixels are repeated outwards."""
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(images.unsqueeze(1), (radius,) * 4, mode="replicate")  # [C, 1, H + 2r, W + 2r]
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).squeeze(1)


def _channels_first(obs: NDArray[Any]) -> Tensor:
    """Return an observation of any layout as float32 [C, H, W]."""
    image = torch.from_numpy(np.asarray(obs, np.float32))
    match image_layout(image.shape):
        case "HW":
            return image.unsqueeze(0)
        case "HWC":
            return image.permute(2, 0, 1)
        case "CHW":
            return image


def _observations(images: Tensor, like: NDArray[Any]) -> NDArray[Any]:
    """Return images float32 [B, C, H, W] as observations with the layout and type of another one."""
    match image_layout(like.shape):
        case "HW":
            images = images.squeeze(1)
        case "HWC":
            images = images.permute(0, 2, 3, 1)
    is_whole = like.dtype.kind in "iu"
    return (images.round() if is_whole else images).numpy().astype(like.dtype)


def _upsampled(grid: Tensor, stride: int, height: int, width: int) -> Tensor:
    """Return values [N, h, w] at pixels 0, stride, 2 · stride, … as [N, height, width].

    Pixels after the last point of the grid have its value.
    """
    size = tuple((count - 1) * stride + 1 for count in grid.shape[1:])
    between = F.interpolate(grid.unsqueeze(0), size=size, mode="bilinear", align_corners=True)
    return F.pad(between, (0, width - size[1], 0, height - size[0]), mode="replicate").squeeze(0)
