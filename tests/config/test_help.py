"""What `help` and `repr` say of configurations and agents."""

import inspect
import pydoc
from dataclasses import fields, replace
from importlib.metadata import version

import gymnasium
import pytest

import pixelq.agents
from pixelq.agents import DQN, AgentConfig, InvalidConfig, Policy, preset
from pixelq.agents.config.described import described
from pixelq.agents.config.field_texts import field_texts


def test_help_says_what_each_field_means() -> None:
    shown = pydoc.plain(pydoc.render_doc(AgentConfig))
    text = " ".join(line.removeprefix(" |").strip() for line in shown.splitlines())
    texts = field_texts(AgentConfig)
    assert texts.keys() == {field.name for field in fields(AgentConfig)}
    for name, meaning in texts.items():
        assert f"{name}: " in text
        assert meaning in text, name
    assert max(map(len, shown.splitlines())) < 130
    assert str(inspect.signature(AgentConfig)) == "(**settings)"
    with pytest.raises(InvalidConfig, match=r"unknown field 'gama' .*; did you mean 'gamma'\?"):
        AgentConfig(gama=0.9)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (AgentConfig(), "AgentConfig()"),
        (AgentConfig(hidden=7), "AgentConfig(hidden=7)"),
        (preset("rainbow"), "preset('rainbow')"),
        (replace(preset("iqn"), hidden=7, batch_size=64), "replace(preset('iqn'), batch_size=64, hidden=7)"),
    ],
)
def test_a_configuration_is_described_by_its_nearest_preset(config: AgentConfig, text: str) -> None:
    assert described(config) == text


def test_an_agent_says_what_it_is() -> None:
    spaces = gymnasium.spaces.Box(-1, 1, (4,)), gymnasium.spaces.Discrete(2)
    agent = DQN(*spaces, replace(preset("classic"), hidden=7), device="cpu", seed=3)
    agent.env_id, agent.protocol, agent.step = "CartPole-v1", "gymnasium", 1234
    said = "env='CartPole-v1', protocol='gymnasium', step=1234, device='cpu', seed=3, config=replace(preset('classic')"
    assert repr(agent) == f"DQN({said}, hidden=7))"
    assert repr(Policy(*spaces, device="cpu")).startswith("Policy(env=None, protocol=None, step=0, device='cpu'")


def test_the_version_is_the_package_s() -> None:
    assert pixelq.agents.__version__ == version("pixelq")
