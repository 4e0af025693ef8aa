"""Between the loop and the callbacks: who is told what, who asked to stop, and what is said of errors."""

from __future__ import annotations

import difflib
import itertools
import json
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pixelq.agents.errors import CallbackFailed, InvalidConfig, RunFailed, UserError, one_line, printable
from pixelq.agents.evaluation.evaluate import Evaluation
from pixelq.agents.runs.progress import FAILED, FINISHED, STOPPED
from pixelq.agents.training.callbacks import Callback, Training
from pixelq.envs.named import name_of

EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""Names of the methods that callbacks may define."""
MOST_STATE = 2**20
"""Most characters of a callback's state as JSON, since a checkpoint's file has a limit."""


class Hooks:
    """Tells callbacks of a training's events.

    Args:
        callbacks: The callbacks, in the order in which they are told.
        training: What they see of it.
        received: Signals that ask the run to stop.

    Attributes:
        on_step: Tells of a step; None if no callback wants to know.
        stopped_by: Name of the callback that stopped the training; None if none has.
        changes: What keeps a resumed run from going on exactly, after `load_state`.
        is_silent: Whether callbacks are not told of checkpoints, because one of them failed.
        is_under_way: Whether all callbacks have been told of the start.
    """

    def __init__(self, callbacks: Sequence[Callback], training: Training, received: list[int]) -> None:
        self.training, self.received = training, received
        self.callbacks: dict[str, Callback] = {}
        for callback in callbacks:
            name = kind = type(callback).__name__
            while name in self.callbacks:
                name = f"{kind} {int(name.removeprefix(kind) or 1) + 1}"
            self.callbacks[name] = callback
        self._steppers = self._wanted("on_step")
        self.on_step: Callable[[], None] | None = self._step if self._steppers else None
        self.stopped_by: str | None = None
        self.changes: list[str] = []
        self.is_silent = self.is_under_way = False
        self._failed: set[str] = set()

    def _wanted(self, event: str) -> list[str]:
        """Return the names of the callbacks that define the method of an event, in their class or themselves."""
        own = getattr(Callback, event)
        return [
            name for name, each in self.callbacks.items() if getattr(getattr(each, event), "__func__", None) is not own
        ]

    def _step(self) -> None:
        self._tell(self._steppers, lambda name: self._call(name, "on_step", self.training))

    def metrics(self, row: dict[str, Any]) -> None:
        """Tell of a row of metrics, of which each callback gets its own copy; none that has failed is told."""
        names = [name for name in self.callbacks if name not in self._failed]
        self._tell(names, lambda name: self._call(name, "on_metrics", self.training, dict(row)))

    def _tell(self, names: Sequence[str], tell: Callable[[str], Any]) -> None:
        """Tell all callbacks of what a resumed run does not tell them again, and raise the first error after that."""
        for error in _errors(names, tell):
            raise error

    def checkpoint(self, path: Path) -> None:
        """Tell of a checkpoint."""
        for name in () if self.is_silent else self.callbacks:
            self._call(name, "on_checkpoint", self.training, path)

    def evaluation(self, evaluation: Evaluation) -> None:
        """Tell of an evaluation."""
        for name in self.callbacks:
            self._call(name, "on_evaluation", self.training, evaluation)

    @property
    def has_failed(self) -> bool:
        """Whether a callback has raised an error."""
        return bool(self._failed)

    @property
    def wants_evaluations(self) -> bool:
        """Whether a callback that may change the training wants to know of evaluations, also of those told before."""
        return any(not self.callbacks[name].watches_only for name in self._wanted("on_evaluation"))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of the start, and, however the context is left, of the end."""
        started: list[str] = []
        try:
            for name in self.callbacks:
                self._call(name, "on_training_start", self.training)
                started.append(name)
            if self.training.out is not None:
                self.state()  # so that a state that no file holds is not found after hours
            self.is_under_way = True
            yield
        except BaseException:
            self.training.phase = STOPPED if self.received else FAILED
            for error in self._end(started):
                warnings.warn(str(error), stacklevel=2)  # the first error is the one to know of
            raise
        self.training.phase = STOPPED if self.received else FINISHED
        for error in self._end(started):
            raise error

    def _end(self, started: Sequence[str]) -> list[Exception]:
        """Tell of the end, and return the errors that callbacks raised."""
        return _errors(started, lambda name: self._call(name, "on_training_end", self.training))

    def _call(self, name: str, method: str, *arguments: Any) -> Any:
        """Return what a callback's method returns, and stop the training if it is False.

        Raises:
            CallbackFailed: If it raises an error that is not one of ours, which have sentences of their own, leaves the
                process, or returns from an event something that says nothing.
        """
        is_event = method in EVENTS and method != "on_training_end"
        try:
            result = getattr(self.callbacks[name], method)(*arguments)
        except (UserError, RunFailed):
            self._failed.add(name)
            raise
        except KeyboardInterrupt:
            if self.received or not self.is_under_way or not is_event:
                raise
            self.received.append(signal.SIGINT)  # ends the run in good order, as the signal itself does
            return None
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and self.received:  # of a second signal
                raise
            what = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
            raise self._failure(name, method, what) from error
        if self.training.why is not None:
            self._stopped(name, self.training.why)
        if is_event and result is not None:
            if not isinstance(result, bool | np.bool_):
                raise self._failure(name, method, f"it must return True, False or None, got {result!r:.80}")
            if not result:
                self._stopped(name, f"{method} returned False")
        return result

    def _failure(self, name: str, method: str, what: str) -> CallbackFailed:
        """Return the error of a callback, which counts as failed from now on."""
        self._failed.add(name)
        return CallbackFailed(f"the callback {name} failed in {method} at step {self.training.step:,}: {what}")

    def _stopped(self, name: str, why: str) -> None:
        self.training.stop(why)
        self.stopped_by = self.stopped_by or name

    def description(self) -> dict[str, Any]:
        """Return what config.json says of callbacks that may change the training: names to import them by, if any."""
        changing = [each for each in self.callbacks.values() if not each.watches_only]
        names = [each.made_by or name_of(type(each)) or type(each).__name__ for each in changing]
        return {"callbacks": names} if names else {}

    def compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Note whether a resumed run has callbacks with the names that it had, given both times' config.json."""
        were, are = (_names(config.get("callbacks")) for config in (before, now))
        if before and were != are:
            self.changes.append(printable(f"callbacks: {were} before, {are} now"))

    def state(self) -> dict[str, Any]:
        """Return the JSON values that `load_state` restores."""
        return {"callbacks": {name: self._state_of(name) for name in self.callbacks}} if self.callbacks else {}

    def _state_of(self, name: str) -> Any:
        """Return the state of a callback; None if it keeps none, or failed."""
        if name in self._failed:
            return None
        values = self._call(name, "state")
        try:
            text = json.dumps(values)
            if not isinstance(values, dict | None):
                raise TypeError(f"got {values!r:.80}")
            if others := other_keys(values):
                raise TypeError(f"keys must be strings, got {others[0]!r:.80}")
            if len(text) > MOST_STATE:
                raise ValueError(f"got {len(text):,} characters")
        except (TypeError, ValueError, RecursionError) as error:
            self._failed.add(name)
            raise CallbackFailed(
                f"the state of the callback {name} must be a dict of JSON values of at most {MOST_STATE:,} characters "
                f"or None: {one_line(error)}"
            ) from error
        return values

    def load_state(self, values: dict[str, Any]) -> None:
        """Restore what `state` returned of the callbacks that are still there.

        Raises:
            ValueError: If it is not the state of callbacks.
            CallbackFailed: If a callback cannot restore its state.
        """
        states: dict[str, Any] = values.get("callbacks", {})
        if not isinstance(states, dict) or not all(isinstance(each, dict | None) for each in states.values()):
            raise ValueError("callbacks must be their states by name")
        for name, callback in self.callbacks.items():
            if states.get(name) is not None:
                self._call(name, "load_state", states[name])
            elif name in states and not callback.watches_only:
                self.changes.append(f"the callback {name} kept no state")


