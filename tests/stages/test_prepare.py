"""`advrec prepare` and `advrec catalog` as a user runs them: odd images, a kill, an image that
kills, other filesystems.
"""

import functools
import http.server
import io
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import read_json, write_table
from tests.commands import advrec, advrec_process, kill_when
from tests.shop import filesystems

SIXTEEN_A_SHARD = 512  # pixels of an image, of which a shard holds so many
SPLITS = ("train", "validation", "test")
SIZE = 64


def scene(seed, size=(SIZE, SIZE)):
    random = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(random).resize(size, Image.Resampling.BICUBIC)


def write(path: Path, **catalog) -> Path:
    study = {
        "name": path.stem,
        "catalog": {"source": "folder", "root": "photos", "image_size": SIZE, **catalog},
        "models": {"unsecured": {"defense": "none"}},
        "evaluation": {"attacks": ["fgsm"]},
        "resources": {"actors": 0},
    }
    path.write_text(yaml.safe_dump(study))
    return path


def photos(directory: Path, each: int = 2) -> Path:
    """Good photographs of two categories in every split."""
    root = directory / "photos"
    for place, (split, category) in enumerate(
        (split, category) for split in SPLITS for category in ("hat", "shoe")
    ):
        (root / split / category).mkdir(parents=True)
        for n in range(each):
            scene(1000 * place + n).save(root / split / category / f"good{n}.jpg", quality=97)
    return root


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def rotated():
    tags = Image.Exif()
    tags[0x0112] = 6
    return encoded(scene(5).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=tags, quality=97)


