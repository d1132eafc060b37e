"""One style for all figures: a guide keeps its color, labels stand at the lines and lie on nothing, axes are whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.colors import to_hex

from ppl_vae import compare
from ppl_vae.guides import Amortized, Delta, Diagonal, ExactPosterior, Full, Prior
from ppl_vae.models import LinearGaussian
from ppl_vae.plots.bounds import bound_curves, training_curves
from ppl_vae.plots.gaps import khat_by_image, rate_distortion, stacked_gaps
from ppl_vae.plots.gradients import side_by_side, variances
from ppl_vae.plots.images import manifold, reconstructions
from ppl_vae.plots.style import GREY, PALETTE, colors, label_ends, new_figure, tidy
from ppl_vae.training.history import History


@pytest.fixture(scope="module")
def compared():
    """A comparison of four guides, of which one bounds nothing and two are not trained, with its images."""
    torch.manual_seed(0)
    model, x = LinearGaussian(16, 2), torch.rand(20, 16)
    guides = {
        "exact": ExactPosterior(model),
        "delta": Amortized(Delta(2), 16, hidden=(4,)),
        "full": Amortized(Full(2), 16, hidden=(4,)),
        "prior": Prior(model),
    }
    base = Amortized(Diagonal(2), 16, hidden=(4,))
    options = {"base": base, "epochs": 2, "particles": 200, "evidence": "importance", "seed": 0, "progress": False}
    return compare(model, guides, x, test=x, **options), x


def texts(axes):
    return [text for text in axes.texts if text.get_text()]


def legends(figure):
    return [part for part in figure.findobj() if type(part).__name__ == "Legend"]


@pytest.fixture(scope="module")
def figures(compared):
    comparison, x = compared
    one = comparison.bounds.sel(guide="full")
    in_order = {row.guide: comparison.pairs[row.guide] for row in comparison.rows}
    return {
        "bounds": bound_curves(comparison),
        "training": training_curves(comparison.histories, comparison.pairs),
        "gaps": stacked_gaps(comparison),
        "rate-distortion": rate_distortion(comparison),
        "khat": khat_by_image(one, x, (4, 4), guides=comparison.pairs),
        "reconstructions": reconstructions(in_order, (x[:5],), (4, 4)),
    }


def test_a_guide_has_one_color_in_all_figures_of_a_run(compared, figures):
    expected = colors(compared[0].pairs)["full"]
    found = {
        name: next(text.get_color() for text in texts(figures[name].axes[0]) if text.get_text().startswith("full"))
        for name in ("bounds", "training", "rate-distortion")
    }
    gaps = figures["gaps"].axes[0]
    place = [label.get_text() for label in gaps.get_yticklabels()].index("full")
    found["gaps"] = to_hex(gaps.patches[place].get_facecolor()).upper()
    found["khat"] = figures["khat"].axes[0].lines[0].get_color()
    rows = {axes.get_ylabel(): axes.yaxis.label.get_color() for axes in figures["reconstructions"].axes}
    found["reconstructions"] = rows["full"]
    assert found == dict.fromkeys(found, expected)
    assert len({value for name, value in rows.items() if name}) == 5  # each its own, the data black


@pytest.mark.parametrize("names", [["a", "b", "c"], ["flow", "a", "model"], ["full", "diagonal", "delta", "mine"]])
def test_names_are_told_apart_by_colors_and_black_is_none_of_them(names):
    found = colors(names)
    assert len(set(found.values())) == len(names)
    assert set(found.values()) <= {*PALETTE, GREY}
    assert colors(names[::-1]) == found
    assert colors([*names, "model"]) == found | {"model": GREY}  # the training of the model alone moves no other color


def test_no_figure_of_a_run_has_a_legend_and_each_axis_has_its_unit(figures):
    assert [name for name, figure in figures.items() if legends(figure)] == []
    for name in ("bounds", "training", "rate-distortion"):
        assert "nats" in figures[name].axes[0].get_ylabel()
    assert "nats per data point" in figures["gaps"].axes[0].get_xlabel()


def test_what_bounds_nothing_and_lies_off_the_scale_says_so(compared):
    comparison = compared[0]
    below = [row if row.is_bound else replace(row, elbo=-1000.0) for row in comparison.rows]
    for rows, start, end in (
        (comparison.rows, "delta: ", "(not a bound)"),
        (below, "↓ delta: -1000.00", "(not a bound), off the scale"),
    ):
        axes = bound_curves(replace(comparison, rows=rows)).axes[0]
        label = next(text.get_text() for text in texts(axes) if "delta" in text.get_text())
        assert label.startswith(start)
        assert label.endswith(end)
        assert axes.get_ylim()[0] > -1000


def test_an_estimate_of_log_p_is_drawn_with_its_error_and_its_reason(compared, figures):
    figure = figures["bounds"]
    (band,) = figure.axes[0].patches
    row = compared[0].rows[0]
    assert row.log_evidence_se is not None
    assert band.get_height() == pytest.approx(4 * row.log_evidence_se)
    assert "is a lower bound too" in " ".join(figure.get_suptitle().split())


def test_the_figure_of_khat_names_its_guide_and_its_lines(compared, figures):
    x = compared[1]
    figure = figures["khat"]
    assert "of the guide full" in figure.get_suptitle()
    shown = " ".join(" ".join(text.get_text().split()) for text in texts(figure.axes[0]))
    assert "below it, the weights can be trusted" in shown
    assert "above it, the weights have no finite mean" in shown
    assert "off the scale" not in shown
    bare = xr.Dataset({"khat": ("data", np.full(20, 0.1))}, attrs={"khat_threshold": 0.7})
    assert "guide" not in khat_by_image(bare, x, (4, 4)).get_suptitle()
    few = xr.Dataset({"khat": ("data", np.full(20, np.inf))}, attrs={"khat_threshold": 0.7})  # of few particles
    assert khat_by_image(few, x, (4, 4)).axes[0].get_ylim()[1] == pytest.approx(1.1)


@pytest.mark.parametrize("epochs", [1, 2, 3, 20])
def test_epochs_and_steps_are_whole_numbers(epochs):
    history = History(size=10, elbo=[-5.0 + epoch for epoch in range(epochs)], seconds=[0.1] * epochs)
    for figure in (training_curves({"one": history}), side_by_side({"one": history}, batch_size=10)):
        figure.draw_without_rendering()
        ticks = figure.axes[0].get_xticks()
        np.testing.assert_array_equal(ticks, np.round(ticks))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("heights", [[0, 1e-4, 2e-4, 3e-4, 1], [1.0] * 12, list(np.linspace(0, 1, 7))])
def test_labels_lie_on_none_of_the_others_and_inside_of_the_figure(heights, beside):
    figure = new_figure(6, 4)
    axes = tidy(figure.add_subplot())
    for number, height in enumerate(heights):
        axes.plot([0, 1], [0, height], label=f"the line {number}")
    axes.plot([0, 1], [0, 1])  # has no label
    label_ends(axes, beside)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts(axes)]
    assert len(boxes) == len(heights)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    order = [text.get_text() for text in sorted(texts(axes), key=lambda text: text.get_window_extent().y0)]
    assert order == [f"the line {number}" for number in range(len(heights))]


def records(axis, values):
    return [
        {"estimator": name, "biased": False, "particles": count, "variance": 3.0, "variance_low": 2.0}
        | {"variance_high": 5.0, axis: value}
        for name, count in (("pathwise", 1), ("rloo", 2))
        for value in values
    ]


def test_few_variances_are_intervals_and_more_are_curves_with_their_particles_and_unit():
    few = variances(records("latents", [2, 3]), "latents")
    names = [label.get_text() for label in few.axes[0].get_yticklabels()]
    assert sorted(names) == [
        *(f"pathwise, 1 particle, latents: {count}" for count in (2, 3)),
        *(f"rloo, 2 particles, latents: {count}" for count in (2, 3)),
    ]
    assert few.axes[0].get_xlabel() == "variance of the gradient, nats$^2$"
    many = variances(records("epoch", [0, 1, 2]), "epoch")
    assert {text.get_text() for text in texts(many.axes[0])} == {"pathwise, 1 particle", "rloo, 2 particles"}
    assert many.axes[0].get_ylabel() == "variance of the gradient, nats$^2$"
    assert not legends(many)


def test_the_manifold_tells_where_its_images_lie():
    axes = manifold(LinearGaussian(16, 2), (4, 4), side=10).axes[0]
    low, middle, high = axes.get_xticks()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-1", "0", "1"]
    assert middle == pytest.approx(10 * 6 / 2 - 0.5)
    assert (high - middle) == pytest.approx(middle - low) == pytest.approx(60 * 0.3413, abs=0.01)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "0", "-1"]
