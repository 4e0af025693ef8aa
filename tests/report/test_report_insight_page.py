"""Report sections about the best episode and about what the network computes, in a browser."""

import base64
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from pixelq.agents.report.insight import insight_sections
from pixelq.agents.report.page import Section, render
from tests.support.browser import Opened, is_wider_than_window, open_page
from tests.support.cases import representative
from tests.support.filmed_games import BITS, FPS, LENGTH, counting_agent

INK = {False: "rgb(27, 31, 36)", True: "rgb(232, 234, 237)"}  # --ink of style.css, light and dark
ON_SCREEN = """() => {
  const video = document.querySelector("#episode video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0);
  let step = 0;
  for (let bit = 0; bit < BITS; bit++) {
    const [red] = context.getImageData((bit + 0.5) * canvas.width / BITS, canvas.height / 2, 1, 1).data;
    if (red > 128) step |= 1 << bit;
  }
  return [step, Number(document.querySelector("#episode").dataset.step)];
}""".replace("BITS", str(BITS))
"""Script that returns the step whose picture the film shows, and the step whose values are shown."""

SHOWN = """() => [
  Number(document.querySelector("#episode").dataset.step), document.querySelector("#episode .bars").data[0].x,
]"""
"""Script that returns the step and its q-values as the bars show them."""


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> list[Section]:
    folder = tmp_path_factory.mktemp("agent") / "agent"
    counting_agent().save(folder)
    return insight_sections(folder, episodes=2, device="cpu")


@pytest.fixture(scope="module")
def url(sections: list[Section], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render("Report", "of a test", sections), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def opened(browser: Browser, url: str) -> Iterator[Opened]:
    found = open_page(browser, url)
    found.page.wait_for_function("() => document.querySelector('#episode video').readyState >= 2")
    yield found
    found.close()


@pytest.fixture
def page(opened: Opened, url: str) -> Iterator[Page]:
    """The page at the start of the episode; it must not have logged a complaint when the test ends."""
    page = opened.page
    for choice, usual in ((".speed", "1"), (".shown", "q")):
        page.locator(f"#episode {choice}").select_option(usual)
    page.evaluate("document.querySelector('#episode video').pause()")  # a click could start a film that has just ended
    page.wait_for_function("() => document.querySelector('#episode').dataset.playing === 'false'")
    scrub_to(page, 0)
    yield page
    assert opened.complaints == []
    assert opened.requests == [url]


def q_values_of(sections: list[Section]) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(sections[0].data["q_values"]), "<f4").reshape(LENGTH, 3)


def step_of(page: Page) -> int:
    return int(page.locator("#episode").get_attribute("data-step") or -1)


def bars_of(page: Page) -> Any:
    return page.evaluate("document.querySelector('#episode .bars').data[0].x")


def series_of(page: Page) -> Any:
    return page.evaluate("document.querySelector('#episode .time').data.map((trace) => trace.name)")


def settled(page: Page) -> None:
    """Wait until the film shows the picture that was sought."""
    page.wait_for_function("() => !document.querySelector('#episode video').seeking")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def scrub_to(page: Page, step: int) -> None:
    page.locator("#episode .scrub").fill(str(step))
    settled(page)


@pytest.mark.parametrize(
    ("width", "dark"), representative([(1280, False), (1280, True), (390, False), (390, True)], keep=[(390, True)])
)
def test_it_opens_on_any_screen_without_network(browser: Browser, url: str, width: int, dark: bool) -> None:
    opened = open_page(browser, url, width, dark=dark)
    page = opened.page
    page.wait_for_function("() => document.querySelector('#episode video').readyState >= 2")
    assert not is_wider_than_window(page)
    assert page.evaluate("getComputedStyle(document.body).color") == INK[dark]
    for chart in ("bars", "time", "states"):
        drawn = page.locator(f".{chart} .main-svg").first.bounding_box()
        assert drawn is not None
        assert 200 < drawn["width"] <= width
    assert page.evaluate("getComputedStyle(document.querySelector('.bars .xtick text')).fill") == INK[dark]
    images = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.hasAttribute('alt')])")
    assert len(images) > 30
    assert all(width > 0 and has_alt for width, has_alt in images)
    assert opened.complaints == []
    assert opened.requests == [url]
    opened.close()


