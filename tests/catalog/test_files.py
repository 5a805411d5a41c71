"""Files of a source: on this machine with what must not be read, and on filesystems that a URL names, through real servers and archives."""

import functools
import http.server
import os
import threading
import urllib.parse
import zipfile

import pytest

from advrec.catalog import files, folder
from advrec.catalog.files import LocalRoot, RefusedError, RemoteRoot
from advrec.errors import ConfigError


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    (root / "hat").mkdir(parents=True)
    (root / "shoe").mkdir()
    (root / "hat" / "a b.jpg").write_bytes(b"hat")
    (root / "shoe" / "1.jpg").write_bytes(b"shoe")
    (root / ".hidden").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def test_a_file_is_read_and_a_directory_listed(tree):
    root = files.at(str(tree))
    assert root.read("hat/a b.jpg") == b"hat"
    assert [tuple(entry) for entry in root.entries()] == [("hat", "directory"), ("shoe", "directory")]
    assert [tuple(entry) for entry in root.entries("hat")] == [("hat/a b.jpg", "file")]


def test_what_lies_outside_or_is_no_plain_file_is_refused(tree):
    (tree / "hat" / "link.jpg").symlink_to(tree.parent / "secret")
    (tree / "hat" / "inside.jpg").symlink_to("a b.jpg")
    (tree / "linked").symlink_to(tree.parent)
    os.mkfifo(tree / "hat" / "pipe.jpg")  # reading it would wait for ever
    (tree / "hat" / "directory.jpg").mkdir()
    root = LocalRoot(tree)
    for name, reason in {
        "../secret": "lies outside",
        "hat/../../secret": "lies outside",
        str(tree.parent / "secret"): "lies outside",
        "hat/link.jpg": "is a link",
        "hat/inside.jpg": "is a link",
        "linked/secret": "below one",
        "hat/pipe.jpg": "is not a regular file",
        "hat/directory.jpg": "is not a regular file",
        "hat/gone.jpg": "does not exist",
        "hat/a b.jpg/x": "does not exist",
        "hat/\0.jpg": "cannot be read",
    }.items():
        with pytest.raises(RefusedError, match=reason):
            root.read(name)


def test_the_root_itself_may_be_a_link(tree, tmp_path):
    (tmp_path / "other").symlink_to(tree)
    assert files.at(str(tmp_path / "other")).read("shoe/1.jpg") == b"shoe"


def test_a_file_that_is_too_large_is_refused(tree, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 3)
    assert files.at(str(tree)).read("hat/a b.jpg") == b"hat"
    with pytest.raises(RefusedError, match="is larger than"):
        files.at(str(tree)).read("shoe/1.jpg")


@pytest.fixture
def served(tree):
    """The tree behind a web server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tree)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def archive(tree, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as target:
        for path in sorted(tree.rglob("*.jpg")):
            target.write(path, path.relative_to(tree))
    return f"zip://::{tmp_path}/photos.zip"


def test_a_folder_behind_a_url_is_the_same_folder(tree, served, archive, monkeypatch):
    monkeypatch.setattr(files, "READS", 1)
    here = folder.read(str(tree), seed=1).articles
    for url in (f"file://{tree}", served, archive):
        root = files.at(url)
        assert isinstance(root, LocalRoot if url.startswith("file") else RemoteRoot)
        assert root.read("hat/a b.jpg") == b"hat", url
        with root.open("shoe/1.jpg") as stream:
            assert stream.read() == b"shoe"
        for name, reason in {"../secret": "lies outside", "hat/gone.jpg": "does not exist"}.items():
            with pytest.raises(RefusedError, match=reason):
                root.read(name)
        there = folder.read(url, seed=1).articles
        # A web server's listing quotes its names.
        assert [(urllib.parse.unquote(a.name), a.category) for a in there] == [(a.name, a.category) for a in here], url
        assert [root.read(a.name) for a in there] == [b"hat", b"shoe"], url


def test_a_remote_file_is_tried_again_before_its_error_is_believed(archive, monkeypatch):
    root = files.at(archive)
    tries = []
    whole = root.open

    def failing(name):
        tries.append(name)
        if len(tries) < 3:
            raise TimeoutError("the server is busy")
        return whole(name)

    monkeypatch.setattr(root, "open", failing)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    assert root.read("shoe/1.jpg") == b"shoe"
    assert len(tries) == 3
    tries[:] = ["hat/a b.jpg"] * -10
    monkeypatch.setattr(files, "READS", 2)
    with pytest.raises(RefusedError, match="the server is busy"):
        root.read("shoe/1.jpg")


@pytest.mark.parametrize("url", ["nonsense://bucket/photos", "s3//bucket", "http://127.0.0.1:1/photos"])
def test_a_root_that_cannot_be_reached_is_refused_in_one_sentence(url):
    with pytest.raises(ConfigError) as error:
        folder.read(url, seed=1)
    assert url in str(error.value)
    assert "\n" not in str(error.value)
