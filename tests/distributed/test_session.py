"""The sentences about a Ray that does not start."""

import errno
import os

import pytest

from advrec.distributed import session
from advrec.errors import AdvrecError

LONG = OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: /x/y")
FOREIGN = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/tmp/ray/session_1")


@pytest.mark.parametrize(
    ("error", "address", "words"),
    [
        (LONG, None, ("this machine", "AF_UNIX path length", "set TMPDIR to a directory of your")),
        (FOREIGN, None, ("/tmp/ray/session_1", "set TMPDIR to a directory of your own")),
        (OSError(errno.ENOSPC, "No space left on device"), None, ("No space left", "set TMPDIR")),
        # ray.init raises bare ones, of several lines
        (Exception("timed out during startup.\nmore"), None, ("(timed out during startup.)",)),
        (Exception("No node info"), "auto", ("Ray at auto", "check --address and the token")),
        (ConnectionError("refused"), "auto", ("refused", "check --address and the token")),
    ],
    ids=repr,
)
def test_a_ray_that_does_not_start_is_one_sentence_with_the_remedy(
    monkeypatch, error, address, words
):
    def fail(**_):
        raise error

    monkeypatch.setattr("ray.init", fail)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(AdvrecError) as said, session.session(address):
        pass
    assert all(word in str(said.value) for word in words), said.value
    assert "\n" not in str(said.value)


def test_an_interruption_while_ray_starts_stays_one(monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ray.init", interrupt)
    with pytest.raises(KeyboardInterrupt), session.session():
        pass
