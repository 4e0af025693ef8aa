"""The report in Chromium: offline, with working charts, on small screens, in dark mode and by keyboard."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from pixelq.agents.report import ReportOptions, write_report
from pixelq.envs import published_curve
from tests.support.browser import Opened, is_wider_than_window, open_page
from tests.support.report_runs import STEPS, level, write_run, write_suite

GAMES = ("pong", "breakout")
SCORES = {"dqn": [[10.0, 7.0], [12.0, 9.0]], "qrdqn": [[5.0, 20.0], [7.0, 24.0]]}
CHART = '#curves [data-chart="0"]'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    runs = [*write_suite(folder / "runs", GAMES, SCORES), write_run(folder / "<b>classic", "classic", "CartPole-v1")]
    write_report(runs, folder / "report.html")
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def shared(browser: Browser, report: str) -> Iterator[Opened]:
    opened = open_page(browser, report)
    opened.page.wait_for_selector("#curves .main-svg")
    opened.page.wait_for_selector("#across .profiles .main-svg")
    yield opened
    opened.close()


@pytest.fixture
def opened(shared: Opened, report: str) -> Iterator[Opened]:
    """The page, which takes seconds to draw and is thus opened once: a test takes back what it chooses."""
    yield shared
    assert shared.complaints == []
    assert shared.requests == [report]


def traces(page: Page, selector: str) -> dict[str, dict[str, Any]]:
    """Return the series of a chart by name, with their x and y."""
    found = page.evaluate(
        "(at) => document.querySelector(at).data.map(({name, x, y}) => ({name, x: [...x], y: [...y]}))",
        f"{selector} .chart" if "chart=" in selector else selector,
    )
    return {trace["name"]: trace for trace in found}


def test_the_curves_are_the_runs(opened: Opened) -> None:
    shown = traces(opened.page, CHART)
    mean = sum(level(row[0] / 2, STEPS - 5_000) for row in SCORES["dqn"]) / 2  # training ends at the last evaluations
    assert shown["dqn"]["y"][-1] == pytest.approx(mean, rel=1e-5)
    assert shown["dqn, evaluation"]["x"] == [400_000, 800_000, 1_200_000, 1_600_000, 2_000_000]
    curve = published_curve("pong", "DQN")
    assert curve is not None
    assert shown["DQN, published"]["y"] == pytest.approx(curve.mean[:3].tolist(), rel=1e-5)
    assert "C51, published" not in shown


def test_series_are_switched_off_and_on_by_key_and_by_mouse(opened: Opened) -> None:
    page = opened.page
    button = page.locator(f"{CHART} .series", has_text="qrdqn")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert {"qrdqn", "qrdqn, evaluation", "qrdqn, spread"}.isdisjoint(traces(page, CHART))
    assert "dqn" in traces(page, CHART)
    button.click()
    assert "qrdqn" in traces(page, CHART)
    published = page.locator(f"{CHART} .series", has_text="C51")
    published.click()
    assert "C51, published" in traces(page, CHART)
    published.click()
    assert "C51, published" not in traces(page, CHART)


def test_the_axis_is_wall_clock_by_choice(opened: Opened) -> None:
    page = opened.page
    page.locator(f"{CHART} label", has_text="wall-clock").click()
    shown = traces(page, CHART)
    assert shown["dqn, evaluation"]["x"][-1] == pytest.approx(STEPS / 100 / 3600, rel=1e-5)
    assert "DQN, published" not in shown  # of which no times are known
    page.locator(f"{CHART} input[value=hours]").press("ArrowLeft")
    assert traces(page, CHART)["dqn, evaluation"]["x"][-1] == 4 * STEPS


@pytest.mark.slow
def test_another_measure_by_choice(opened: Opened) -> None:
    measure = opened.page.locator(f"{CHART} .measure")
    usual = measure.input_value()
    measure.select_option("loss")
    shown = traces(opened.page, CHART)
    assert shown["dqn"]["y"][0] == pytest.approx(1.0)
    assert "dqn, evaluation" not in shown
    title = opened.page.evaluate("(at) => document.querySelector(at).layout.yaxis.title.text", f"{CHART} .chart")
    assert title == "loss"
    measure.select_option(usual)


def test_each_environment_has_its_chart(opened: Opened) -> None:
    assert opened.page.locator("#curves .chart .main-svg:first-child").count() == 3
    assert set(traces(opened.page, '#curves [data-chart="2"]')) == {"classic", "classic, spread", "classic, evaluation"}


def test_text_of_runs_is_no_markup(opened: Opened) -> None:
    assert opened.page.locator("main b").count() == 0
    assert opened.page.locator("summary", has_text="<b>classic").count() == 1


EVIL = '<a href="https://evil.example/">%{x}</a>'


@pytest.mark.slow
def test_no_label_of_a_run_is_a_link(browser: Browser, tmp_path: Path) -> None:
    runs = write_suite(tmp_path / "runs", GAMES, {"dqn": [[10.0, 7.0]]})
    runs.append(write_run(tmp_path / "runs" / EVIL.replace("/", "_"), "classic", EVIL))
    for run in runs:
        config = json.loads((run / "config.json").read_text())
        odd = {"preset": f"{config['preset']} {EVIL}", "agent": config["agent"] | {"learning_rate": 0.123}}
        (run / "config.json").write_text(json.dumps(config | odd))  # of no preset, whose name would be shown
    write_report(runs, tmp_path / "report.html", ReportOptions(episodes=0))
    opened = open_page(browser, (tmp_path / "report.html").as_uri())
    page = opened.page
    page.wait_for_selector("#across .intervals .main-svg")
    names = page.locator("#across .intervals .ytick text").all_text_contents()
    assert any(f"dqn {EVIL}" in name for name in names)  # letter by letter
    page.evaluate(
        """[...document.querySelectorAll(".chart")].forEach((div) => {
          const lines = div.data.flatMap(({ hovertemplate }, curveNumber) => hovertemplate ? [curveNumber] : []);
          Plotly.Fx.hover(div, [{ curveNumber: lines[0], pointNumber: 0 }]);
        })"""
    )
    page.wait_for_selector("#curves .hoverlayer text")
    told = " ".join(page.locator("#curves .hoverlayer text").all_text_contents())
    assert "<a href" in told
    links = page.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href') ?? a.href.baseVal)")
    assert links
    assert all(link.startswith("#") for link in links)
    assert opened.complaints == []
    opened.close()


@pytest.mark.slow
def test_colours_follow_the_scheme(browser: Browser, report: str) -> None:
    line = "document.querySelector('#curves .chart').data.find(({name}) => name === 'dqn').line.color"
    opened = open_page(browser, report)
    opened.page.wait_for_selector("#curves .main-svg")
    colours = {"light": ("rgb(255, 255, 255)", "#0072b2"), "dark": ("rgb(20, 23, 26)", "#56b4e9")}
    for scheme in ("light", "dark", "light"):
        opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        ground, colour = colours[scheme]
        for _ in range(100):  # it is drawn anew in one of the next frames
            opened.page.wait_for_timeout(20)
            if opened.page.evaluate(line) == colour:
                break
        assert opened.page.evaluate(line) == colour
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == ground
    assert opened.complaints == []
    opened.close()


@pytest.mark.slow
def test_names_of_agents_break_between_words_alone(browser: Browser, tmp_path: Path) -> None:
    changes = {"learning_rate_end": 2e-5, "learning_rate_steps": 700_000, "adam_epsilon": 3e-4}
    run = write_run(tmp_path / "run", "quick_dqn", **changes)
    write_report([run], tmp_path / "report.html")
    opened = open_page(browser, (tmp_path / "report.html").as_uri())
    opened.page.wait_for_selector("#curves .main-svg")
    cell = opened.page.locator("#summary tbody th").first
    lines = cell.evaluate("(th) => th.clientHeight / parseFloat(getComputedStyle(th).lineHeight)")
    assert lines < 8  # of words: quick_dqn, and three settings with their values
    opened.close()


@pytest.mark.slow
def test_a_phone_scrolls_one_way(browser: Browser, report: str) -> None:
    opened = open_page(browser, report, width=390, height=800)
    opened.page.wait_for_selector("#curves .main-svg")
    assert not is_wider_than_window(opened.page)
    widths = opened.page.evaluate("[...document.querySelectorAll('.chart .main-svg')].map((e) => e.clientWidth)")
    assert max(widths) <= 390
    opened.close()


def test_everything_is_reached_by_keyboard(opened: Opened) -> None:
    page = opened.page
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")  # as at the beginning
    missing = {"skip", "A", "scroll", "INPUT", "measure", "series", "SUMMARY"}
    for _ in range(150):
        page.keyboard.press("Tab")
        missing.discard(page.evaluate("document.activeElement.className || document.activeElement.tagName"))
        if not missing:
            break
    assert missing == set()


class TestAcross:
    def test_agents_and_intervals(self, opened: Opened) -> None:
        points = opened.page.evaluate(
            "document.querySelector('#across .intervals').data.map(({name, x, error_x}) => [name, x[0], error_x])"
        )
        assert len(points) == 4 * 7  # metrics × two agents and five published
        cells = opened.page.locator("#across tbody").first.locator("tr").first.locator("td")
        assert cells.nth(1).inner_text().startswith(f"{points[0][1]:.3f} (")
        assert points[0][2]["array"][0] > 0
        assert points[2][2] is None  # of a published mean
        button = opened.page.locator("#across .series", has_text="qrdqn")
        button.click()
        assert "qrdqn" not in traces(opened.page, "#across .profiles")
        assert "dqn" in traces(opened.page, "#across .profiles")
        button.click()
        assert "qrdqn" in traces(opened.page, "#across .profiles")
