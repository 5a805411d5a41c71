"""Catalogs as people have them: names of other encodings, splits and tables as others write them,
what operating systems leave behind, links, categories that are one, fat PNGs.
"""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from advrec.catalog import files
from advrec.catalog.dataset import Catalog
from advrec.catalog.images import Prepared, prepare
from advrec.catalog.listing import Listed
from advrec.catalog.sources import folder, manifest
from advrec.errors import ConfigError
from advrec.evaluation import tuples
from advrec.run.directory import Run
from tests.commands import advrec

ODD = os.fsdecode(b"R\x94cke")  # of a Windows of 1995
STUDY = """
name: odd
catalog: {{source: folder, root: {root}, image_size: 32, duplicates: keep}}
models: {{m: {{defense: none}}}}
evaluation: {{attacks: [fgsm]}}
resources: {{actors: 0}}
"""


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    for category in ("dress", "shoe"):
        for number in range(8):
            draw(tmp_path / "photos" / category / f"{number}.png", number)
    return tmp_path / "photos"


def prepared(directory, root, *words):
    (directory / "odd.yaml").write_text(STUDY.format(root=root))
    return advrec("prepare", "odd.yaml", *words, cwd=directory)


def test_a_name_that_is_no_utf8_is_set_aside_and_named(photos, tmp_path):
    draw(photos / "dress" / f"{ODD}.png")
    draw(photos / ODD / "0.png")
    dry = prepared(tmp_path, photos, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    done = prepared(tmp_path, photos)
    assert done.returncode == 3, done.stderr
    assert r"ignored: R\x94cke (its name is no UTF-8)" in done.stdout
    assert r"dress/R\x94cke.png: has a name that is no UTF-8" in done.stdout
    assert len(Catalog(Run(tmp_path / "results" / "odd"))) == 16


def test_results_in_a_directory_whose_name_is_no_utf8_are_refused_before_any_work(photos, tmp_path):
    refused = prepared(tmp_path, photos, "--out", ODD)
    assert refused.returncode == 2
    assert r"R\x94cke is no UTF-8" in refused.stderr
    assert not (tmp_path / ODD).exists()


@pytest.mark.parametrize("kind", ["profile", "text", "compressed text"])
def test_a_png_with_two_mebibytes_beside_its_pixels_is_read(tmp_path, kind):
    noise = np.random.default_rng(0).bytes(2 << 20).hex()
    options = {"icc_profile": noise[: 2 << 20].encode()} if kind == "profile" else {}
    if not options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", noise, zip=kind != "text")
    Image.new("RGB", (40, 40), (200, 30, 30)).save(tmp_path / "a.png", **options)
    made = prepare(files.at(str(tmp_path)), Listed("a.png", "hat", (), "train"), 32, "pad")
    assert isinstance(made, Prepared), made


@pytest.mark.parametrize("name", ["valid", "dev", "Valid", "val"])
def test_validation_has_several_names(tmp_path, name):
    for split in ("Train", name, "test"):
        for category in ("dress", "shoe"):
            draw(tmp_path / "photos" / split / category / "0.png")
    listed = folder.walk(str(tmp_path / "photos"), 7).articles
    assert [each.split for each in listed] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    rows = [f"{each.name},{each.category},{each.name.split('/')[0]}" for each in listed]
    table = tmp_path / "m.csv"
    table.write_text("\n".join(["path,category,split", *rows]))
    assert manifest.read(str(table), "x", 7).articles == listed


def test_what_operating_systems_leave_is_no_category(photos):
    archive = photos.parent / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for split in ("train", "val", "test"):
            for path in photos.rglob("*.png"):
                name = path.relative_to(photos).as_posix()
                packed.write(path, f"{split}/{name}")
                packed.writestr(f"__MACOSX/{split}/{name.replace('/', '/._')}", b"\0\5\x16\7")
    listing = folder.walk(f"zip://::{archive}", 7)
    assert len(listing.articles) == 48
    assert listing.ignored == ("__MACOSX (made by an operating system)",)
    draw(photos / "@eaDir" / "0.png")
    assert {each.category for each in folder.walk(str(photos), 7).articles} == {"dress", "shoe"}


ROWS = [f"{category}/{n}.png" for category in ("dress", "shoe") for n in range(4)]


@pytest.mark.parametrize(
    "lines",
    [
        ["path,category", *(f"{row},{row[:-6]}" for row in ROWS)],
        ["path,category", *(f'"{row}", "{row[:-6]}"' for row in ROWS)],
        ["path, category", *(f"{row}, {row[:-6]}" for row in ROWS), ",", " , ", ",,,", ""],
        ["path;category", *(f"{row};{row[:-6]}" for row in ROWS), ";"],
        ['"category";"path"', *(f'"{row[:-6]}";"{row}"' for row in ROWS)],
        ["path\tcategory", *(f"{row}\t{row[:-6]}" for row in ROWS)],
    ],
    ids=["plain", "quotes after a space", "rows of delimiters", "semicolons", "quoted", "tabs"],
)
def test_a_manifest_is_read_as_spreadsheets_write_it(tmp_path, lines):
    table = tmp_path / "m.csv"
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = manifest.read(str(table), "x", 7).articles
    assert [(each.name, each.category) for each in found] == [(row, row[:-6]) for row in ROWS]


@pytest.mark.parametrize("other", ["Dress", "dr\u0065\u0301ss"])
def test_categories_that_are_one_but_for_case_or_encoding_are_refused(tmp_path, other):
    name = "dress" if other == "Dress" else "dr\u00e9ss"
    table = tmp_path / "m.csv"
    table.write_text(f"path,category\na.png,{name}\nb.png,{other}\nc.png,shoe\n")
    with pytest.raises(ConfigError, match="differ in case or"):
        manifest.read(str(table), "x", 7)


def test_links_are_counted_before_they_are_read_and_a_folder_of_links_is_refused(photos, tmp_path):
    linked = tmp_path / "linked"
    for path in photos.rglob("*.png"):
        link = linked / path.relative_to(photos)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    with pytest.raises(ConfigError, match="all 16 images are links, which are not followed"):
        folder.walk(str(linked), 7)
    directories = tmp_path / "directories"
    directories.mkdir()
    for place in photos.iterdir():
        (directories / place.name).symlink_to(place)
    with pytest.raises(ConfigError, match=r"holds \d links alone, which are not followed; copy"):
        folder.walk(str(directories), 7)
    draw(linked / "dress" / "real.png")
    said = folder.walk(str(linked), 7).summary()
    assert any(line.startswith("16 of 17 images are links") for line in said)


def test_tuples_are_named_as_a_manifest_may_name_them_and_each_stands_once(catalog, tmp_path):
    first, *others = catalog.ids_of("test").tolist()
    mine = catalog.category_names[first]
    other = next(each for each in others if catalog.category_names[each] != mine)
    a, b = catalog.names[first], catalog.names[other]
    table = tmp_path / "pairs.csv"
    table.write_text(f'target_name;attack_name\n./{a}; "{b}"\n{b};./{a}\n;\n')
    made = tuples.read_csv(catalog, "test", table)
    assert made["target_id"].to_pylist() == [first, other]
    assert made["attack_id"].to_pylist() == [other, first]
    table.write_text(f"target_name,attack_name\n{a},{b}\n{b},{a}\n./{a},{b}\n")
    with pytest.raises(ConfigError, match="line 4: the pair stands already in line 2; remove one"):
        tuples.read_csv(catalog, "test", table)
