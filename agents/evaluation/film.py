"""Films: pictures written as an mp4, and the check that all of them are in it."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from pixelq.agents.errors import InvalidRun, MissingExtra, RunFailed, how_to_install

GIF_SECONDS, GIF_FPS, GIF_HEIGHT = 30.0, 10.0, 210
"""Length, pictures per second and least height of a GIF, which takes many times the space of an mp4."""
LEAST_HEIGHT = 400  # pixels; smaller screens are enlarged by an integer factor
FILM = "film.mp4"
"""Name of the film in a run's folder."""
FILM_SECONDS = 180.0
"""Most seconds of play in the film of a run: a game may last half an hour."""


def check_films() -> None:
    """Check that films can be written.

    Raises:
        MissingExtra: If imageio or its ffmpeg is not installed.
    """
    if importlib.util.find_spec("imageio") is None or importlib.util.find_spec("imageio_ffmpeg") is None:
        raise MissingExtra(f"a film needs imageio and ffmpeg: {how_to_install('video')}")


class Film:
    """An mp4 that is written picture by picture; a context that ends with the film.

    The film is removed if it is not whole at the end.

    Args:
        path: Path of the mp4; its folder is created.
        fps: Pictures per second.

    Raises:
        InvalidRun: If the file cannot be created.
        MissingExtra: As `check_films`.
    """

    def __init__(self, path: Path, fps: float) -> None:
        check_films()
        self.path, self.fps, self.pictures = path, fps, 0
        self._writer: Any = None  # made when the pictures' size is known
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.open("xb").close()  # ffmpeg would not say why it cannot
        except OSError as error:
            raise InvalidRun(f"{path} cannot be written ({error.strerror}); use another folder for the film") from error

    def __enter__(self) -> Self:
        return self

    def add(self, picture: NDArray[Any]) -> None:
        """Add a picture, uint8 [height, width, 3].

        Raises:
            RunFailed: If ffmpeg has ended, for example because the disk is full.
        """
        try:
            if self._writer is None:
                self._writer = _writer(self.path, self.fps, picture.shape[0])
            self._writer.append_data(picture)
        except OSError as error:
            raise self._failure() from error
        self.pictures += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if error is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
        elif not self._is_whole():
            raise self._failure()

    def _is_whole(self) -> bool:
        """Return whether the file holds all pictures: ffmpeg does not tell."""
        import imageio.v2 as imageio

        try:
            with imageio.get_reader(self.path) as film:
                return bool(film.count_frames() == self.pictures)  # type: ignore[attr-defined]
        except (OSError, RuntimeError):
            return False

    def _failure(self) -> RunFailed:
        """Remove the broken film, and return the error to raise."""
        with suppress(OSError):
            self.path.unlink()
        why = "no space left on device"
        with suppress(OSError):
            free = shutil.disk_usage(self.path.parent).free
            why = why if free < 2**20 else f"ffmpeg ended after {self.pictures:,} pictures"
        return RunFailed(f"{self.path} can no longer be written ({why}); use another folder for the film")


def as_gif(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Return the beginning of a film as a GIF that plays at its speed, and the GIF's width and height.

    Raises:
        OSError, RuntimeError: If the film cannot be read.
    """
    import imageio.v2 as imageio

    pictures = []
    film: Any = imageio.get_reader(path)
    with film:
        fps = film.get_meta_data()["fps"]
        every = max(1, round(fps / GIF_FPS))
        for number, picture in enumerate(film):
            if number >= GIF_SECONDS * fps:
                break
            if number % every == 0:
                factor = max(1, picture.shape[0] // GIF_HEIGHT)
                pictures.append(picture[::factor, ::factor])
    milliseconds = 1000 * every / fps
    gif: bytes = imageio.mimwrite("<bytes>", pictures, format="GIF", duration=milliseconds, loop=0)
    height, width = pictures[0].shape[:2]
    return gif, (width, height)


def _writer(path: Path, fps: float, height: int) -> Any:
    """Return imageio's writer of an mp4 of pictures of some height."""
    import imageio.v2 as imageio  # brings its own ffmpeg

    factor = max(1, -(-LEAST_HEIGHT // height))
    # ffmpeg repeats the pixels in half the time that NumPy takes. The codec needs even numbers of rows and columns.
    scaled = f"scale=iw*{factor}:ih*{factor}:flags=neighbor,crop=trunc(iw/2)*2:trunc(ih/2)*2"
    options = ["-preset", "veryfast", "-vf", scaled]
    return imageio.get_writer(path, fps=fps, macro_block_size=1, codec="libx264", quality=8, output_params=options)
