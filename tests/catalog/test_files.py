"""Files of a source: on this machine with what must not be read, and on filesystems that a URL
names, through real servers and archives.
"""

import functools
import http.server
import os
import threading
import zipfile
from typing import ClassVar

import pytest

from advrec.catalog import files
from advrec.catalog.files import LocalRoot, RefusedError, RemoteRoot
from advrec.catalog.sources import folder
from advrec.errors import ConfigError, UnreachableError


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
    assert [tuple(entry) for entry in root.entries()] == [
        ("hat", "directory"),
        ("shoe", "directory"),
    ]
    assert [tuple(entry) for entry in root.entries("hat")] == [("hat/a b.jpg", "file")]


def test_what_lies_outside_or_is_no_plain_file_is_refused(tree):
    (tree / "hat" / "link.jpg").symlink_to(tree.parent / "secret")
    (tree / "hat" / "inside.jpg").symlink_to("a b.jpg")
    (tree / "linked").symlink_to(tree.parent)
    (tree / "hat" / "loop.jpg").symlink_to(tree / "hat" / "loop.jpg")
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
        "hat/loop.jpg": "is a link|cannot be read",
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

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tree))
    )
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


def test_a_folder_behind_a_url_is_the_same_folder(tree, served, archive):
    here = folder.walk(str(tree), seed=1).articles
    for url in (f"file://{tree}", f"local://{tree}", served, archive):
        root = files.at(url)
        assert isinstance(root, RemoteRoot if url in (served, archive) else LocalRoot)
        with root.open("shoe/1.jpg") as stream:
            assert stream.read() == b"shoe"
        assert files.at(url, "shoe").read("1.jpg") == b"shoe"
        for name, reason in {"../secret": "lies outside", "hat/gone.jpg": "does not exist"}.items():
            with pytest.raises(RefusedError, match=reason):
                root.read(name)
        assert folder.walk(url, seed=1).articles == here, url
        assert [root.read(article.name) for article in here] == [b"hat", b"shoe"], url


def test_links_are_refused_behind_a_url_of_this_machine_too(tree):
    (tree / "hat" / "link.jpg").symlink_to(tree.parent / "secret")
    spaced = tree.parent / "my photos"
    tree.rename(spaced)
    for url in (f"file://{spaced}", f"local://{spaced}"):
        with pytest.raises(RefusedError, match="is a link"):
            files.at(url).read("hat/link.jpg")


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Answers as `answers` says, one request of an image after the other."""

    answers: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(self.path)
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"image" if status == 200 else b"error")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def flaky(monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Flaky.answers, Flaky.asked = [], []
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_does_not_answer_says_nothing_of_the_image(flaky):
    """One that fails for a moment is asked again; one that is down is not a missing image; one that
    says no is.
    """
    root = files.at(flaky)
    Flaky.answers = [503, 429]
    assert root.read("a.jpg") == b"image"
    assert Flaky.asked == ["/a.jpg"] * 3
    Flaky.answers = [503] * 3
    with pytest.raises(UnreachableError, match=r"a\.jpg cannot be read"):
        root.read("a.jpg")
    for status in (404, 410, 403):
        Flaky.answers, Flaky.asked = [status], []
        with pytest.raises(RefusedError):
            root.read("a.jpg")
        assert len(Flaky.asked) == 1, status
    with pytest.raises(UnreachableError):
        files.at("http://127.0.0.1:1").read("a.jpg")


def test_a_remote_file_that_is_too_large_is_refused(flaky, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 4)
    with pytest.raises(RefusedError, match="is larger than"):
        files.at(flaky).read("a.jpg")


def test_an_error_that_says_nothing_has_a_name():
    assert "TimeoutError" in files._reason(TimeoutError())


@pytest.mark.parametrize(
    "url", ["nonsense://bucket/photos", "http://127.0.0.1:1/photos", "zip://::/gone.zip"]
)
def test_a_root_that_cannot_be_reached_is_refused_in_one_sentence(url):
    with pytest.raises(ConfigError) as error:
        folder.walk(url, seed=1)
    assert url in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("status", [403, 500])
def test_a_listing_that_is_refused_is_one_sentence(flaky, status):
    Flaky.answers = [status] * 9
    with pytest.raises(ConfigError, match="cannot be read"):
        folder.walk(flaky, seed=1)


def test_filesystems_that_only_pyarrow_reads_are_read_through_it(tree, monkeypatch):
    """Fsspec asks for a package: s3fs, gcsfs. Here the local filesystem stands in for one of
    those.
    """

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(files.fsspec.core, "url_to_fs", missing)
    files.at.cache_clear()
    root = files.at(f"file://{tree}")
    files.at.cache_clear()
    assert isinstance(root, RemoteRoot)
    assert root.read("hat/a b.jpg") == b"hat"
    assert [entry.name for entry in root.entries()] == ["hat", "shoe"]
    with pytest.raises(RefusedError, match="does not exist"):
        root.read("hat/gone.jpg")
