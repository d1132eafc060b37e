"""Mixtures of Gaussians by gradients, beside scikit-learn's EM; and what each guide loses on a discrete latent.

p(x) = sum_z p(z) p(x | z) with few components is a sum that can be taken exactly, so the ELBO of any guide q(z | x)
can be held against log p(x) itself. Three ways to train an encoder of q are shown: the exact sum over z
(``TraceEnum_ELBO``), the score function (``TraceGraph_ELBO``) and the Gumbel-softmax relaxation, which is biased.

    python examples/gaussian_mixture.py

Iris goes by columns, the handwritten digits by their first ten principal components, Old Faithful too where --data-root
holds faithful.csv.
"""

import argparse
import time
from functools import partial

import torch
from pyro.infer import TraceEnum_ELBO, TraceGraph_ELBO
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as EM
from torch import Tensor

from ppl_vae import InputError, best_of, compare, cooldown, freeze
from ppl_vae.cli import results
from ppl_vae.cli.terminal import show
from ppl_vae.data.tables import load_table
from ppl_vae.estimators import GumbelSoftmax
from ppl_vae.guides import Amortized, ExactPosterior, OneHot, Prior
from ppl_vae.models import COVARIANCES, GaussianMixture
from ppl_vae.plots.mixtures import clusters
from ppl_vae.programs import Guide
from ppl_vae.runs.folder import begun

STARTS = 5


def fitted(x: Tensor, components: int, covariance: str, epochs: int) -> tuple[GaussianMixture, str]:
    """The best of a few starts, and a line that tells of them all, scikit-learn's EM beside it."""

    def make(seed: int) -> GaussianMixture:
        return GaussianMixture(x.shape[1], components, covariance).double().initialize(x, seed)

    began = time.perf_counter()
    model, starts = best_of(
        make,
        x,
        starts=STARTS if epochs > 10 else 1,
        epochs=epochs,
        batch_size=len(x),
        optimizer=partial(torch.optim.Adam, lr=0.03),
        schedule=cooldown,
        progress=False,
        device="cpu",
    )
    seconds = time.perf_counter() - began
    kept = next(start for start in starts if start.kept)
    others = ", ".join(f"{start.log_likelihood:.2f}{'*' if start.degenerate else ''}" for start in starts)
    reference, eigenvalue, took = f"{'-':>12}", f"{'-':>8}", f"{'-':>6}"
    if covariance != "tied-diagonal":
        kind = {"diagonal": "diag"}.get(covariance, covariance)
        began = time.perf_counter()
        em = EM(components, covariance_type=kind, n_init=STARTS, random_state=0, tol=1e-6, max_iter=1000).fit(x.numpy())
        took = f"{time.perf_counter() - began:6.2f}"
        reference = f"{em.score(x.numpy()) * len(x):12.3f}"
        eigenvalue = f"{em_eigenvalue(em):8.2g}"
    line = (
        f"{covariance:<14}{components:>3}{kept.log_likelihood:>12.3f}{reference}{kept.smallest_eigenvalue:>12.2g}"
        f"{eigenvalue}{seconds:>8.1f}{took}   {others}"
    )
    return model, line  # type: ignore[return-value]


def em_eigenvalue(em: EM) -> float:
    """The smallest eigenvalue of scikit-learn's covariances."""
    if em.covariance_type in ("full", "tied"):
        return float(torch.linalg.eigvalsh(torch.from_numpy(em.covariances_)).min())
    return float(em.covariances_.min())


def main(epochs: int = 1000, data_root: str = "") -> None:
    """Fits every covariance type to every table, draws the clusters, and ranks the guides on iris."""
    flowers = load_iris()
    pixels, digits = load_digits(return_X_y=True)
    tables = {"iris": (torch.from_numpy(flowers.data), [2, 3], [name[:-5] for name in flowers.feature_names])}
    try:
        geyser = load_table("old-faithful", data_root or None)
        tables["old-faithful"] = (geyser.values.double(), [2, 3], list(geyser.columns))
    except InputError as error:
        print(error)
    reduced = torch.from_numpy(PCA(10, random_state=0).fit_transform(pixels))
    tables["digits"] = (reduced, [10], [f"direction {number}" for number in range(1, 11)])
    truth = {"iris": flowers.target, "digits": digits}
    with begun(None, "gaussian-mixture", "examples/gaussian_mixture.py", {}) as running:
        place = running.path
        kept: dict[str, GaussianMixture] = {}
        for name, (x, counts, columns) in tables.items():
            print(f"\n{name}: {len(x)} rows, log likelihood in nats; eigenvalue: the smallest of any covariance")
            heads = f"{'':<14}{'K':>3}{'SVI':>12}{'EM':>12}{'eigenvalue':>12}{'EM':>8}{'s, SVI':>8}{'EM':>6}"
            print(f"{heads}   every start (*: degenerate)")
            for components in counts:
                for covariance in COVARIANCES:
                    model, line = fitted(x, components, covariance, epochs)
                    print(line, flush=True)
                    kept[name] = model
                    if covariance == "full":
                        figure = clusters(
                            x,
                            model.posterior(x).probs.detach(),
                            model.means,
                            model.covariances,
                            columns,
                            f"{name}: {components} Gaussians, full covariances",
                            truth.get(name),
                        )
                        results.save(place / f"{name}-{components}.png", figure)
        rank_guides(kept["iris"], tables["iris"][0], epochs)
        running.finish()
    print(running.path)


def rank_guides(model: GaussianMixture, x: Tensor, epochs: int) -> None:
    """The tightness table of one fitted mixture: the same encoder, trained in three ways."""
    freeze(model)
    elbos = {
        "one-hot, exact sum over z": TraceEnum_ELBO(max_plate_nesting=1),
        "one-hot, score function": TraceGraph_ELBO(),
        "one-hot, Gumbel-softmax": GumbelSoftmax(),
    }
    guides: dict[str, Guide] = {"exact": ExactPosterior(model), "prior": Prior(model)}
    for name in elbos:
        torch.manual_seed(0)
        guides[name] = Amortized(OneHot(model.components), observed_dim=4, hidden=(32,)).double()
    guides["one-hot, exact sum over z"].enumerates = True
    names = {guide: name for name, guide in guides.items()}
    found = compare(
        model,
        guides,
        x,
        test=x,
        epochs=3 * epochs,
        batch_size=len(x),
        particles=2000,
        columns=(10, 100),
        device="cpu",
        progress=False,
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        elbo=lambda guide: elbos.get(names[guide]),
    )
    show(results.table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--data-root", default="", help="the folder of faithful.csv")
    main(**vars(parser.parse_args()))
