"""Arrays as pictures (grey, heat maps, grids) in data URIs that a page embeds, and films of bounded size."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelq.agents.results.style import import_matplotlib

Pixels = NDArray[np.uint8]
Array = NDArray[np.floating[Any]]

BETWEEN = 128
"""Grey of the lines in a grid, which is visible on light and on dark pages."""
OPAQUE = 0.85
"""Opacity of a heat map where it is greatest."""
JPEG_QUALITY = 75
PALETTE = "plasma"
"""Colours of heat maps. Its lightness increases evenly, so colour-blind people can read it too."""
TRIES = 4
"""Number of times that a film is encoded to reach a size."""


def data_uri(image: Pixels, extension: str = ".png") -> str:
    """Return a picture, grey [H, W], colour [H, W, 3] or with opacity [H, W, 4], as a data URI; JPEG with `.jpg`."""
    import imageio.v3 as imageio

    options: dict[str, Any] = {"quality": JPEG_QUALITY} if extension == ".jpg" else {"optimize": True}
    encoded = imageio.imwrite("<bytes>", image, extension=extension, **options)
    kind = "jpeg" if extension == ".jpg" else extension[1:]
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"


def signed_grey(values: Array) -> Pixels:
    """Return numbers as grey: 0 is 128, and the number farthest from 0 is white or black."""
    most = float(np.abs(values).max(initial=0.0)) or 1.0
    return (128 + np.round(values / most * 127)).astype(np.uint8)


def grey(values: NDArray[Any]) -> Pixels:
    """Return numbers as grey from the least (or 0, if all are positive) in black to the greatest in white.

    Bytes are returned unchanged.
    """
    if values.dtype == np.uint8:
        return values
    least = min(0.0, float(values.min(initial=0.0)))
    span = float(values.max(initial=0.0)) - least or 1.0
    return np.asarray(np.round((values - least) / span * 255), np.uint8)


def grid(tiles: Pixels, columns: int) -> Pixels:
    """Return pictures [N, H, W] or [N, H, W, 3] row by row as one picture, with grey lines between them."""
    count, height, width = tiles.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *tiles.shape[3:]), BETWEEN, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def sheet(pictures: Pixels, columns: int) -> Pixels:
    """Return pictures [N, H, W, 3] row by row as one picture without lines; unused places are black."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:count] = pictures
    whole = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return whole.reshape(rows * height, columns * width, 3)


def heat(values: Array) -> Pixels:
    """Return numbers [H, W] that are not negative as an overlay [H, W, 4]: 0 is clear, the greatest nearly opaque."""
    import_matplotlib()
    from matplotlib import colormaps

    share = values / (float(values.max(initial=0.0)) or 1.0)
    colours = colormaps[PALETTE](share)
    colours[..., 3] = OPAQUE * np.sqrt(share)
    return np.asarray(np.round(colours * 255), np.uint8)


def shrunk(pictures: Pixels, tallest: int) -> Pixels:
    """Return pictures [N, H, W, 3] scaled down to a greatest height: means over squares of whole pixels."""
    factor = max(1, -(-pictures.shape[1] // tallest))
    height, width = (size // factor for size in pictures.shape[1:3])
    squares = pictures[:, : height * factor, : width * factor].reshape(-1, height, factor, width, factor, 3)
    return np.stack([np.round(one.mean((1, 3))).astype(np.uint8) for one in squares])


def bounded_film(path: Path, fps: float, most_bytes: int) -> bytes | None:
    """Return the bytes of an mp4, encoded again at a lower quality if there are too many.

    Args:
        path: Path of the film.
        fps: Pictures per second.
        most_bytes: Greatest number of bytes.

    Returns:
        The bytes; None if the film cannot be made as small as that.
    """
    film = path.read_bytes()
    share = 0.9 * most_bytes / max(len(film), 1)  # of its present bits
    for attempt in range(TRIES):
        if len(film) <= most_bytes:
            return film
        film = _encoded_again(path, fps, share / 2**attempt)
    return film if len(film) <= most_bytes else None


def _encoded_again(path: Path, fps: float, share: float) -> bytes:
    """Return the pictures of a film, encoded with about a share of its bits."""
    import imageio.v2 as imageio

    coarse = path.with_name(f"{path.stem}-coarse.mp4")
    frames: Any
    writer: Any
    with imageio.get_reader(path) as frames:
        seconds = frames.get_meta_data()["duration"]
        bits = max(1000, int(share * path.stat().st_size * 8 / seconds))  # per second
        options: dict[str, Any] = {"macro_block_size": 2, "codec": "libx264", "bitrate": bits}
        with imageio.get_writer(coarse, fps=fps, **options) as writer:
            for frame in frames:
                writer.append_data(frame)
    return coarse.read_bytes()
