"""The card of a policy on the Hugging Face Hub, with the metadata of its pages for reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pixelq.agents.acting.policy import Policy
from pixelq.agents.config.described import described
from pixelq.agents.results.formatting import describe_rules, format_interval, format_percent, pluralize
from pixelq.agents.storage.hub import import_hub
from pixelq.envs.ids import short_name
from pixelq.envs.named import modules_to_trust

LIBRARY = "pixelq"
OF_RESULTS = ("env", "protocol", "step", "frames", "returns", "lengths", "median", "ci95", "human_normalized", "seed")
"""Entries of an evaluation that results.json has besides the Hub's own."""


def results_json(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of results.json: the Hub's entries, and what else `pixelq evaluate --json` tells.

    Args:
        figures: JSON values of an evaluation, as `Score.to_json` returns them.
    """
    return {
        "mean_reward": figures["mean"],
        "std_reward": figures["std"],
        "is_deterministic": figures["epsilon"] == 0,
        "n_eval_episodes": figures["episodes"],
        "eval_datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        **{name: figures[name] for name in (*OF_RESULTS, "epsilon", "cut")},
    }


def card(repo: str, policy: Policy, figures: Mapping[str, Any], *, has_film: bool, command: str | None = None) -> str:
    """Return the README.md of a policy's repository, with its metadata.

    Args:
        repo: The repository, ORG/NAME.
        policy: The policy.
        figures: JSON values of its evaluation, as `Score.to_json` returns them.
        has_film: Whether replay.mp4 is beside it.
        command: Command line of its training; None where there is none.

    Raises:
        MissingExtra: If `huggingface_hub` is not installed.
    """
    hub = import_hub("a card")
    env, name = str(policy.env_id), policy.config.algorithm.upper()
    score = f"{figures['mean']:.2f} +/- {figures['std']:.2f}"
    result = hub.EvalResult(
        task_type="reinforcement-learning",
        task_name="reinforcement-learning",
        dataset_type=env,
        dataset_name=env,
        metric_type="mean_reward",
        metric_name="mean_reward",
        metric_value=score,
        verified=False,
    )
    tags = dict.fromkeys([env, short_name(env), "deep-reinforcement-learning", "reinforcement-learning", LIBRARY])
    data = hub.ModelCardData(library_name=LIBRARY, tags=list(tags), model_name=name, eval_results=[result])
    low, high = figures["ci95"]
    human, cut = figures["human_normalized"], figures["cut"]
    episodes = pluralize(figures["episodes"], "episode" if cut else "full episode")
    limit = figures.get("max_episode_steps")
    after = "" if limit is None else f" after {limit:,} steps"
    episodes += f" ({cut} of them cut off{after})" if cut else ""
    rows = {
        "environment": f"`{env}`, trained under the protocol `{policy.protocol}`",
        "agent": f"`{described(policy.config)}`",
        "trained for": f"{figures['step']:,} steps ({figures['frames']:,} frames) with seed {policy.seed}",
        "mean return": f"{score}, 95% interval of the mean {format_interval(figures['mean'], low, high)}, over "
        f"{episodes} under {describe_rules(figures['protocol'])}",
        **(
            {}
            if human is None or cut
            else {"human-normalised": f"{format_percent(human)} (0%: random play, 100%: human)"}
        ),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    modules = modules_to_trust([env, *map(str, policy.env_arguments.get("wrappers", ()))])
    trust = "".join(f" --import {module}" for module in modules)
    not_here = f" The repository does not hold the code of {' and '.join(modules)}." if modules else ""
    trained = "" if command is None else f"\nThe policy was trained with this command:\n\n```\n{command}\n```\n"
    film = "\n`replay.mp4` shows an additional episode, which is not part of this evaluation.\n" if has_film else ""
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {name} on {env}\n\n| | |\n| --- | --- |\n{table}\n{film}{trained}\n"
        "## Use it\n\nInstall pixelq with its extra `hub`, then run\n\n"
        f"```\npixelq evaluate hf://{repo} --episodes 10{trust}\n```\n\n"
        f'```python\nfrom pixelq.agents import load\n\nagent = load("hf://{repo}")\n'
        "actions, state = agent.predict(observations)\n```\n\n"
        "The weights are safetensors, and the rest is JSON: loading it runs no code. `results.json` has the return of\n"
        f"every episode, and `config.json` says how the agent was trained.{not_here}\n"
    )
