"""Jobs on a real cluster of two nodes, raised as a user raises it: ray start, a token, ray job
submit.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.commands import advrec
from tests.runs import blocks, ready_run, rows, write_study

REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
pytestmark = pytest.mark.ray
READY_S, RAISED_S = 240, 90  # beside other work
# urlopen keeps the proxies of the environment at its first call in a process, which may have been a
# test's of ImageNet weights.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


class Nodes:
    """A head without work and, for jobs, a node of two cores."""

    def __init__(self, directory):
        port, dashboard, self.metrics, *agents = free_ports(5)
        self.token = secrets.token_hex(32)
        self.url = f"http://127.0.0.1:{dashboard}"
        unset = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = unset | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_ADDRESS": self.url,
        }
        self.processes = []
        self.directory, self.port, self.dashboard, self.agents = directory, port, dashboard, agents
        self.said = Path(f"{directory}.log")

    def raise_head(self):
        head = [
            "--head",
            "--num-cpus=0",
            f"--port={self.port}",
            f"--dashboard-port={self.dashboard}",
        ]
        head.append(f"--metrics-export-port={self.metrics}")
        head += [
            f"--temp-dir={self.directory}/head",
            f"--dashboard-agent-listen-port={self.agents[0]}",
        ]
        self.processes.append(self.start(*head))
        self.wait_until(lambda: self.status(self.token) == 200, RAISED_S)

    def raise_node(self):
        # A directory of its own, as on a machine of its own: in a common one both would unpack a
        # job's files into the same place.
        node = [
            f"--address=127.0.0.1:{self.port}",
            "--num-cpus=2",
            f"--temp-dir={self.directory}/node",
        ]
        node += [f"--dashboard-agent-listen-port={self.agents[1]}"]
        self.processes.append(self.start(*node))
        # an agent that takes jobs
        self.wait_until(lambda: self.submit("true").returncode == 0, RAISED_S)

    def start(self, *arguments):
        command = [RAY, "start", "--block", "--disable-usage-stats", *arguments]
        environment = {
            name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"
        }
        with self.said.open("a") as said:
            return subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def wait_until(self, ready, seconds=READY_S):
        deadline = time.monotonic() + seconds
        while not ready():
            late = time.monotonic() > deadline
            assert not late, (
                f"not within {seconds} s; the dashboard says {self.status(self.token)}, "
                f"ray start {self.said.read_text()}"
            )
            time.sleep(1)

    def status(self, token):
        """What the dashboard, which takes jobs, answers."""
        request = urllib.request.Request(
            f"{self.url}/api/jobs/", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        try:
            with DIRECT.open(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def submit(self, *entrypoint, working_dir=None, wait=True):
        options = [] if working_dir is None else ["--working-dir", str(working_dir)]
        command = [
            RAY,
            "job",
            "submit",
            *options,
            *([] if wait else ["--no-wait"]),
            "--",
            *map(str, entrypoint),
        ]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=280
        )

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what is left of it


@contextlib.contextmanager
def raised(*, with_node):
    # Ray's sockets lie below it, and their paths may have 107 characters: pytest's own directories
    # are too deep.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory:
        for attempt in range(3):  # a port that was free may be taken when Ray comes to it
            started = Nodes(f"{directory}/{attempt}")
            try:
                started.raise_head()
                if with_node:
                    started.raise_node()
                break
            except AssertionError:
                started.stop()
                if attempt == 2:
                    raise
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="module")
def nodes():
    with raised(with_node=True) as started:
        yield started


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a user submits: the working directory, with a study of a run that is ready to be
    evaluated.
    """
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("advrec", "jobs"):
        shutil.copytree(
            REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    run = ready_run(directory.with_name(f"{directory.name}-run"))
    write_study(
        directory / "study.yaml",
        run,
        evaluation={"attacks": ["pgd-500"], "block": 1},
        resources={"actors": 2},
    )
    return directory, run.directory


def test_without_the_token_nothing_is_answered():
    with raised(with_node=False) as head:
        assert head.status(None) == 401
        assert head.status("0" * 64) == 403
        assert head.status(head.token) == 200


@pytest.mark.slow
def test_a_job_refuses_results_that_would_vanish_with_its_directory(nodes, checkout):
    for out in (["--out", "results/x"], []):
        refused = nodes.submit(
            sys.executable, "jobs/evaluate.py", "study.yaml", *out, working_dir=checkout[0]
        )
        assert refused.returncode != 0
        assert "exit code 2" in refused.stdout + refused.stderr
        assert "would vanish with it; name an absolute --out" in refused.stdout + refused.stderr


@pytest.mark.slow
def test_a_job_whose_driver_is_killed_goes_on_when_it_is_submitted_again(nodes, checkout, tmp_path):
    """And gives the rows of the same study on this machine alone; while it works, the metrics
    endpoint counts tuples.
    """
    directory, ready = checkout
    run, alone = tmp_path / "run", tmp_path / "alone"
    shutil.copytree(ready, run)
    shutil.copytree(ready, alone)
    command = (sys.executable, "jobs/evaluate.py", "study.yaml", "--out", run)
    assert nodes.submit(*command, working_dir=directory, wait=False).returncode == 0
    nodes.wait_until(lambda: len(blocks(run)) >= 2)
    nodes.wait_until(lambda: "ray_advrec_tuples_total" in metrics(nodes))
    kill_driver(run)
    finished = blocks(run)
    assert len(finished) < 12, "the kill came too late to show anything"
    again = nodes.submit(*command, working_dir=directory)
    assert again.returncode == 0, again.stdout + again.stderr
    after = blocks(run)
    assert {name: after[name] for name in finished} == finished
    here = ("--out", alone, "--set", "resources.actors=0")
    assert advrec("evaluate", directory / "study.yaml", *here, cwd=tmp_path).returncode == 0
    assert rows(run).equals(rows(alone))
    assert len(rows(run)) == 12 * 2


def metrics(nodes):
    with DIRECT.open(f"http://127.0.0.1:{nodes.metrics}/metrics", timeout=10) as answer:
        return answer.read().decode()


def kill_driver(run):
    pid = int((run / ".lock").read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
