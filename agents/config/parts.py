"""Parts of one's own: encoders, heads and target rules that are registered under a name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pixelq.agents.errors import InvalidConfig, UnregisteredPart

Kind = Literal["encoder", "head", "target"]
BUILT_IN: dict[Kind, tuple[str, ...]] = {
    "encoder": ("auto", "mlp", "nature", "dopamine", "impala", "minatar", "der", "compact", "hadamax", "hadamax_deep"),
    "head": ("scalar", "categorical", "quantile", "implicit", "fqf"),
    "target": (),
}
"""Names that need no registration, which the types of the fields of `AgentConfig` list too."""
_REGISTERED: dict[Kind, dict[str, Callable[..., Any]]] = {"encoder": {}, "head": {}, "target": {}}
Part = TypeVar("Part", bound=Callable[..., Any])


def register_encoder(name: str, factory: Callable[..., Any] | None = None) -> Any:
    """Register an encoder of your own, which a configuration then names: `AgentConfig(encoder=name)`.

    A name is only a name: files hold it and nothing else, and whoever loads an agent registers the same factory before.
    On the command line, `--import MODULE` imports the module that registers it.

    The factory is called as `factory(observation_shape, config)` and returns an `nn.Module` that maps observations
    [B, *observation_shape] to features float32 [B, D]. Pixels arrive as uint8, everything else as float32;
    `pixelq.networks.pixels_to_float` scales pixels to [0, 1]. D is its `out_features`, or what it returns for zeros.
    Fields of the configuration such as `hidden` and `encoder_width` are at the factory's disposal; further settings
    belong into the factory, for example by `functools.partial`. What a factory has read from the configuration stays,
    also where a field is changed in an agent that exists.

    While a factory runs, PyTorch's initialisers and `torch.randn`, `rand`, `randint`, `randperm` and `normal` draw from
    the agent's own generator, so that the agent's seed determines the weights.

    Args:
        name: An identifier that is neither built in nor taken.
        factory: The factory; None returns a decorator.

    Raises:
        InvalidConfig: If the name cannot be used, or the factory cannot be called.
    """
    return _register("encoder", name, factory)


def register_head(name: str, factory: Callable[..., Any] | None = None) -> Any:
    """Register a value head of your own, which a configuration then names: `AgentConfig(head=name)`.

    The factory is called as `factory(in_features, num_actions, config)` and returns an `nn.Module` with the methods of
    `pixelq.networks.ValueHead`; see `register_encoder` for everything else.

    Args:
        name: An identifier that is neither built in nor taken.
        factory: The factory; None returns a decorator.

    Raises:
        InvalidConfig: If the name cannot be used, or the factory cannot be called.
    """
    return _register("head", name, factory)


def register_target(name: str, function: Callable[..., Any] | None = None) -> Any:
    """Register a target rule of your own, which a configuration then names: `AgentConfig(target=name)`.

    The function is called as `function(inputs)` with a `pixelq.agents.TargetInputs`, without gradient, and returns the
    reward [B] and the policy [B, A] that is followed at the next state; the loss's target is then
    reward + discount · Σₐ policy(a) Z_target(s′, a), for every head. See `register_encoder` for everything else.

    Args:
        name: An identifier that is not taken.
        function: The rule; None returns a decorator.

    Raises:
        InvalidConfig: If the name cannot be used, or the function cannot be called.
    """
    return _register("target", name, function)


def registered(kind: Kind, name: str | None) -> Callable[..., Any] | None:
    """Return the factory or function that is registered under a name; None if it is built in or nobody has."""
    return None if name is None else _REGISTERED[kind].get(name)


def handed_over(part: object) -> str:
    """Return what a configuration has as the name of a module that was handed over, such as `<MyEncoder>`."""
    return f"<{type(part).__name__}>"


def is_handed_over(name: str) -> bool:
    """Return whether a name is that of a module that was handed over."""
    return name.startswith("<") and name.endswith(">") and name[1:-1].isidentifier()


def is_own(kind: Kind, name: str | None) -> bool:
    """Return whether a name is that of a part of the user's own."""
    return name is not None and name not in BUILT_IN[kind]


def check_name(kind: Kind, name: Any) -> None:
    """Check that a part of that name is built in, registered or was handed over.

    Raises:
        InvalidConfig: If it is no text.
        UnregisteredPart: If there is none.
    """
    if name is None and kind == "target":
        return
    if not isinstance(name, str):
        raise InvalidConfig(f"{kind} must be a name, got {name!r:.80}")
    known = [*BUILT_IN[kind], *_REGISTERED[kind]]
    if name in known or (kind == "encoder" and is_handed_over(name)):
        return
    near = difflib.get_close_matches(name, known, 1, cutoff=0.75)
    hint = f"did you mean {near[0]!r}?" if near else "import the module that registers it, or give --import MODULE"
    what = f"one of {', '.join(known)} or a registered name" if known else "a registered name"
    raise UnregisteredPart(f"{kind} must be {what}, got {name!r:.80}; {hint}")


def _register(kind: Kind, name: str, part: Part | None) -> Any:
    """Register a part, or return a decorator that does."""
    if not isinstance(name, str) or not name.isidentifier():
        raise InvalidConfig(f"name of the {kind} must be an identifier such as my_{kind}, got {name!r:.80}")
    if name in BUILT_IN[kind]:
        raise InvalidConfig(f"name of the {kind} must not be that of a built-in one, got {name!r}")

    def register(part: Part) -> Part:
        if not callable(part):
            raise InvalidConfig(f"the {kind} {name!r} must be a function that can be called, got {part!r:.80}")
        old = _REGISTERED[kind].get(name)
        if old is not None and not _is_redefined(old, part):
            raise InvalidConfig(f"name of the {kind} must not be taken, got {name!r}, which {old!r:.120} has")
        _REGISTERED[kind][name] = part
        return part

    return register if part is None else register(part)


def _is_redefined(old: object, new: object) -> bool:
    """Return whether a part is the same or its new definition, as where a cell or a module is run again."""
    places = [(getattr(part, "__module__", None), getattr(part, "__qualname__", None)) for part in (old, new)]
    return old is new or (places[0] == places[1] and str(places[0][1]).isidentifier())
