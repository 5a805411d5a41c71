"""A small but complete DeepFashion tree, laid out as it is downloaded."""

import numpy as np
from PIL import Image

from advrec.catalog.sources import deepfashion
from advrec.run.directory import Run
from advrec.spec.catalog import CatalogSpec
from tests.conftest import prepare_alone

# name, category, values of the four attributes, split, which picture it is (None: the file is
# missing)
IMAGES = [
    ("img/Sheer Blouse/img_1.jpg", 1, "1 1 -1 1", "train", 1),
    ("img/Sheer Blouse/img_2.jpg", 1, "-1 1 -1 1", "train", 2),  # no texture
    ("img/Maxi_Dress/img_1.jpg", 2, "1 -1  1 0", "val", 3),  # two textures
    # unknown: no texture, unless that counts
    ("img/Maxi_Dress/img_2.jpg", 2, "0 1 -1 -1", "test", 4),
    ("img/Maxi_Dress/img_3.jpg", 2, "-1 1 1 -1", "test", 5),
    # of the image without a texture, which comes first
    ("img/Copy/img_1.jpg", 2, "-1 -1 1 -1", "test", 2),
    ("img/Copy/img_2.jpg", 1, "-1 -1 1 -1", "train", 1),
    ("img/Gone/img_1.jpg", 1, "1 -1 -1 -1", "train", None),
    ("img/Sheer Blouse/img_3.jpg", 1, "-1 -1 1 -1", "val", 6),
    ("img/Sheer Blouse/img_3.jpg", 1, "-1 -1 1 -1", "val", 6),  # listed twice
]
CATEGORIES = "2\ncategory_name  category_type\nTee  1\nMaxi Dress  3\n"
ATTRIBUTES = (
    "4\nattribute_name  attribute_type\nabstract print   1\ncotton   2\nstriped   1\nv neck   4\n"
)


def rows(column, header):
    return f"{len(IMAGES)}\n{header}\n" + "".join(
        f"{image[0]}   {image[column]}\n" for image in IMAGES
    )


def files():
    return {
        "Anno_coarse/list_category_cloth.txt": CATEGORIES,
        "Anno_coarse/list_attr_cloth.txt": ATTRIBUTES,
        "Anno_coarse/list_category_img.txt": rows(1, "image_name  category_label"),
        "Anno_coarse/list_attr_img.txt": rows(2, "image_name  attribute_labels"),
        "Anno_coarse/list_bbox.txt": f"{len(IMAGES)}\nimage_name  x_1  y_1  x_2  y_2\n"
        + "".join(f"{i[0]}  4 6 35 49\n" for i in IMAGES),
        "Eval/list_eval_partition.txt": rows(3, "image_name  evaluation_status"),
    }


def picture(number):
    random = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(random).resize((40, 60), Image.Resampling.BICUBIC)


def write(root, **changed):
    for name, text in files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.stem, text))
    for name, _, _, _, number in IMAGES:
        if number is not None:
            path = root / "Img" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(number).save(path, quality=97)
    return root


def spec(root, **changes):
    return CatalogSpec(source="deepfashion", root=str(root), image_size=32, **changes)


def read(root, **changes):
    return deepfashion.read(spec(root, **changes), 0)


def prepared(root, tmp_path, **changes):
    asked = spec(root, **changes)
    return prepare_alone(Run(tmp_path / "run"), asked, deepfashion.read(asked, 0))


def write_fine(root):
    """Anno_fine: a file a split and kind of label, without headers."""
    write(root)
    lines = {
        "train": [
            ("img/Sheer Blouse/img_1.jpg", "1", "1 0 0 1"),
            ("img/Maxi_Dress/img_1.jpg", "2", "0 0 1 0"),
        ],
        "val": [("img/Sheer Blouse/img_3.jpg", "1", "0 0 0 0")],
        "test": [("img/Maxi_Dress/img_3.jpg", "2", "1 0 1 0")],
    }
    (root / "Anno_fine").mkdir()
    for name, text in (("list_category_cloth", CATEGORIES), ("list_attr_cloth", ATTRIBUTES)):
        (root / "Anno_fine" / f"{name}.txt").write_text(text)
    for split, entries in lines.items():
        for column, part in enumerate(("", "_cate", "_attr")):
            (root / "Anno_fine" / f"{split}{part}.txt").write_text(
                "".join(f"{entry[column]}\n" for entry in entries)
            )
        (root / "Anno_fine" / f"{split}_bbox.txt").write_text("1 1 30 30\n" * len(entries))
    return root