def test_the_film_plays_and_the_charts_follow(page: Page, sections: list[Section]) -> None:
    page.locator("#episode .speed").select_option("0.25")  # so a slow machine is done before the film ends
    play = page.locator("#episode .play")
    play.click()
    page.wait_for_function("() => document.querySelector('#episode').dataset.step > 5")
    for _ in range(15):
        on_screen, shown = page.evaluate(f"() => new Promise((on) => requestAnimationFrame(() => on(({ON_SCREEN})())))")
        assert abs(on_screen - shown) <= 2
        shown, bars = page.evaluate(SHOWN)
        np.testing.assert_allclose(bars, q_values_of(sections)[shown], rtol=1e-6)
        page.wait_for_timeout(30)
    assert play.text_content() == "Pause"
    play.click()
    settled(page)
    step = step_of(page)
    assert 5 < step < LENGTH
    assert int(page.evaluate("document.querySelector('#episode video').currentTime") * FPS) == step
    assert page.evaluate(ON_SCREEN) == [step, step]
    np.testing.assert_allclose(bars_of(page), q_values_of(sections)[step], rtol=1e-6)
    page.wait_for_timeout(300)
    assert step_of(page) == step  # paused
    assert play.text_content() == "Play"


def test_it_plays_to_the_end_and_again(page: Page) -> None:
    page.locator("#episode .speed").select_option("4")
    assert page.evaluate("document.querySelector('#episode video').playbackRate") == 4
    play = page.locator("#episode .play")
    play.click()
    page.wait_for_function(f"() => document.querySelector('#episode').dataset.step === '{LENGTH}'")
    page.wait_for_function("() => document.querySelector('#episode').dataset.playing === 'false'")
    assert page.locator("#episode dd.action").text_content() == "none (end of the episode)"
    assert page.locator("#episode dd.return").text_content() == "2"  # 6 · 1 − 2 · 2
    play.click()
    page.wait_for_function(
        """(half) => {
          const { step, playing } = document.querySelector("#episode").dataset;
          return step < half && playing === "true";
        }""",
        arg=LENGTH // 2,
    )


@pytest.mark.parametrize("step", representative([0, 1, 9, 24, LENGTH - 1, LENGTH], keep=[0, 24, LENGTH]))
def test_scrubbing_shows_the_step(page: Page, sections: list[Section], step: int) -> None:
    scrub_to(page, step)
    assert page.evaluate(ON_SCREEN) == [step, step]
    data, q_values = sections[0].data, q_values_of(sections)
    last = min(step, LENGTH - 1)
    np.testing.assert_allclose(bars_of(page), q_values[last], rtol=1e-6)
    marks = page.evaluate("document.querySelector('#episode .bars').data[0].text")
    assert [mark.endswith("◀ taken") for mark in marks] == [i == data["actions"][last] for i in range(3)]
    spoken = page.locator("#episode .scrub").get_attribute("aria-valuetext") or ""
    so_far = str(sum(data["rewards"][:step])).replace("-", "−")
    if step < LENGTH:
        reward = str(data["rewards"][step]).replace("-", "−")
        assert spoken.startswith(f"step {step} of {LENGTH}, action {data['actions'][step]}, value ")
        assert spoken.endswith(f", reward {reward}, return so far {so_far}")
        said = float(spoken.split("value ")[1].split(",")[0].replace("−", "-"))
        assert said == pytest.approx(q_values[step].max(), abs=1e-3)
    else:
        ended = "action none (end of the episode), value –, reward –"
        assert spoken == f"step {LENGTH} of {LENGTH}, {ended}, return so far {so_far}"


def test_the_bars_may_show_the_distance_to_the_greatest(page: Page, sections: list[Section]) -> None:
    scrub_to(page, 7)
    page.locator("#episode .shown").select_option("gap")
    values = q_values_of(sections)[7]
    np.testing.assert_allclose(bars_of(page), values - values.max(), atol=1e-6)