def with_alpha(image, hidden=0):
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.new("L", image.size, 255))
    rgba.paste((0, 0, 0, hidden), (0, 0, SIZE // 2, SIZE))
    return rgba


def half_white(image):
    image.paste("white", (0, 0, SIZE // 2, SIZE))
    return image


GREY16 = np.asarray(scene(8).convert("L")).astype(np.uint16) * 257
READABLE = {  # file -> content and the pixels that it must become
    "cmyk.jpg": (encoded(scene(1).convert("CMYK"), "JPEG", quality=97), scene(1)),
    "palette.png": (encoded(scene(2).quantize(256), "PNG"), scene(2).quantize(256).convert("RGB")),
    "alpha.png": (encoded(with_alpha(scene(3)), "PNG"), half_white(scene(3))),
    "alpha.webp": (encoded(with_alpha(scene(4)), "WEBP", lossless=True), half_white(scene(4))),
    "turned.jpg": (rotated(), scene(5)),
    "frames.gif": (
        encoded(scene(6).quantize(256), "GIF", save_all=True, append_images=[scene(7)]),
        scene(6).quantize(256).convert("RGB"),
    ),
    "frames.png": (encoded(scene(9), "PNG", save_all=True, append_images=[scene(10)]), scene(9)),
    "grey16.png": (encoded(Image.fromarray(GREY16), "PNG"), scene(8).convert("L").convert("RGB")),
    "grey16.tif": (encoded(Image.fromarray(GREY16), "TIFF"), scene(8).convert("L").convert("RGB")),
    "grey.JPEG": (
        encoded(scene(11).convert("L"), "JPEG", quality=97),
        scene(11).convert("L").convert("RGB"),
    ),
    "bits.bmp": (encoded(scene(12).convert("1"), "BMP"), scene(12).convert("1").convert("RGB")),
    "really_a_png.jpg": (encoded(scene(13), "PNG"), scene(13)),
    "strip.png": (encoded(Image.new("RGB", (20_000, 1), "black"), "PNG"), None),
}
UNREADABLE = {
    "empty.jpg": b"",
    "page.jpg": b"<!doctype html><title>404</title>",
    "truncated.jpg": encoded(scene(20), "JPEG", quality=97)[:900],
    "truncated.png": encoded(scene(21), "PNG")[:900],
    "bomb.png": encoded(Image.new("1", (10_000, 6_000)), "PNG"),
    "float.tif": encoded(Image.new("F", (8, 8), 0.5), "TIFF"),
    "noise.gif": bytes(range(256)),
}


@pytest.fixture
def odd(tmp_path):
    """Two dozen odd images and links among good ones, prepared."""
    directory = tmp_path
    place = photos(directory) / "train" / "hat"
    for name, content in {
        **{name: content for name, (content, _) in READABLE.items()},
        **UNREADABLE,
    }.items():
        (place / name).write_bytes(content)
    (directory / "secret.jpg").write_bytes(encoded(scene(30), "JPEG"))
    (place / "link.jpg").symlink_to(directory / "secret.jpg")
    os.mkfifo(place / "pipe.jpg")
    (place / "notes.txt").write_text("no image by its name")
    write(directory / "odd.yaml", duplicates="keep")
    return directory, advrec("prepare", "odd.yaml", cwd=directory)


def test_odd_images_are_converted_and_unreadable_ones_set_aside(odd):
    directory, done = odd
    run = Run(directory / "results" / "odd")
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("Traceback") == 0
    expected = {f"images/train/hat/{name}" for name in (*UNREADABLE, "link.jpg", "pipe.jpg")}
    assert set(read_json(run.directory / "set_aside.json")) == expected
    catalog = Catalog(run)
    assert {Path(name).name for name in catalog.names if "good" not in name} == set(READABLE)
    for name, (_, reference) in READABLE.items():
        pixels = catalog.pixels([catalog.find(f"train/hat/{name}")])[0].astype(int)
        if reference is None:
            assert 0 < (pixels.min(axis=2) < 128).sum() <= 2 * SIZE, name
        else:
            assert np.abs(pixels - np.asarray(reference)).mean() < 4, name
    assert "ignored: train/hat/notes.txt (no image by its name)" in done.stdout
    assert "set aside images/train/hat/empty.jpg: is empty" in done.stdout
    status = advrec("status", run.directory, cwd=directory)
    assert status.returncode == 3
    assert "set aside images/train/hat/pipe.jpg: is not a regular file" in status.stdout


def test_images_that_can_be_read_later_are_taken_in(odd):
    """Only while nothing was made of the catalog without them."""
    directory, _ = odd
    place = directory / "photos" / "train" / "hat"
    again = advrec("prepare", "odd.yaml", cwd=directory)
    assert again.returncode == 3
    assert again.stdout.startswith(
        "prepare: done before; 9 images are set aside, see `advrec status "
    )
    scene(40).save(place / "truncated.jpg")
    (place / "page.jpg").unlink()
    done = advrec("prepare", "odd.yaml", cwd=directory)
    assert done.returncode == 3
    assert (
        "of 9 images that were set aside 1 can be read now, 1 are gone: the catalog is made again"
        in done.stdout
    )
    run = Run(directory / "results" / "odd")
    assert len(run.set_aside()) == 7
    assert "train/hat/truncated.jpg" in Catalog(run).names
    # Where something depends on the catalog it stays as it is.
    write_table(run.tuples, schema.TUPLES.empty_table())
    for key in run.set_aside():
        path = place / Path(key).name
        path.unlink()
        scene(41).save(path, format="PNG")
    done = advrec("prepare", "odd.yaml", cwd=directory)
    assert done.returncode == 3
    assert done.stdout.startswith("prepare: done before; 7 images")
    assert "train/hat/empty.jpg" not in Catalog(run).names
    run.tuples.unlink()
    assert advrec("prepare", "odd.yaml", cwd=directory).returncode == 0
    assert run.set_aside() == {}
    assert "train/hat/empty.jpg" in Catalog(run).names


def test_all_that_was_set_aside_may_be_deleted(tmp_path):
    root = photos(tmp_path)
    (root / "train" / "hat" / "empty.jpg").touch()
    write(tmp_path / "gone.yaml")
    assert advrec("prepare", "gone.yaml", cwd=tmp_path).returncode == 3
    (root / "train" / "hat" / "empty.jpg").unlink()
    done = advrec("prepare", "gone.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "results" / "gone").set_aside() == {}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """120 photographs on a slow filesystem, 16 a shard; and an undisturbed preparation."""
    directory = tmp_path_factory.mktemp("large")
    root = photos(directory, each=0)
    random = np.random.default_rng(0)
    for split in SPLITS:
        for category in ("hat", "shoe"):
            for n in range(20):
                blocks = Image.fromarray(random.integers(0, 255, (20, 20, 3), dtype=np.uint8))
                blocks.resize((160, 160)).save(root / split / category / f"{n:04d}.jpg")
    write(directory / "large.yaml", root=f"slow://{root}", image_size=SIXTEEN_A_SHARD)
    done = advrec("prepare", "large.yaml", "--out", "undisturbed", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.mark.ray
def test_a_preparation_killed_with_9_goes_on_where_it_was(large):
    run = Run(large / "killed")
    prepare = ("prepare", "large.yaml", "--out", "killed")
    actors = ("--set", "resources.actors=2")
    with_files = with_filesystems(large)
    kill_when(lambda: len(shards(run)) >= 2, *prepare, *actors, cwd=large, env=with_files)
    before = shards(run)
    assert 2 <= len(before) < 8, "the kill came too late to show anything"
    assert not run.catalog.exists()
    seen: dict[str, int] = {}
    watching = threading.Event()

    def watch():
        while not watching.wait(0.02):
            seen.update(shards(run))

    thread = threading.Thread(target=watch)
    thread.start()
    done = advrec(*prepare, cwd=large)
    watching.set()
    thread.join()
    assert done.returncode == 0, done.stderr
    assert {name: seen[name] for name in before} == before, "a finished shard was made again"
    assert len(seen) == 8
    undisturbed = Run(large / "undisturbed")
    assert read_json(run.preparation) == read_json(undisturbed.preparation)
    assert Catalog(run).sha256 == Catalog(undisturbed).sha256
    for table in ("catalog.parquet", "listing.parquet", "images"):
        assert (
            ds.dataset(run.directory / table).to_table()
            == ds.dataset(undisturbed.directory / table).to_table()
        )
    assert not run.prepared.exists()


def with_filesystems(directory: Path) -> dict[str, str]:
    """The environment in which every process of Python knows the filesystems of tests/shop."""
    shutil.copy(filesystems.__file__, directory / "sitecustomize.py")
    return {"PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}


def shards(run: Run) -> dict[str, int]:
    found = {}
    for path in run.prepared.glob("shard-*.parquet"):
        try:
            found[path.name] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("key", ["root", "image_size", "square", "shard", "sha256", None])
def test_shards_prepared_otherwise_are_not_used_again(tmp_path, key):
    """A shard that another study has left is used only if it was made of the same images in the
    same way: one that is no table is met with key None alone.
    """
    photos(tmp_path)
    write(tmp_path / "few.yaml")
    prepare = ("prepare", "few.yaml", "--out", "run")
    assert advrec(*prepare, cwd=tmp_path).returncode == 0
    run = Run(tmp_path / "run")
    identity = run.identities()["prepared"]
    assert set(identity) == {"root", "image_size", "square", "shard", "sha256"}
    run.catalog.unlink()
    run.prepared.mkdir()
    run.shard(0).write_text("not of this study")
    left = identity if key is None else identity | {key: "another"}
    run.claim("prepared", left, made=False)
    again = advrec(*prepare, cwd=tmp_path)
    assert again.returncode == (1 if key is None else 0), again.stderr
    assert run.shard(0).exists() == (key is None)


def test_what_a_kill_at_the_very_end_leaves_is_cleared(large):
    run = Run(large / "ended")
    shutil.copytree(large / "undisturbed", run.directory)
    run.prepared.mkdir()
    run.shard(0).write_text("whole, and of no use any more")
    done = advrec("prepare", "large.yaml", "--out", "ended", cwd=large)
    assert done.returncode == 0, done.stderr
    assert not run.prepared.exists()


def test_a_changed_manifest_is_another_catalog(large):
    items = [("path", "category", "split")] + [
        (f"{s}/{c}/{n:04d}.jpg", c, s) for s in SPLITS for c in ("hat", "shoe") for n in range(3)
    ]
    (large / "items.csv").write_text("\n".join(map(",".join, items)))
    write(large / "manifest.yaml", manifest="items.csv", image_size=SIXTEEN_A_SHARD)
    done = advrec("prepare", "manifest.yaml", cwd=large)
    assert done.returncode == 0, done.stderr
    catalog = Catalog(Run(large / "results" / "manifest"))
    assert len(catalog) == 18
    assert (catalog.pixels([0]) == Catalog(Run(large / "undisturbed")).pixels([0])).all()
    (large / "items.csv").write_text("\n".join(map(",".join, items[:-1])))
    refused = advrec("prepare", "manifest.yaml", cwd=large)
    assert refused.returncode == 2
    assert "holds catalog made with manifest_sha256" in refused.stderr
    shutil.rmtree(large / "results")


def test_the_catalog_command_shows_counts_balance_and_a_contact_sheet(large):
    shown = advrec("catalog", "large.yaml", "--out", "undisturbed", cwd=large)
    assert shown.returncode == 0, shown.stderr
    assert "120 images listed" in shown.stdout
    assert "40 train, 40 validation, 40 test; 2 categories" in shown.stdout
    hats = next(line for line in shown.stdout.splitlines() if line.startswith("hat "))
    assert hats.split() == ["hat", "60", "50.0%", "20", "20", "20"]
    with Image.open(large / shown.stdout.splitlines()[-1]) as sheet:
        assert sheet.size[0] > 800
    refused = advrec("catalog", "large.yaml", "--out", "nowhere", cwd=large)
    assert refused.returncode == 1
    assert "run `advrec prepare` first" in refused.stderr


def test_a_dry_run_counts_estimates_and_writes_nothing(large):
    shown = advrec("prepare", "large.yaml", "--dry-run", cwd=large)
    assert shown.returncode == 0, shown.stderr
    assert "120 images listed of 2 categories: 40 train, 40 validation, 40 test" in shown.stdout
    assert "GB while it works and as much again for what stays" in shown.stdout
    assert not (large / "results").exists()
    refused = advrec("study", "large.yaml", "--dry-run", "--set", "catalog.root=nowhere", cwd=large)
    assert refused.returncode == 2
    assert "is not a directory" in refused.stderr


@pytest.mark.long
def test_a_server_that_goes_down_stops_the_preparation(tmp_path):
    """It says nothing of the images: none is set aside, and with the server back the same command
    goes on.
    """
    root = photos(tmp_path, each=20)

    class Server(http.server.SimpleHTTPRequestHandler):
        served = 0
        most = 60

        def do_GET(self):
            type(self).served += self.path.endswith(".jpg")
            if self.served > self.most:
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=str(root))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    write(tmp_path / "served.yaml", root=url, image_size=SIXTEEN_A_SHARD)
    run = Run(tmp_path / "results" / "served")
    try:
        stopped = advrec("prepare", "served.yaml", cwd=tmp_path)
        done = len(shards(run))
        Server.most = 10**6
        finished = advrec("prepare", "served.yaml", cwd=tmp_path)
    finally:
        server.shutdown()
        server.server_close()
    assert stopped.returncode == 1, stopped.stderr
    assert "what was prepared before is kept" in stopped.stderr.splitlines()[-1]
    assert "Traceback" not in stopped.stderr
    assert 1 <= done < 8
    assert finished.returncode == 0, finished.stderr
    assert len(Catalog(run)) == 120


@pytest.mark.ray
def test_an_image_that_kills_its_process_is_set_aside_alone(tmp_path):
    root = photos(tmp_path)
    (root / "train" / "hat" / "deadly.jpg").write_bytes(encoded(scene(1), "JPEG"))
    write(tmp_path / "deadly.yaml", root=f"deadly://{root}")
    prepare = ("prepare", "deadly.yaml", "--set", "resources.actors=2")
    done = advrec_process(*prepare, cwd=tmp_path, env=with_filesystems(tmp_path))
    assert done.returncode == 3, done.stderr
    run = Run(tmp_path / "results" / "deadly")
    assert list(run.set_aside()) == ["images/train/hat/deadly.jpg"]
    assert "its process died" in run.set_aside()["images/train/hat/deadly.jpg"]
    assert len(Catalog(run)) == 12
    again = advrec_process(*prepare, cwd=tmp_path, env=with_filesystems(tmp_path))
    assert again.returncode == 3, again.stderr
    assert "prepare: done before; 1 images are set aside" in again.stdout
