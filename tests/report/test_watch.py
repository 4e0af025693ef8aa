"""`pixelq watch`: a run's progress file, the answers and refusals of the server, and the page in a browser."""

import asyncio
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import httpx
import pytest

from pixelq.agents.errors import InvalidRun
from pixelq.agents.report import watch_data as live_data
from pixelq.agents.report.watch import allowed_hosts, is_any, listen, make_app, make_server, watch_runs
from pixelq.agents.report.watch_data import LiveRun, TableTail
from pixelq.agents.runs.progress import PROGRESS, Progress, read_progress
from tests.support.report_runs import ROWS, STEPS, level, write_run
from tests.support.runs import TINY, Harness, run_here, words

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.browser import Opened

METRICS_ROW = "{step},{frames},{episodes},5.5,5.5,100,0.25,0.5,0.01,7,123,{seconds},0,,5.5\n"
NOW = Progress(
    "training", 0.0, 510_000, 1_000_000, 2_040_000, 104, 127_500, 0.05, 88.0, 5_570.0, 5_100.0, (1.5, -2.0), (30, 41)
)


def add_row(run: Path, step: int, end: str = "\n") -> None:
    with (run / "metrics.csv").open("a", newline="") as file:
        row = METRICS_ROW.format(step=step, frames=4 * step, episodes=step // 5000, seconds=step / 100)
        file.write(row.replace("\n", end))


def cut_after_300_000(run: Path) -> None:
    """Cut the metrics off after step 300,000, as resuming a run from there does."""
    table, aside = run / "metrics.csv", run / "aside"
    aside.write_text("".join(table.read_text().splitlines(keepends=True)[:31]))
    aside.replace(table)


def say(run: Path, **changes: Any) -> None:
    """Write a current progress.json."""
    (run / PROGRESS).write_text(json.dumps(asdict(NOW) | {"written": time.time()} | changes))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on Pong that has taken half of its million steps."""
    path = write_run(tmp_path / "run", is_finished=False)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"steps": 1_000_000, "num_envs": 2}))
    say(path)
    return path


class TestProgressFile:
    def test_a_run_that_ended_says_so(self, whole: Path) -> None:
        progress = read_progress(whole)
        assert progress is not None
        assert (progress.phase, progress.step, progress.steps, progress.seconds_left) == ("finished", 120, 120, 0)
        last = (whole / "metrics.csv").read_text().splitlines()[-1].split(",")
        assert [progress.frames, progress.episodes, progress.updates] == [int(last[1]), int(last[2]), int(last[9])]
        assert len(progress.returns) == len(progress.lengths) == 2
        assert progress.steps_per_second is not None
        assert progress.steps_per_second > 0
        assert abs(progress.written - (whole / PROGRESS).stat().st_mtime) < 60
        assert not list(whole.glob(".*partial"))

    def test_a_run_that_was_stopped_says_so(self, stopped: Path) -> None:
        progress = read_progress(stopped)
        assert progress is not None
        assert progress.phase == "stopped"
        assert 0 < progress.step < progress.steps == 120

    def test_while_it_runs(self, harness: Harness, tmp_path: Path) -> None:
        out = tmp_path / "run"
        phases = {"pixelq.agents.runs.progress.EVERY": 0.0}
        child = harness.start(["train", *words(TINY, out=out, steps=2_000_000)], phases)
        child.wait_for(out / PROGRESS)
        first = eventually(lambda: read_progress(out))
        later = eventually(lambda: (now := read_progress(out)) and now.step > max(first.step, 100) and now)
        child.send(9)
        child.wait()
        assert later.phase == "training"
        assert later.steps == 2_000_000
        assert later.seconds_left == pytest.approx((2_000_000 - later.step) / later.steps_per_second)
        assert all(0 <= length <= 30 for length in later.lengths)

    def test_a_failed_run_says_so(self, harness: Harness, tmp_path: Path) -> None:
        out = tmp_path / "run"
        ended = harness.run(["train", *words(TINY, out=out), "--agent.learning-rate", "1e38"])
        assert ended.code == 1, ended
        assert "try another run with a lower learning_rate" in ended.err
        progress = read_progress(out)
        assert progress is not None
        assert progress.phase == "failed"

    def test_a_file_that_cannot_be_written_stops_no_run(self, harness: Harness, tmp_path: Path) -> None:
        out = tmp_path / "run"
        (out / PROGRESS).mkdir(parents=True)  # no file can take its place
        ended = harness.run(["train", *words(TINY, out=out)])
        assert ended.code == 0, ended.err
        assert read_progress(out) is None
        assert not list(out.glob(".*partial"))

    @pytest.mark.parametrize(
        "change",
        [
            {"step": -1}, {"step": 1.5}, {"step": True}, {"steps": None}, {"phase": "dancing"}, {"written": "now"},
            {"epsilon": None}, {"returns": [1.0]}, {"returns": 3}, {"lengths": [1.5, 2]}, {"returns": ["<b>", 1]},
            {"written": 1e300}, {"frames": 10**400}, {"steps_per_second": [1]},
        ],
    )  # fmt: skip
    def test_a_damaged_file_is_none(self, tmp_path: Path, change: dict[str, Any]) -> None:
        say(tmp_path, phase="evaluating", seconds_left=None, returns=[None, 2], more="unknown")
        whole = read_progress(tmp_path)
        assert whole is not None
        assert (whole.phase, whole.seconds_left, whole.returns) == ("evaluating", None, (None, 2))
        say(tmp_path, **change)
        assert read_progress(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"step": NaN}', "\xff", "1" * 5000])
    def test_what_is_no_progress_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / PROGRESS).write_bytes(text.encode("latin-1"))
        assert read_progress(tmp_path) is None


class TestTableTail:
    @pytest.fixture
    def table(self, tmp_path: Path) -> TableTail:
        return TableTail(tmp_path / "table.csv", ("step", "loss"))

    def rows(self, table: TableTail) -> list[list[float | None]]:
        table.refresh()
        return table.rows

    def test_it_grows(self, table: TableTail) -> None:
        assert self.rows(table) == []  # it is not there yet
        table.path.write_text("step,more,loss\n")
        assert self.rows(table) == []
        with table.path.open("a") as file:
            file.write("1,x,0.5\n2,x,")
            file.flush()
            assert self.rows(table) == [[1, 0.5]]  # the last line is half written
            file.write("0.25\n3,x,\n")
        assert self.rows(table) == [[1, 0.5], [2, 0.25], [3, None]]
        assert table.readings == 1

    def test_rows_may_end_in_cr_lf(self, table: TableTail) -> None:
        table.path.write_bytes(b"step,loss\r\n1,0.5\r\n2,0.25\r\n")
        assert self.rows(table) == [[1, 0.5], [2, 0.25]]

    def test_what_is_no_row_is_left_out(self, table: TableTail) -> None:
        table.path.write_bytes(b"step,loss\n1,nan\n\n2\nx,1\n3,1,1\n4,\xff\n4,9\n3,1\n5,inf\n6,1\n")
        assert self.rows(table) == [[1, None], [4, None], [5, None], [6, 1]]

    def test_a_table_that_is_replaced_is_read_anew(self, table: TableTail) -> None:
        table.path.write_text("step,loss\n1,1\n2,2\n3,3\n")
        assert len(self.rows(table)) == 3
        other = table.path.with_name("other")
        other.write_text("step,loss\n1,1\n2,2\n")
        other.replace(table.path)  # as a run's resuming does
        assert self.rows(table) == [[1, 1], [2, 2]]
        assert table.readings == 2

    @pytest.mark.parametrize(
        "text", ["step,loss\n1,1\n", "step,loss\n7,7\n8,8\n9,9\n", "step,loss\n7,7\n8,8\n9,9\n10,10\n"]
    )
    def test_a_table_that_is_written_over_is_read_anew(self, table: TableTail, text: str) -> None:
        table.path.write_text("step,loss\n1,1\n2,2\n3,3\n")
        assert len(self.rows(table)) == 3
        table.path.write_text(text)
        os.utime(table.path, ns=(1, 1))
        assert self.rows(table) == [[float(x) for x in line.split(",")] for line in text.split()[1:]]
        assert table.readings == 2

    def test_a_table_that_is_gone_has_no_rows(self, table: TableTail) -> None:
        table.path.write_text("step,loss\n1,1\n")
        assert len(self.rows(table)) == 1
        table.path.unlink()
        assert self.rows(table) == []
        os.mkfifo(table.path)  # which would be waited for
        assert self.rows(table) == []

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
    def test_no_more_than_the_size_of_a_table_is_read(self, table: TableTail, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a file of the kernel, such as /proc/kmsg, whose size is 0, it may never come."""
        taken = []
        monkeypatch.setattr(table, "_take", taken.append)
        table.path.symlink_to("/proc/uptime")
        table.refresh()
        assert taken == [b""]

    def test_a_long_table_is_read_in_parts(self, table: TableTail, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_data, "MOST_BYTES", 64)
        lines = [f"{step},{step % 7}" for step in range(100)]
        table.path.write_text("\n".join(["step,loss", *lines[:50], "x" * 300, *lines[50:]]) + "\n")
        table.refresh()
        assert 0 < len(table.rows) < 20
        assert table.is_behind
        for _ in range(20):
            table.refresh()
        assert not table.is_behind
        assert table.rows == [[step, step % 7] for step in range(100)]
        assert table.readings == 1

    def test_rows_of_a_long_table_are_put_together(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_data, "MOST_KEPT", 10)
        table = TableTail(tmp_path / "table.csv", ("step", "frames", "loss"))
        rows = "".join(f"{step},{4 * step},{'' if step == 2 else step}\n" for step in range(1, 26))
        table.path.write_text(f"step,frames,loss\n{rows}")
        table.refresh()
        assert table.rows[:3] == [[2, 8, 1], [4, 16, 3.5], [6, 24, 5.5]]
        assert [row[0] for row in table.rows] == table.steps == [*range(2, 21, 2), *range(21, 26)]


class Server:
    """Server of the page of a run, and perhaps of others, in a thread of this process."""

    def __init__(self, run: Path, hosts: list[str] | None = None, port: int = 0, others: tuple[Path, ...] = ()) -> None:
        self.run = run
        self.socket = listen("127.0.0.1", port)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.server = make_server(make_app([run, *others], allowed_hosts(hosts or [])))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        self.client = httpx.Client(trust_env=False, verify=False)

    def ask(self, path: str = "data", host: str | None = None, method: str = "GET", **headers: str) -> httpx.Response:
        named = {} if host is None else {"Host": host}
        return self.client.request(method, self.url + path, headers={**named, **headers})

    def data(self, query: str = "") -> Any:
        response = self.ask(f"data{query}")
        assert response.status_code == 200, response.text
        return response.json()

    def close(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.socket.close()


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    server = Server(run)
    yield server
    server.close()


def eventually(what: Callable[[], Any], seconds: float = 45.0) -> Any:
    """Call a function until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


class TestServer:
    def test_figures(self, server: Server) -> None:
        told = server.data()
        assert told["run"] == {
            "name": "run", "env": "ALE/Pong-v5", "protocol": "sticky", "preset": "dqn", "seed": "0", "num_envs": 2,
            "device": "Test <CPU>", "version": "0.2.0",
        }  # fmt: skip
        assert told["state"] == "training"
        assert told["progress"]["returns"] == [1.5, -2.0]
        assert told["progress"]["seconds_left"] == 5570
        assert (told["total"], len(told["metrics"]), len(told["evaluations"])) == (ROWS, ROWS, 5)
        last = dict(zip(told["columns"]["metrics"], told["metrics"][-1], strict=True))
        assert (last["step"], last["frames"], last["return_mean"], last["loss"]) == (STEPS, 4 * STEPS, 19.8, 1 / 50)
        assert told["evaluations"][0] == [100_000, 4, 3, 6, 10]
        assert told["published"]["agent"] == "DQN"
        assert told["published"]["frames"] == [5e5, 1.5e6, 2.5e6, 3.5e6, 4.5e6]  # as far as the run is to go
        assert told["final"] is None

    def test_a_run_whose_evaluations_are_cut_off_says_so_and_has_no_published_curve(self, server: Server) -> None:
        config = json.loads((server.run / "config.json").read_text())
        (server.run / "config.json").write_text(json.dumps(config | {"evaluation_episode_steps": 4_500}))
        told = server.data()
        assert told["run"]["protocol"] == "sticky, games of evaluations cut off after 4,500 steps"
        assert told["published"] is None

    def test_a_flickering_run_has_no_published_curve(self, server: Server) -> None:
        config = json.loads((server.run / "config.json").read_text())
        for rules in ({"flicker": 0.25}, {"protocol": "sticky+flicker=0.25"}):  # as 0.1.0 and later versions write it
            (server.run / "config.json").write_text(json.dumps(config | rules))
            told = server.data()
            assert told["run"]["protocol"] == "sticky with 25% of the frames black"
            assert told["published"] is None

    def test_only_what_is_new(self, server: Server) -> None:
        told = server.data("?since=480000&evaluated=400000")
        assert [row[0] for row in told["metrics"]] == [490_000, 500_000]
        assert [row[0] for row in told["evaluations"]] == [500_000]
        assert "published" not in told
        add_row(server.run, 510_000)
        (server.run / "metrics.csv").open("a").write("520000,2080")  # half a row
        told = server.data("?since=500000&evaluated=500000")
        assert [row[0] for row in told["metrics"]] == [510_000]
        assert told["evaluations"] == []
        assert server.data("?since=999999")["metrics"] == []

    def test_long_tables_come_in_parts(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live_data, "MOST_ROWS", 20)
        told = server.data()
        steps = [row[0] for row in told["metrics"]]
        while len(steps) < told["total"]:
            steps += [row[0] for row in server.data(f"?since={steps[-1]:.0f}")["metrics"]]
        assert steps == [STEPS // ROWS * row for row in range(1, ROWS + 1)]

    def test_long_values_are_cut_off(self, run: Path) -> None:
        config = json.loads((run / "config.json").read_text())
        long = dict.fromkeys(("preset", "env", "protocol", "seed", "version"), "a\n" * 50_000)
        odd = {"agent": config["agent"] | {"learning_rate": 0.123}}  # of no preset, whose name would be shown
        (run / "config.json").write_text(json.dumps(config | odd | long))
        say(run, returns=[1.0] * 50_000, lengths=[2] * 50_000)
        told = LiveRun(run).answer()
        assert told["run"]["preset"] == "a?" * 39 + "a…"
        assert len(json.dumps(told["run"])) < 1000
        assert (told["progress"]["environments"], len(told["progress"]["returns"])) == (50_000, 100)

    def test_several_runs(self, run: Path, tmp_path: Path) -> None:
        server = Server(run, others=(write_run(tmp_path / "other", "c51", mean=5.0),))
        try:
            one, other = server.data("?run=0"), server.data("?run=1&since=480000")
            assert (one["runs"], one["run"]["name"], other["run"]["name"]) == (2, "run", "other")
            assert [row[0] for row in other["metrics"]] == [490_000, 500_000]
            for wrong in ("2", "-1", "x", "1" * 9):
                assert server.ask(f"data?run={wrong}").status_code == 400
            shutil.rmtree(run)
            assert server.ask("data?run=0").json()["runs"] == 2
            assert server.data("?run=1")["final"]["mean"] == 5
        finally:
            server.close()

    def test_in_the_background_of_a_notebook(self, run: Path) -> None:
        async def cell() -> httpx.Response:
            with watch_runs(run) as watching:
                async with httpx.AsyncClient(trust_env=False, verify=False) as client:
                    assert watching.address in watching._repr_html_()
                    return await client.get(f"{watching.address}data")

        with ThreadPoolExecutor() as threads:  # in this thread Playwright may run a loop of its own
            assert threads.submit(lambda: asyncio.run(cell())).result().json()["run"]["name"] == "run"
        with pytest.raises(InvalidRun, match="no run in"):
            watch_runs([run / "none"])

    def test_a_resumed_run_whose_rows_were_cut_has_another_version(self, server: Server) -> None:
        before = server.data()["version"]
        assert server.data("?since=500000")["version"] == before
        add_row(server.run, 510_000)
        assert server.data("?since=500000")["version"] == before
        cut_after_300_000(server.run)
        told = server.data()
        assert told["version"] != before
        assert told["metrics"][-1][0] == 300_000

    def test_tables_that_come_later(self, run: Path) -> None:
        for name in ("metrics.csv", "evaluations.csv", PROGRESS):
            (run / name).rename(run / f"later-{name}")
        server = Server(run)
        try:
            told = server.data()
            assert (told["metrics"], told["evaluations"], told["state"]) == ([], [], "unknown")
            for name in ("metrics.csv", "evaluations.csv", PROGRESS):
                (run / f"later-{name}").rename(run / name)
            told = server.data("?since=0")
            assert (told["total"], len(told["evaluations"]), told["state"]) == (ROWS, 5, "training")
        finally:
            server.close()

    @pytest.mark.parametrize(
        ("changes", "age", "state"),
        [
            ({}, 10, "training"), ({}, 70, "silent"), ({"phase": "evaluating"}, 10, "evaluating"),
            ({"phase": "evaluating"}, 3600, "silent"), ({"phase": "finished"}, 3600, "finished"),
            ({"phase": "stopped"}, 10, "stopped"), ({"phase": "failed"}, 10, "failed"), ({}, -3600, "training"),
            ({"step": -1}, 0, "unknown"),
        ],
    )  # fmt: skip
    def test_states(self, run: Path, changes: dict[str, Any], age: float, state: str) -> None:
        say(run, **changes, written=time.time() - age)
        assert LiveRun(run).answer()["state"] == state

    def test_a_run_without_progress(self, tmp_path: Path) -> None:
        run = write_run(tmp_path / "run")
        told = LiveRun(run).answer()
        assert told["state"] == "finished"  # its last row is that of its last step
        assert told["progress"]["steps"] == told["progress"]["step"] == STEPS
        assert told["progress"]["wall_seconds"] == STEPS / 100
        assert told["final"] == {"mean": 10, "ci95_low": 9, "ci95_high": 11}
        (run / "final_evaluation.json").write_text('{"ci95": [1, 2]')
        assert LiveRun(run).answer()["final"] is None

    def test_no_step(self, server: Server) -> None:
        for value in ("x", "-2", "1.5", "", "1e3", "%00", "9" * 16, "\u0661", "+1"):
            for name in ("since", "evaluated"):
                response = server.ask(f"data?{name}={value}")
                assert response.status_code == 400
                told = f"{name} must be a step or -1, got {unquote_plus(value)!r}"
                assert response.json() == {"problem": told}

    def test_a_run_that_is_gone_is_told(self, server: Server) -> None:
        shutil.rmtree(server.run)
        response = server.ask()
        assert response.status_code == 503
        assert "no run in" in response.json()["problem"]

    def test_strange_configurations_are_shown(self, run: Path) -> None:
        odd = {
            "env": "a,b\ud800",
            "protocol": "sticky",
            "agent": {},
            "steps": -1,
            "num_envs": "<b>",
            "hardware": [],
            "seed": 10**30,
        }
        (run / "config.json").write_text(json.dumps(odd))
        server = Server(run)
        try:
            assert server.data()["run"]["seed"] == str(10**30)
        finally:
            server.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server of a finished run, for requests that change nothing."""
    server = Server(
        write_run(tmp_path_factory.mktemp("lasting") / "run"), ["0.0.0.0", "train.example.org", "2001:db8::1"]
    )
    yield server
    server.close()


OTHER_NAMES = (
    "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost",
    "192.0.2.1", "0.0.0.0", "*", "", "localhost@evil.example", "user@localhost", "[::1].evil.example",
    "other.example.org", "a.train.example.org",
)  # fmt: skip


class TestRefusals:
    @pytest.mark.parametrize(
        "host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "Train.example.org", "[2001:db8::1]"]
    )
    def test_names_that_are_answered(self, lasting: Server, host: str) -> None:
        assert lasting.ask("data", host).status_code == 200
        assert lasting.ask("data", f"{host}:8000").status_code == 200

    @pytest.mark.parametrize("host", OTHER_NAMES)
    def test_names_that_are_refused(self, lasting: Server, host: str) -> None:
        for path in ("", "data", "nothing"):
            response = lasting.ask(path, host)
            assert response.status_code == 400
            assert "Pong" not in response.text

    def test_which_names_are_allowed(self) -> None:
        assert allowed_hosts(["127.0.0.1", "::", "0.0.0.0", "::1"]) == ["localhost", "127.0.0.1", "[::1]"]
        assert allowed_hosts(["Host", "fe80::1"])[3:] == ["host", "[fe80::1]"]
        assert [is_any(name) for name in ("::", "[::]", "0.0.0.0", "localhost", "127.0.0.1")] == [True] * 3 + [
            False
        ] * 2

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
    def test_nothing_but_reading(self, lasting: Server, method: str) -> None:
        for path in ("", "data"):
            assert lasting.ask(path, method=method).status_code == 405
            assert lasting.ask(path, method="HEAD").status_code == 200

    def test_no_other_files(self, lasting: Server) -> None:
        for path in ("config.json", "../config.json", "%2e%2e/config.json", "data/", "watch.html", "static/style.css"):
            assert lasting.ask(path).status_code == 404

    @pytest.mark.parametrize("path", ["", "data", "watch.js", "nothing", "data?since=x"])
    @pytest.mark.parametrize("host", ["localhost", "evil.example"])
    def test_headers(self, lasting: Server, path: str, host: str) -> None:
        headers = lasting.ask(path, host).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert {policy[name] for name in ("default-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert not {"Access-Control-Allow-Origin", "Server"} & set(headers)

    def test_files_are_kept_by_the_browser_and_figures_are_not(self, lasting: Server) -> None:
        first = lasting.ask("plotly.js")
        assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert first.headers["Cache-Control"] == "no-cache"  # ask each time
        again = lasting.ask("plotly.js", **{"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert lasting.ask("plotly.js", **{"If-None-Match": '"other"'}).status_code == 200
        assert lasting.ask("data").headers["Cache-Control"] == "no-store"

    def test_nothing_is_written(self, lasting: Server) -> None:
        before = {path: path.stat().st_mtime_ns for path in [lasting.run, *lasting.run.rglob("*")]}
        lasting.data()
        lasting.ask("")
        assert {path: path.stat().st_mtime_ns for path in [lasting.run, *lasting.run.rglob("*")]} == before


class TestCommand:
    def test_it_serves_until_it_is_interrupted(self, harness: Harness, run: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        child = harness.start(["watch", str(run), "--port", str(port)])

        def answer() -> httpx.Response | None:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/data", trust_env=False, verify=False)
            except httpx.ConnectError:
                return None

        assert eventually(answer).json()["run"]["env"] == "ALE/Pong-v5"
        child.send(2)
        ended = child.wait()
        assert ended.code == 130
        assert ended.out == f"watching {run} at http://127.0.0.1:{port}/   (press Ctrl-C to stop)\n"
        assert ended.err == "pixelq watch: stopped\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (
                ["{tmp}/none"],
                "no run in {tmp}/none (No such file or directory: {tmp}/none/config.json); give the folder of",
            ),
            (["{tmp}"], "no run in {tmp} (No such file or directory: {tmp}/config.json); give the folder of a run"),
            (["{run}", "--port", "65536"], "--port must be in [0, 65535], got 65536"),
            (["{run}", "--port", "-1"], "--port must be in [0, 65535], got -1"),
            (
                ["{run}", "--host", "192.0.2.1"],
                "cannot listen at 192.0.2.1 port 8000 (Cannot assign requested address); give another --host or",
            ),
            (["{run}", "--host", "a..b"], "cannot listen at a..b port 8000"),
            (
                ["{run}", "--allow-host", "*"],
                "--allow-host must be a name or an address, such as train.example.org, got '*'",
            ),
            (
                ["{run}", "--allow-host", "http://a"],
                "--allow-host must be a name or an address, such as train.example.org, got 'http://a'",
            ),
            ([], "no run is given; give the folder of one or more"),
        ],
    )
    def test_wrong_input(self, run: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
        places = {"tmp": tmp_path, "run": run}
        ended = run_here(["watch", *(argument.format(**places) for argument in arguments)])
        assert ended.code == 2
        assert said.format(**places) in ended.err
        assert len(ended.err.splitlines()) == 1
        assert ended.out == ""

    def test_a_name_that_nobody_knows(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        ended = run_here(["watch", str(run), "--host", "nobody"])
        assert ended.code == 2
        assert ended.err == (
            "pixelq watch: cannot listen at nobody port 8000 (Name or service not known); "
            "give another --host or --port\n"
        )

    def test_a_port_that_is_taken(self, run: Path, server: Server) -> None:
        ended = run_here(["watch", str(run), "--port", str(server.port)])
        assert ended.code == 2
        assert f"cannot listen at 127.0.0.1 port {server.port} (Address already in use)" in ended.err

    def test_a_library_that_is_not_there(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("uvicorn", "starlette.applications"):
            with monkeypatch.context() as patch:
                patch.setitem(sys.modules, name, None)
                ended = run_here(["watch", str(run), "--port", "0"])
            assert ended.code == 2
            assert (
                ended.err == "pixelq watch: watch needs Starlette, Uvicorn and Plotly: "
                "pip install 'pixelq[report]', or pip install '.[report]' in a checkout\n"
            )


# --- in the browser ---------------------------------------------------------------------------------------------------


def text(opened: "Opened", name: str) -> str:
    return opened.page.locator(f"#{name}").inner_text()


def drawn(opened: "Opened", chart: str, name: str, axis: str = "y") -> list[float] | None:
    """Return the values of a line of a chart, as Plotly has them."""
    script = "([chart, name, axis]) => document.getElementById(chart).data.find((trace) => trace.name === name)?.[axis]"
    found: list[float] | None = opened.page.evaluate(script, [chart, name, axis])
    return found


def until(opened: "Opened", condition: str, seconds: float = 45.0) -> None:
    """Wait until a condition holds in a page. The page's security policy forbids Playwright's own waiting."""
    deadline = time.monotonic() + seconds
    while not opened.page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        opened.page.wait_for_timeout(50)


def ask_now(opened: "Opened") -> None:
    """Let a page ask its server at once, as when it is looked at again, and not only after two seconds."""
    opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def points(number: int) -> str:
    """Return the condition that the loss is drawn with a number of points."""
    return f"document.getElementById('loss').data[0].x.length === {number}"


@pytest.fixture
def opened(browser: "Browser", server: Server) -> "Iterator[Opened]":
    from tests.support.browser import open_page

    opened = open_page(browser, server.url)
    until(opened, points(ROWS))
    yield opened
    opened.close()


class TestPage:
    def test_it_shows_the_run(self, opened: "Opened", server: Server) -> None:
        assert text(opened, "title") == "ALE/Pong-v5"
        assert text(opened, "subtitle") == "dqn · seed 0 · Test <CPU> · 2 environments · protocol sticky · run"
        assert text(opened, "status") == "Training."
        assert text(opened, "step").split("\n") == ["510,000", "of 1,000,000 · 51%"]
        expected = {
            "left": "1 h 33 min", "elapsed": "1 h 25 min", "speed": "88", "frames": "2,040,000", "episodes": "104",
            "epsilon": "0.050", "last-return": "19.8", "current": "Return 1.5 after 30 steps, in environment 1",
            "playing-summary": "All 2 environments",
        }  # fmt: skip
        assert {name: text(opened, name) for name in expected} == expected
        assert text(opened, "last-evaluation").split("\n") == ["20.0", "95%: 19.0 to 22.0"]
        assert text(opened, "running").split() == ["1", "1.5", "30", "2", "−2.0", "41"]
        assert opened.page.evaluate("document.getElementById('bar').position") == 0.51
        assert opened.page.title() == "51% · ALE/Pong-v5 · dqn · run"
        assert drawn(opened, "loss", "loss") == pytest.approx([1 / row for row in range(1, 51)])
        assert drawn(opened, "return", "evaluation") == [4, 8, 12, 16, 20]
        assert drawn(opened, "return", "evaluation", "x") == [4e5, 8e5, 1.2e6, 1.6e6, 2e6]
        assert len(drawn(opened, "return", "DQN, published") or []) == 3
        mean = drawn(opened, "return", "training, mean of 20 points") or []
        assert mean[-1] == pytest.approx(sum(level(10.0, 10_000 * row - 5_000) for row in range(31, 51)) / 20)

        # The axis is chosen by keyboard, and series are switched off.
        opened.page.focus("input[name=axis][value=frames]")
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.evaluate("document.activeElement.value") == "step"
        assert (drawn(opened, "loss", "loss", "x") or [])[-1] == STEPS
        assert drawn(opened, "return", "evaluation", "x") == [1e5, 2e5, 3e5, 4e5, 5e5]
        assert (drawn(opened, "return", "DQN, published", "x") or [])[0] == 125_000
        opened.page.keyboard.press("ArrowRight")
        assert (drawn(opened, "loss", "loss", "x") or [])[-1] == pytest.approx(STEPS / 100 / 3600)
        assert drawn(opened, "return", "DQN, published") is None  # whose time is not known
        button = opened.page.get_by_role("button", name="evaluations, 95% band")
        button.press("Enter")
        assert drawn(opened, "return", "evaluation") is None
        assert button.get_attribute("aria-pressed") == "false"

        assert opened.complaints == []
        assert {asked.split("?")[0] for asked in opened.requests} == {
            server.url + name for name in ("", "style.css", "watch.css", "plotly.js", "charts.js", "watch.js", "data")
        }

    def test_what_comes_is_shown(self, opened: "Opened", server: Server) -> None:
        add_row(server.run, 510_000)
        say(server.run, step=999_000, phase="evaluating", returns=[7.0, 8.0, 9.0], lengths=[1, 2, 3])
        until(opened, points(ROWS + 1))
        assert (drawn(opened, "loss", "loss") or [])[-1] == 0.25
        assert (drawn(opened, "return", "training", "x") or [])[-1] == 2_040_000
        assert text(opened, "last-return") == "5.5"
        assert text(opened, "status") == "Evaluating; training continues afterwards."
        assert text(opened, "current") == "Return 7.0 after 1 steps, in environment 1"
        assert opened.page.locator("#running tr").count() == 3

        cut_after_300_000(server.run)
        add_row(server.run, 305_000)
        ask_now(opened)
        until(opened, points(31))
        assert (drawn(opened, "return", "training", "x") or [])[-2:] == [1_200_000, 1_220_000]

        final = {"env": "ALE/Pong-v5", "protocol": "sticky", "checkpoint": "c", "step": 5, "episodes": 30}
        final |= {"mean": 18.04, "ci95": [17, 19]}
        (server.run / "final_evaluation.json").write_text(json.dumps(final))
        say(server.run, phase="finished", seconds_left=0.0)
        ask_now(opened)
        opened.page.wait_for_selector("#status[data-state=finished]")
        assert text(opened, "status").startswith("Finished at ")
        assert text(opened, "left") == "none"
        until(opened, "document.getElementById('last-evaluation').innerText.startsWith('18.0')")
        assert text(opened, "last-evaluation").split("\n") == ["18.0", "95%: 17.0 to 19.0"]
        assert opened.page.locator("#playing").is_hidden()

        say(server.run, written=time.time() - 150)
        ask_now(opened)
        opened.page.wait_for_selector("#status[data-state=silent]")
        assert text(opened, "status").startswith("Not running: no sign of life since ")
        assert "for 2 min 3" in text(opened, "status")
        assert opened.complaints == []

    def test_several_runs_on_one_page(self, browser: "Browser", run: Path, tmp_path: Path) -> None:
        from tests.support.browser import open_page

        others = tuple(
            write_run(tmp_path / name, "classic", "CartPole-v1", seed, 5.0) for seed, name in enumerate("ab")
        )
        server = Server(run, others=others)
        opened = open_page(browser, server.url)
        until(opened, "document.querySelectorAll('#runs tr').length === 3 && document.title.startsWith('1 of 3')")
        until(opened, "document.getElementById('runs').innerText.includes('CartPole')")
        assert opened.page.locator("#runs tr").nth(1).locator("td").nth(0).inner_text() == "finished"
        assert opened.page.locator("#runs tr").nth(1).locator("td").nth(1).inner_text() == "100% of 500,000"
        assert text(opened, "title") == "run on ALE/Pong-v5"
        opened.page.get_by_role("button", name="b", exact=True).first.click()
        assert text(opened, "title") == "b on CartPole-v1"
        together = opened.page.evaluate("document.getElementById('together').data.map(({name}) => name)")
        assert together == ["a", "b"]  # those on the same environment
        assert opened.page.locator("label.of-frames").is_hidden()  # a step is a frame
        assert (drawn(opened, "loss", "loss", "x") or [])[-1] == STEPS
        assert opened.complaints == []
        opened.close()
        server.close()

    @pytest.mark.slow
    def test_hidden_pages_and_servers_that_are_gone(self, opened: "Opened", server: Server) -> None:
        hide = """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        opened.page.evaluate(hide, True)
        opened.page.wait_for_timeout(200)
        asked = len(opened.requests)
        opened.page.wait_for_timeout(2300)
        assert len(opened.requests) == asked
        opened.page.evaluate(hide, False)
        opened.page.wait_for_timeout(300)
        assert len(opened.requests) > asked

        server.close()
        opened.page.wait_for_selector("#status[data-state=problem]")
        assert text(opened, "status").startswith("The server of this page does not answer.")
        assert text(opened, "step").startswith("510,000")
        add_row(server.run, 510_000)
        other = Server(server.run, port=server.port)
        until(opened, points(ROWS + 1))
        assert text(opened, "status") == "Training."
        shutil.rmtree(server.run)
        opened.page.wait_for_selector("#status[data-state=problem]")
        assert "no run in" in text(opened, "status")
        other.close()

    def test_text_of_a_run_is_no_html(self, browser: "Browser", run: Path) -> None:
        from tests.support.browser import open_page

        evil = "<img src=x onerror=alert(1)>"
        path = run.rename(run.with_name(evil))
        config = json.loads((path / "config.json").read_text())
        evils = {name: evil + name for name in ("env", "preset", "seed", "protocol", "version")}
        evils |= {"hardware": {"cpu": evil, "device": "cpu"}}
        evils |= {"agent": config["agent"] | {"learning_rate": 0.123}}  # of no preset, whose name would be shown
        (path / "config.json").write_text(json.dumps(config | evils))
        server = Server(path)
        opened = open_page(browser, server.url)
        opened.page.wait_for_selector("#status[data-state=training]")
        assert text(opened, "title") == evil + "env"
        assert opened.page.locator("#subtitle").text_content() == (
            f"{evil}preset · seed {evil}seed · {evil} · 2 environments · protocol {evil}protocol · {evil}"
        )
        assert opened.page.locator("img").count() == 0
        assert opened.complaints == []
        opened.close()
        server.close()

    @pytest.mark.slow
    def test_a_phone_in_the_dark(self, browser: "Browser", server: Server) -> None:
        from tests.support.browser import is_wider_than_window, open_page

        opened = open_page(browser, server.url, width=390, dark=True)
        until(opened, points(ROWS))
        assert not is_wider_than_window(opened.page)
        colour = "getComputedStyle(document.body).{}".format
        assert opened.page.evaluate(colour("backgroundColor")) == "rgb(20, 23, 26)"
        assert opened.page.evaluate(colour("color")) == "rgb(232, 234, 237)"
        assert opened.page.evaluate("document.getElementById('loss').layout.font.color") == "#e8eaed"
        assert opened.page.evaluate("document.getElementById('loss').clientWidth") <= 390
        opened.page.emulate_media(color_scheme="light")
        until(opened, "document.getElementById('loss').layout.font.color === '#1b1f24'")
        assert opened.complaints == []
        opened.close()
