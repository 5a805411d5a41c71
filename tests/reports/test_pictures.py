"""Pictures hold the pixels they were given, figures the numbers of their tables."""

import base64
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_info

from advrec.reports import results
from advrec.reports.pictures import canvas, catalog, figures, gallery
from advrec.reports.pictures import images as pictures
from advrec.reports.tables import success
from advrec.run import schema
from advrec.run.tables import read_outcomes, read_table


def test_pictures_show_what_they_are_given(tmp_path):
    rng = np.random.default_rng(0)
    clean, target = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    adversarial = np.clip(
        clean / 255.0 + 0.03 * np.sign(rng.standard_normal(clean.shape)), 0, 1
    ).astype(np.float32)
    lines = pictures.attack_lines((0.6247, 0.05), (1200, 1), "pgd-32 on unsecured, ε = 0.03")
    pictures.attack_picture(tmp_path / "attack.png", clean, adversarial, target, lines)
    drawn = np.asarray(Image.open(tmp_path / "attack.png"))
    for place, image in enumerate(
        (clean, pictures.perturbation(clean, adversarial), pictures.to_pixels(adversarial), target)
    ):
        left = 16 + 208 * place
        np.testing.assert_array_equal(drawn[17:208:3, left + 1 : left + 192 : 3], image)
    neighbours = [
        (target, "shirt.jpg", 0.0141),
        (clean, "a/very/long/name/of/an/image/of/a/striped/dress.jpg", 0.02),
    ] * 4
    pictures.neighbour_picture(tmp_path / "list.png", (clean, "query.jpg"), neighbours, attacked=0)
    drawn = np.asarray(Image.open(tmp_path / "list.png"))
    np.testing.assert_array_equal(drawn[17:208:3, 17:208:3], clean)
    assert tuple(drawn[14, 100]) == (0x1F, 0x6F, 0xEB)
    first = 32 + 208
    np.testing.assert_array_equal(drawn[17:208:3, first + 1 : first + 192 : 3], target)
    assert tuple(drawn[14, first + 100]) == (0xC6, 0x28, 0x28)


def test_a_perturbation_fills_the_range_and_none_is_grey():
    clean = np.full((4, 4, 3), 128, dtype=np.uint8)
    changed = clean / 255.0
    assert np.all(pictures.perturbation(clean, changed) == 128)
    changed[0, 0, 0] += 0.02
    changed[1, 1, 1] -= 0.01
    shown = pictures.perturbation(clean, changed)
    assert (shown[0, 0, 0], shown[1, 1, 1], shown[2, 2, 2]) == (255, 64, 128)


def test_figures_leave_no_global_state(finished):
    before = dict(mpl.rcParams)
    read = results.read(finished)
    figure = figures.success_curves(
        read.success, ["unsecured", "at", "cat"], read.attacks, 3, "wide", read.shown
    )
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["unsecured", "at", "cat"]
    row = read.success.query("model == 'at' and attack == 'pgd-8' and rank == 3")
    drawn = panels[1].get_lines()
    assert any(
        np.allclose(line.get_ydata(), row["percent"])
        for line in drawn
        if len(line.get_ydata()) == 2
    )


def test_examples_show_the_stored_images(finished):
    read = results.read(finished)
    shown = gallery.example_images(
        gallery.kept_examples(read), success.strongest(read), read.epsilon, limit=5
    )
    assert [(e.tuple_id, e.model) for e in shown] == [(0, "unsecured"), (0, "at"), (0, "cat")]
    example = shown[1]
    stored = read_table(
        finished.example_block("at", example.attack, 0), schema.EXAMPLES
    ).to_pylist()
    mine = next(row for row in stored if row["tuple_id"] == 0 and row["epsilon"] == 0.05)
    assert example.adversarial.tobytes() == mine["pixels"]
    png = {
        row["article_id"]: row["png"]
        for row in read_table(finished.images, schema.IMAGES).to_pylist()
    }
    np.testing.assert_array_equal(
        example.target, np.asarray(Image.open(io.BytesIO(png[mine["target_id"]])))
    )
    outcome = [
        r
        for r in read_outcomes(finished.attacks).to_pylist()
        if (r["model"], r["attack"]) == ("at", example.attack)
    ]
    row = next(r for r in outcome if r["tuple_id"] == 0 and r["epsilon"] == 0.05)
    assert (example.clean_rank, example.adversarial_rank) == (
        row["clean_rank"],
        row["adversarial_rank"],
    )
    uri = base64.b64encode(as_png(example.target)).decode()
    assert uri in (finished.report / "index.html").read_text(encoding="utf-8")


def as_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_dark_figure_differs_in_ink_paper_and_grid_alone(finished):
    read = results.read(finished)
    light = canvas.rendered(
        figures.success_curves(read.success, ["at"], read.attacks, 3, "wide", read.shown), "svg"
    )
    dark = canvas.darkened(light).decode()
    for colour, other in canvas.DARK.items():
        assert colour in light.decode()
        assert colour not in dark
        dark = dark.replace(other, colour)
    assert dark == light.decode()


def test_every_model_is_in_the_legend_even_without_a_point(finished):
    read = results.read(finished)
    point = figures.Tradeoff("cat", (62.0, 56.0, 67.0), (10.0, 5.0, 20.0))
    models = ["unsecured", "at", "cat"]
    figure = figures.comparison(
        success.headline(read), [point], models, "at rank 3", "clean accuracy", "wide"
    )
    keys = figure.legends[0].get_lines()
    assert [key.get_label() for key in keys] == models
    drawn = next(line for line in figure.axes[1].get_lines() if list(line.get_xdata()) == [62.0])
    assert (drawn.get_marker(), drawn.get_color()) == (keys[2].get_marker(), keys[2].get_color())


def test_a_map_sets_groups_apart_and_is_laid_out_by_one_thread(monkeypatch):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(3), 12)
    embeddings = np.eye(3, 8)[groups] + 0.05 * rng.standard_normal((36, 8))
    threads, fit = [], TSNE.fit_transform

    def counted(self, values):
        threads.extend(pool["num_threads"] for pool in threadpool_info())
        return fit(self, values)

    monkeypatch.setattr(TSNE, "fit_transform", counted)
    places = catalog.layout(embeddings.astype(np.float32), 0)
    assert set(threads) == {1}
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (groups[apart.argmin(1)] == groups).all()
