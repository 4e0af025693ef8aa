"""Cores and memory under the limits of containers."""

import os
from pathlib import Path

import pytest
import torch

from pixelq.agents.config import machine_limits
from pixelq.agents.config.machine_limits import free_memory, usable_cores

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free and eight cores, whose files lie in a folder."""
    monkeypatch.setattr(machine_limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine_limits, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(machine_limits, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    return tmp_path


def write(machine: Path, own: str, files: dict[str, str]) -> None:
    (machine / "own").write_text(own)
    for name, text in files.items():
        path = machine / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_limits_the_machine_counts(machine: Path) -> None:
    assert (usable_cores(), free_memory(CPU)) == (8, 8_192_000_000)
    write(machine, "0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "5\n", "a/cpu.max": "max 100000\n"})
    assert (usable_cores(), free_memory(CPU)) == (8, 8_192_000_000)


def test_version_2_limits_by_every_group_above(machine: Path) -> None:
    files = {
        "a/memory.max": "3000000000\n",
        "a/memory.current": "1200000000\n",
        "a/memory.stat": "anon 700000000\ninactive_file 200000000\n",
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "7\n",
        "a/b/cpu.max": "250000 100000\n",
    }
    write(machine, "0::/a/b\n", files)
    assert (usable_cores(), free_memory(CPU)) == (2, 2_000_000_000)


def test_version_1_limits_too(machine: Path) -> None:
    files = {
        "memory/job/memory.limit_in_bytes": "1000000000\n",
        "memory/job/memory.usage_in_bytes": "400000000\n",
        "memory/job/memory.stat": "total_inactive_file 100000000\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.usage_in_bytes": "400000000\n",
        "cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
    }
    write(machine, "4:memory:/job\n3:cpu,cpuacct:/job\n", files)
    assert (usable_cores(), free_memory(CPU)) == (1, 700_000_000)


def test_a_container_finds_its_group_at_the_root(machine: Path) -> None:
    files = {"memory.max": "500000000\n", "memory.current": "100000000\n", "cpu.max": "300000 100000\n"}
    write(machine, "0::/docker/0123\n", files)
    assert (usable_cores(), free_memory(CPU)) == (3, 400_000_000)


def test_what_cannot_be_read_limits_nothing(machine: Path) -> None:
    (machine / "meminfo").unlink()
    write(machine, "what\n0::/\n", {"memory.max": "-1\n", "cpu.max": "\n"})
    assert (usable_cores(), free_memory(CPU)) == (8, None)