def test_series_can_be_switched_off_and_on(page: Page) -> None:
    assert series_of(page) == ["value", "reward", "return so far"]
    value = page.get_by_role("button", name="value", exact=True)
    value.click()
    assert value.get_attribute("aria-pressed") == "false"
    assert series_of(page) == ["reward", "return so far"]
    page.get_by_role("button", name="Q(2)").click()
    assert series_of(page) == ["reward", "return so far", "Q(2)"]
    value.click()
    assert series_of(page) == ["value", "reward", "return so far", "Q(2)"]
    buttons = page.locator("#episode .legend [aria-pressed=true]")
    while buttons.count():
        buttons.first.click()
    assert series_of(page) == []
    scrub_to(page, 5)
    for name in ("value", "reward", "return so far"):
        page.get_by_role("button", name=name, exact=True).click()
    assert series_of(page) == ["value", "reward", "return so far"]


def test_the_charts_hold_the_episodes_numbers(page: Page, sections: list[Section]) -> None:
    page.get_by_role("button", name="Q(1)").click()
    traces = page.evaluate("document.querySelector('#episode .time').data.map(({name, x, y}) => [name, x, y])")
    page.get_by_role("button", name="Q(1)").click()
    lines = {name: (x, y) for name, x, y in traces}
    q_values, rewards = q_values_of(sections), np.array(sections[0].data["rewards"])
    assert lines["value"][0] == list(range(LENGTH))
    np.testing.assert_allclose(lines["value"][1], q_values.max(1), rtol=1e-6)
    np.testing.assert_allclose(lines["Q(1)"][1], q_values[:, 1], rtol=1e-6)
    np.testing.assert_allclose(lines["return so far"][1], rewards.cumsum())
    x, y = lines["reward"]
    assert x[1::3] == np.flatnonzero(rewards).tolist()
    assert y[1::3] == rewards[rewards != 0].tolist()


def test_it_is_played_from_the_keyboard(page: Page) -> None:
    page.locator("#episode video").focus()
    for key, step in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        assert step_of(page) == step
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('#episode').dataset.step > 3")
    page.keyboard.press("Space")
    page.wait_for_function("() => document.querySelector('#episode').dataset.playing === 'false'")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className"))
    assert reached == ["play", "back", "forward", "speed", "scrub", "shown"]
    page.locator("#episode .scrub").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert step_of(page) == 1
    page.locator("#episode .play").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#episode').dataset.playing === 'true'")


def test_the_line_in_the_chart_follows_and_a_press_goes_there(page: Page) -> None:
    chart = page.locator("#episode .time")
    chart.scroll_into_view_if_needed()
    place = page.evaluate("charts.place(document.querySelector('#episode .time'), 33, 0)")
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + place["left"] + 1, box["y"] + place["top"] + 30)
    page.mouse.click(box["x"] + place["left"] + 1, box["y"] + place["top"] + 30)
    page.wait_for_function("() => document.querySelector('#episode').dataset.step === '33'")
    cursor = page.locator("#episode .cursor").bounding_box()
    assert cursor is not None
    assert cursor["x"] + 1 - box["x"] == pytest.approx(place["left"], abs=1)
    page.locator("#episode .forward").click()
    after = page.locator("#episode .cursor").bounding_box()
    assert after is not None
    assert after["x"] - cursor["x"] == pytest.approx((box["width"] - 75) / LENGTH, abs=1)


@pytest.mark.slow
def test_without_its_film_the_episode_still_plays(browser: Browser, sections: list[Section], tmp_path: Path) -> None:
    data = {**sections[0].data, "film": base64.b64encode(b"no film").decode()}
    path = tmp_path / "report.html"
    path.write_text(render("Report", "", [dataclasses.replace(sections[0], data=data)]), encoding="utf-8")
    opened = open_page(browser, path.as_uri())
    page = opened.page
    problem = page.locator("#episode .problem")
    problem.wait_for()
    assert (problem.text_content() or "").startswith("This browser cannot play the film (H.264)")
    assert not page.locator("#episode video").is_visible()
    page.locator("#episode .speed").select_option("4")
    page.locator("#episode .play").click()
    page.wait_for_function(f"() => document.querySelector('#episode').dataset.step === '{LENGTH}'")
    page.wait_for_function("() => document.querySelector('#episode').dataset.playing === 'false'")
    page.locator("#episode .back").click()
    assert step_of(page) == LENGTH - 1
    np.testing.assert_allclose(bars_of(page), q_values_of(sections)[-1], rtol=1e-6)
    assert opened.errors == []
    opened.close()


