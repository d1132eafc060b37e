"""A run's report in a browser: it shows the run's numbers, and draws what the model draws."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ppl_vae import open_run
from ppl_vae.cli import app as cli
from ppl_vae.models import VAE
from ppl_vae.runs import page, page_images
from ppl_vae.runs.decoder_export import NotExportable, evaluated, exported_decoder

DEVICES = {"laptop": {"width": 1280, "height": 800}, "telephone": {"width": 390, "height": 844}}
FAST = ("--epochs", "2", "--particles", "20", "--quiet")


def ppl_vae(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ppl-vae", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return end.value.code or 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One small run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    small = ("--hidden", "16,16", "--latents", "2", "--images", "24")
    calls = {
        "compared": ("compare", *small, "--guides", "delta,diagonal,full", *FAST),
        "trained": ("train", *small, *FAST),
        "conditional": ("train", "--model", "conditional-vae", *small, *FAST),
        "linear": ("train", "--model", "linear-gaussian", "--latents", "2", "--images", "24", *FAST),
        "deep": ("train", "--latents", "3", "--hidden", "16", "--images", "24", *FAST),
        "schools": ("compare", "--model", "eight-schools", "--guides", "auto-normal,auto-mvn", *FAST),
        "table": ("train", "--model", "gaussian-mixture", "--data", "iris", "--epochs", "5", "--quiet"),
        "gradients": ("gradients", "--estimators", "score-function,pathwise", "--latents", "2", "--hidden", "8",
            "--epochs", "1", "--draws", "10", "--reference-draws", "50", "--quiet"),
    }  # fmt: skip
    for name, arguments in calls.items():
        assert ppl_vae(*arguments, "--run", folder / name) == 0
    return folder


@contextmanager
def opened(browser, folder, device="laptop", scheme="light"):
    """A page without a complaint, which has asked for nothing but itself."""
    said, asked = [], []
    context = browser.new_context(viewport=DEVICES[device], color_scheme=scheme)
    tab = context.new_page()
    tab.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((folder / page.PAGE).as_uri())
    yield tab
    assert not said
    assert [url for url in asked if not url.startswith("data:")] == [(folder / page.PAGE).as_uri()]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_page_fits_every_screen(browser, runs, device, scheme):
    for folder in sorted(runs.iterdir()):
        with opened(browser, folder, device, scheme) as tab:
            assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), folder.name
            shade = tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
            assert (int(shade) > 128) == (scheme == "light")
            assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            figures = {image.stem for image in folder.glob("*.png")}
            assert tab.locator("#figures figure").count() == len(figures) > 0
            assert tab.locator("#figures figcaption").count() == len(figures)  # each is read
            assert (folder / page.PAGE).stat().st_size < 3_000_000


def image_in(tab):
    return tab.evaluate(
        "(() => { const c = document.getElementById('drawn');"
        " return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0) })()"
    )


def point_in(tab):
    words = tab.locator("#where").inner_text().replace("−", "-")
    return [float(part) for part in words.partition("(")[2].partition(")")[0].split(",")]


@pytest.mark.parametrize("device", DEVICES)
def test_the_decoder_follows_the_pointer(browser, runs, device):
    with opened(browser, runs / "compared", device) as tab:
        plane = tab.locator("#plane")
        plane.scroll_into_view_if_needed()
        box, before = plane.bounding_box(), image_in(tab)
        tab.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
        after, z = image_in(tab), point_in(tab)
        assert after != before
        assert z[0] > 0.5
        assert z[1] > 0.5
        plane.press("ArrowLeft")
        assert point_in(tab)[0] == pytest.approx(z[0] - 0.1, abs=0.011)
        assert image_in(tab) != after


@pytest.mark.parametrize("name", ["compared", "trained", "conditional", "linear"])
def test_the_page_draws_what_the_model_draws(browser, runs, name):
    run = open_run(runs / name)
    model = next(iter(run.pairs.values()))[0]
    given = [torch.eye(10)[[3] * 5]] if model.given_count else []
    z = torch.tensor([[0.0, 0.0], [1.0, -2.0], [-0.3, 0.7], [2.5, 2.5], [-3.0, 0.1]])
    with opened(browser, runs / name) as tab:
        inputs = torch.cat([z, *given], 1).tolist()
        found = tab.evaluate(
            "inputs => { const data = JSON.parse(document.getElementById('explorer-data').textContent);"
            " const decode = decoderOf(data.decoders[0]); return inputs.map(one => [...decode(one)]) }",
            inputs,
        )
        if given:
            tab.get_by_role("button", name="draw a 3").click()
        shown = torch.tensor(image_in(tab)) / 255
    with torch.no_grad():
        mean = model.likelihood(z, *given).mean
    assert torch.allclose(torch.tensor(found), mean, atol=1e-5)
    assert torch.allclose(shown, mean[0].clamp(0, 1), atol=0.51 / 255)


def test_a_heading_sorts_the_table_by_the_keyboard_too(browser, runs):
    results = json.loads((runs / "compared" / "table.json").read_text())["guides"]
    with opened(browser, runs / "compared") as tab:
        column = [row.text_content().split()[0] for row in tab.locator("#table tbody th").all()]
        assert column == [row["guide"] for row in results]
        heading = tab.locator("#table").get_by_role("button", name="gap")
        heading.focus()
        tab.keyboard.press("Enter")
        tab.keyboard.press("Enter")
        column = [row.text_content().split()[0] for row in tab.locator("#table tbody th").all()]
        by_gap = sorted(results, key=lambda row: float("inf") if row["gap"] is None else row["gap"])
        assert column == [row["guide"] for row in by_gap]
        assert tab.locator("#table th[aria-sort=ascending]").inner_text().startswith("gap")


def test_single_images_have_their_own_figures(browser, runs):
    bounds = open_run(runs / "compared").bounds
    with opened(browser, runs / "compared") as tab:
        assert tab.locator("#cards li").count() == 24
        card = tab.locator("#cards li").nth(5).locator("figure[data-guide=full]")
        assert float(card.get_attribute("data-gap")) == float(bounds.gap.sel(guide="full")[5])
        assert f"gap {float(bounds.gap.sel(guide='full')[5]):.3f}".replace("-", "−") in card.inner_text()
        tab.get_by_role("button", name="largest gap first").click()
        largest = int(bounds.gap[:, :24].max("guide").argmax())
        assert tab.locator("#cards li").first.get_attribute("data-number") == str(largest)


def test_an_infinite_khat_is_the_largest_and_an_unknown_one_the_last(browser, runs):
    with opened(browser, runs / "compared") as tab:
        tab.evaluate(
            "khats => [...document.querySelectorAll('#cards li')].forEach((card, at) =>"
            " card.querySelectorAll('[data-guide]').forEach(figure => { figure.dataset.khat = khats[at] ?? '0.5' }))",
            ["0.1", "0.9", "nan", "0.7", "inf"],
        )
        tab.get_by_role("button", name="largest k-hat first").click()
        order = [card.get_attribute("data-number") for card in tab.locator("#cards li").all()]
        assert (order[:3], order[-2:]) == (["4", "1", "3"], ["0", "2"])
        assert tab.evaluate("[numberOf('-inf'), numberOf('0.5')]") == [float("-inf"), 0.5]


def test_a_code_that_is_no_number_leaves_the_explorer_whole(browser, runs, tmp_path, monkeypatch):
    means = page_images._means
    monkeypatch.setattr(page_images, "_means", lambda *given: [[float("nan"), 0.1], *means(*given)[1:]])
    text = page.write_page(runs / "trained", tmp_path).read_text()
    written = text.partition('id="explorer-data">')[2].partition("</script>")[0]

    def refuse(name):
        raise AssertionError(name)

    points = json.loads(written, parse_constant=refuse)["points"]["diagonal"]["means"]
    assert points[0] == [None, 0.1]
    with opened(browser, tmp_path) as tab:
        assert "Nearest: test image" in tab.locator("#where").inner_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deep", "This run has 3 latents; a plane to explore has 2: --latents 2."),
        ("schools", "nats for all the data"),
        ("table", "The 3 components hold"),
        ("gradients", "has the smallest variance"),
    ],
)
def test_what_has_no_plane_has_no_explorer(runs, name, words):
    text = (runs / name / page.PAGE).read_text()
    assert words in text
    assert "explorer-data" not in text.partition("<script>")[0]


def test_the_report_is_written_anew_for_what_is_there(runs, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda url: shown.append(url) or True)
    before = (runs / "trained" / page.PAGE).read_bytes()
    assert ppl_vae("report", runs / "trained", "--to", tmp_path, "--open") == 0
    assert capsys.readouterr().out == f"{tmp_path / page.PAGE}\n"
    assert shown == [(tmp_path / page.PAGE).as_uri()]
    assert (tmp_path / page.PAGE).read_bytes() == before
    assert ppl_vae("report", tmp_path) == 2


def test_an_evaluation_is_shown_beside_the_runs_own_figures(browser, runs):
    assert ppl_vae("evaluate", runs / "linear", "--particles", "30", "--quiet") == 0
    with opened(browser, runs / "linear") as tab:
        assert tab.locator("#evaluation table").count() == 1
        assert tab.locator("#table table").count() == 1
    (runs / "linear" / page.EVALUATION).write_text("{")
    assert 'id="evaluation"' not in page.write_page(runs / "linear").read_text()


def test_names_are_text_and_nothing_else(runs, tmp_path):
    run = tmp_path / "<script>alert(1)<"
    run.mkdir()
    for file in (runs / "trained").iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    (run / '"><img src=x onerror=alert(1)>.png').write_bytes((run / "training.png").read_bytes())
    text = page.write_page(run).read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text


def test_a_report_that_fails_costs_one_line_and_not_the_run(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(page, "_content", fail)
    assert ppl_vae("train", "--model", "eight-schools", *FAST, "--run", tmp_path / "a") == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "report" in line]
    assert told == [
        f"ppl-vae: the report was not written (RuntimeError: two lines); `ppl-vae report {tmp_path / 'a'}` tries again"
    ]
    assert open_run(tmp_path / "a").results
    assert not (tmp_path / "a" / page.PAGE).exists()


class Doubled(VAE):
    """Does more with z than its decoder."""

    def likelihood(self, z, *given):
        return super().likelihood(2 * z)


@pytest.mark.parametrize(
    "activation", [torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.ELU, torch.nn.Tanh, torch.nn.Sigmoid, torch.nn.SiLU]
)
def test_known_layers_are_exported_and_others_refused(browser, runs, activation):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(2, 7), activation(), torch.nn.Dropout(0.5), torch.nn.Linear(7, 5, bias=False)]
    model, z = VAE(5, 2, decoder=torch.nn.Sequential(*layers)).eval(), torch.randn(6, 2)
    exported = exported_decoder(model)
    with opened(browser, runs / "trained") as tab:
        found = tab.evaluate("([e, z]) => z.map(one => [...decoderOf(e)(one)])", [exported, z.tolist()])
    mean = model.likelihood(z).mean.detach()
    assert torch.allclose(torch.tensor(found), mean, atol=1e-5)
    assert torch.allclose(evaluated(exported, z), mean, atol=1e-5)
    with pytest.raises(NotExportable, match="has a Softmax, which the page can't evaluate"):
        exported_decoder(VAE(5, 2, decoder=torch.nn.Sequential(*layers, torch.nn.Softmax(-1))))
    with pytest.raises(NotExportable, match="does more with z"):
        exported_decoder(Doubled(5, 2, hidden=(4,)))


def test_a_large_decoder_is_rounded_to_half_the_bytes(browser, runs):
    torch.manual_seed(0)
    model, z = VAE(784, 2, hidden=(400,)).eval(), torch.randn(4, 2)
    exported = exported_decoder(model)
    assert exported["precision"] == "float16"
    with opened(browser, runs / "trained") as tab:
        found = torch.tensor(tab.evaluate("([e, z]) => z.map(one => [...decoderOf(e)(one)])", [exported, z.tolist()]))
    assert torch.allclose(found, evaluated(exported, z), atol=1e-5)
    assert torch.allclose(found, model.likelihood(z).mean.detach(), atol=1e-2)


def test_the_files_of_the_page_are_installed():
    folder = Path(page.__file__).parent / "page_template"
    assert sorted(file.name for file in folder.iterdir()) == ["report.css", "report.html.j2", "report.js"]
