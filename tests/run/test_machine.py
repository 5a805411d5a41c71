"""What this process may use of its machine, with control groups as files that a test writes."""

import pytest
import yaml

from advrec.distributed import session
from advrec.run import machine
from tests.commands import advrec
from tests.conftest import STUDY


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes control groups: the lines of /proc/self/cgroup, and texts by path below their root."""

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for path, text in files.items():
            (tmp_path / "groups" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / path).write_text(text)

    monkeypatch.setattr(machine, "OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    return write


V1 = "3:cpu,cpuacct:/a\n2:memory:/b\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),  # in a container
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        # a group of a service: its slice has a limit of its own
        ("0::/s/t\n", {"s/cpu.max": "200000 100000", "s/t/cpu.max": "450000 100000"}, 2),
        (V1, {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, 4),
        (V1, {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"cpu/b/cpu.cfs_quota_us": "100000", "cpu/b/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_are_those_of_affinity_and_of_every_quota(groups, own, files, expected):
    groups(own, files)
    assert machine.cores() == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 8000 * 1024),
        ("0::/\n", {"memory.max": "max", "memory.current": "5000"}, 8000 * 1024),
        (
            "0::/s\n",
            {
                "s/memory.max": "1000000",
                "s/memory.current": "700000",
                "s/memory.stat": "anon 100\ninactive_file 250000\nactive_file 9",
            },
            550000,
        ),
        (
            V1,
            {
                "memory/b/memory.limit_in_bytes": "1000000",
                "memory/b/memory.usage_in_bytes": "1100000",
                "memory/b/memory.stat": "cache 1",
            },
            0,
        ),
    ],
)
def test_free_memory_is_that_of_the_machine_and_of_every_limit(
    groups, monkeypatch, tmp_path, own, files, expected
):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 9 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    groups(own, files)
    assert machine.free_memory() == expected


def test_no_room_is_counted_by_this_number_everywhere(groups, tmp_path):
    """A dry run refuses the second process on a quota of one core, as Ray would."""
    groups("0::/\n", {"cpu.max": "100000 100000"})
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY | {"resources": {"actors": 2}}))
    refused = advrec("study", "s.yaml", "--dry-run", cwd=tmp_path)
    assert refused.returncode == 1
    assert "there is room for 1" in refused.stderr


def test_ray_is_told_how_many_cores_there_are(groups, monkeypatch):
    groups("0::/\n", {"cpu.max": "300000 100000"})
    told = {}
    monkeypatch.setattr("ray.init", lambda **options: told.update(options))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with session.session():
        assert told["num_cpus"] == 3
    told.clear()
    with session.session("auto"):
        assert "num_cpus" not in told  # a cluster knows its own