def test_moments_and_saliency_are_chosen(page: Page, sections: list[Section]) -> None:
    moments = sections[1].values["moments"]
    radios = page.locator("[name=inside-moment]")
    assert radios.count() == len(moments) >= 3
    shown = page.locator("#inside .moment:visible")
    assert shown.get_attribute("data-step") == str(moments[0]["step"])
    radios.first.focus()
    page.keyboard.press("ArrowDown")
    assert (shown.count(), shown.get_attribute("data-step")) == (1, str(moments[1]["step"]))
    assert shown.locator(".saliency:visible").get_attribute("data-of") == "value"
    page.get_by_label("all q-values").check()
    assert shown.locator(".saliency:visible").get_attribute("data-of") == "q"
    shown.get_by_role("link", name="Show in the film").click()
    assert step_of(page) == moments[1]["step"]


def test_states_of_the_map_are_chosen(page: Page, sections: list[Section]) -> None:
    data = sections[1].data

    def chosen() -> int:
        state = int(page.locator("#inside").get_attribute("data-state") or -1)
        assert (page.locator(".which").text_content() or "").startswith(f"Step {data['steps'][state]}, value ")
        place = page.evaluate(
            f"charts.place(document.querySelector('.states'), {data['x'][state]}, {data['y'][state]})"
        )
        box, ring = page.locator(".states").bounding_box(), page.locator(".ring").bounding_box()
        assert box is not None
        assert ring is not None
        assert ring["x"] + ring["width"] / 2 - box["x"] == pytest.approx(place["left"], abs=1)
        assert ring["y"] + ring["height"] / 2 - box["y"] == pytest.approx(place["y"], abs=1)
        return state

    first, second = data["representatives"][:2]
    assert chosen() == first
    button = page.locator(".representatives button").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    assert chosen() == second
    assert button.get_attribute("aria-pressed") == "true"
    walk = page.locator(".walk")
    walk.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert chosen() == 1
    assert (walk.get_attribute("aria-valuetext") or "").startswith("step 1, value ")
    page.locator(".to-film").click()
    assert step_of(page) == 1
    other = next(i for i in range(LENGTH) if i not in data["representatives"] and i != 1)
    page.locator(".states").scroll_into_view_if_needed()
    place = page.evaluate(f"charts.place(document.querySelector('.states'), {data['x'][other]}, {data['y'][other]})")
    box = page.locator(".states").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + place["left"], box["y"] + place["y"])
    page.wait_for_function(f"() => document.querySelector('#inside').dataset.state === '{other}'")
    assert chosen() == other


@pytest.mark.slow
def test_names_of_actions_are_no_links(browser: Browser, sections: list[Section], tmp_path: Path) -> None:
    evil = '<a href="https://evil.example/">%{x}</a>'
    episode = dataclasses.replace(sections[0], data={**sections[0].data, "names": [evil, "LEFT", "RIGHT"]})
    (tmp_path / "report.html").write_text(render("Report", "of a test", [episode]), encoding="utf-8")
    opened = open_page(browser, (tmp_path / "report.html").as_uri())
    opened.page.wait_for_selector("#episode .bars .main-svg")
    assert evil in opened.page.locator("#episode .bars .ytick text").all_text_contents()
    links = opened.page.evaluate(
        "[...document.querySelectorAll('a')].map((a) => a.getAttribute('href') ?? a.href.baseVal)"
    )
    assert all(link.startswith("#") for link in links)
    assert opened.complaints == []
    opened.close()


@pytest.mark.slow
def test_the_film_opens_where_the_choice_is_clearest(browser: Browser, sections: list[Section], url: str) -> None:
    best = np.sort(q_values_of(sections)[: LENGTH // 2], 1)
    opened = open_page(browser, url)
    opened.page.wait_for_function("() => document.querySelector('#episode video').readyState >= 2")
    settled(opened.page)
    on_screen, shown = opened.page.evaluate(ON_SCREEN)
    assert on_screen == shown == (best[:, -1] - best[:, -2]).argmax()
    low, high = opened.page.evaluate("document.querySelector('#episode .bars').layout.xaxis.range")
    values = q_values_of(sections)[shown]
    assert high - low < 6 * np.abs(values).max()  # the axis fits what is shown
    opened.close()