def _errors(names: Sequence[str], tell: Callable[[str], Any]) -> list[Exception]:
    """Tell all callbacks with these names, and return the errors."""
    errors: list[Exception] = []
    for name in names:
        try:
            tell(name)
        except Exception as error:
            errors.append(error)
    return errors


def _names(values: object) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) and values else "none"


def check_callbacks(callbacks: object) -> None:
    """Check that callbacks are a sequence of instances of subclasses of `Callback`, whose events exist.

    Raises:
        InvalidConfig: If they are something else.
    """
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise InvalidConfig(f"callbacks must be a list of pixelq.agents.Callback, got {callbacks!r:.80}")
    for each in callbacks:
        if not isinstance(each, Callback):
            hint = "; make one by calling the class" if isinstance(each, type) and issubclass(each, Callback) else ""
            raise InvalidConfig(f"callbacks must be instances of pixelq.agents.Callback, got {each!r:.80}{hint}")
        if type(each) is Callback:
            raise InvalidConfig("callbacks must be of subclasses of pixelq.agents.Callback, which itself does nothing")
        _check_events(type(each))


def _check_events(kind: type[Callback]) -> None:
    """Check that all public methods `on_…` of a callback are events, since others would never be called.

    Raises:
        InvalidConfig: If one is not.
    """
    for name in dir(kind):
        if name.startswith("on_") and name not in EVENTS and callable(getattr(kind, name)):
            near = difflib.get_close_matches(name, EVENTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(EVENTS)}"
            raise InvalidConfig(f"the callback {kind.__name__} has {name}, which is no event; {hint}")


def other_keys(values: Any) -> list[Any]:
    """Return the keys in JSON values that are not strings, which a file would turn into strings."""
    others = []
    if isinstance(values, dict):
        others = [key for key in values if not isinstance(key, str)]
        values = list(values.values())
    if isinstance(values, list | tuple):
        others += itertools.chain.from_iterable(map(other_keys, values))
    return others
