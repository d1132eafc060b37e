"""A mixture of Gaussians: the latent is which of them a point comes from."""

import math
import warnings
from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.models.gaussians import Gaussian, one_of
from ppl_vae.programs import Distribution, LatentVariableModel

COVARIANCES = ("spherical", "diagonal", "tied-diagonal", "tied", "full")
_SEEDING_ROWS = 100_000  # what k-means++ looks at; more rows don't move its seeds
_LLOYD_STEPS = 5  # k-means steps after the seeds: off the outliers, and still a start of its own for each seed
_OF_EM = {"spherical": "spherical", "diagonal": "diag", "tied": "tied", "full": "full"}  # as scikit-learn names them
_GAIN = 1e-6  # nats a row, of the step after which EM ends
_ADDED = 1e-6  # to variances in units of the spread, by EM, which breaks down where a component has too few rows
_CHUNK_NUMBERS = 2**22  # numbers in the largest tensor of log_joint, for one chunk of the data


class GaussianMixture(LatentVariableModel):
    """A mixture of Gaussians: one-hot z ~ Categorical(weights), x ~ N(mean_z, covariance_z).

    z is one vector of length ``components``, event shape (components,). Its site is marked for enumeration, so that
    ``TraceEnum_ELBO`` with the empty guide sums it out. Means and covariances are learned in units of the data's
    spread, which :meth:`initialize` sets; every covariance is A A' + floor I in these units, so no eigenvalue falls
    below the floor, and optima above it are left where they are.

    Args:
        observed_dim: the number of columns.
        latent_dim: the number of components.
        covariance: "spherical" (one variance a component), "diagonal", "full", "tied" (one full matrix for all) or
            "tied-diagonal"; mclust's VII, VVI, VVV, EEE and EEI.
        floor: the smallest eigenvalue that a covariance may have, as a share of the columns' variance.

    Raises:
        InputError: for an unknown covariance, or a floor that is not above 0.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import GaussianMixture
        >>> x = torch.cat([torch.randn(50, 2) - 4, torch.randn(50, 2) + 4])
        >>> mixture = GaussianMixture(observed_dim=2, latent_dim=2).initialize(x)
        >>> mixture.weights.detach()  # of the k-means start; fit improves on it
        tensor([0.5000, 0.5000])
        >>> bool(mixture.posterior(x[:1]).probs.max() > 0.99)
        True
    """

    center: Tensor
    spread: Tensor

    def __init__(self, observed_dim: int, latent_dim: int, covariance: str = "full", floor: float = 1e-3) -> None:
        super().__init__(latent_dim)
        if covariance not in COVARIANCES:
            raise InputError(f"covariance is {covariance!r}; choose from {', '.join(COVARIANCES)}")
        if not floor > 0:
            raise InputError(f"floor is {floor}; a covariance's smallest eigenvalue is above 0")
        self.observed_dim, self.covariance, self.floor = observed_dim, covariance, floor
        self.register_buffer("center", torch.zeros(observed_dim))
        self.register_buffer("spread", torch.ones(observed_dim))
        self.logits = nn.Parameter(torch.zeros(latent_dim))
        self.locs = nn.Parameter(torch.randn(latent_dim, observed_dim))
        start = {
            "spherical": torch.ones(latent_dim, 1),
            "diagonal": torch.ones(latent_dim, observed_dim),
            "tied-diagonal": torch.ones(1, observed_dim),
            "tied": torch.eye(observed_dim)[None],
            "full": torch.eye(observed_dim).repeat(latent_dim, 1, 1),
        }
        self.factors = nn.Parameter(start[covariance])

    @property
    def components(self) -> int:
        """The number of Gaussians."""
        return self.latent_dim

    @property
    def full(self) -> bool:
        """Whether the covariances are matrices, not diagonals."""
        return self.covariance in ("tied", "full")

    @property
    def weights(self) -> Tensor:
        """The probabilities p(z) of the components, shape (components,)."""
        return self.logits.softmax(0)

    @property
    def means(self) -> Tensor:
        """The means of the components in the data's units, shape (components, observed_dim)."""
        return self.center + self.spread * self.locs

    @property
    def covariances(self) -> Tensor:
        """The covariances in the data's units, shape (components, observed_dim, observed_dim)."""
        return self._gaussian(self.locs, self.precisions).covariance

    @property
    def precisions(self) -> Tensor:
        """Lower triangular roots of the precision matrices, in units of the spread.

        Their shape is (components, dim, dim), or (components, dim) where the covariances are diagonal.
        """
        if not self.full:
            return (self.factors.square() + self.floor).rsqrt().expand(self.components, self.observed_dim)
        lower = self.factors.tril()
        eye = torch.eye(self.observed_dim, dtype=lower.dtype, device=lower.device)
        root = torch.linalg.cholesky(lower @ lower.mT + self.floor * eye)
        return torch.linalg.solve_triangular(root, eye.expand_as(root), upper=False).expand(self.components, -1, -1)

    def _gaussian(self, loc: Tensor, precision: Tensor) -> Gaussian:
        return Gaussian(loc, precision, self.full, self.center, self.spread)

    @property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of all covariances, in the data's units squared."""
        return float(torch.linalg.eigvalsh(self.covariances.detach().double()).min())

    @property
    def degenerate(self) -> bool:
        """Whether a covariance has collapsed onto the floor: its likelihood then says more of the floor than of x."""
        factors = self.factors.detach().double()
        lower = factors.tril()
        variances = torch.linalg.eigvalsh(lower @ lower.mT) if self.full else factors.square()
        return bool(variances.min() < self.floor)

    @property
    def num_free(self) -> int:
        """The number of free parameters, for BIC and AIC."""
        dim, shared = self.observed_dim, 1 if self.covariance.startswith("tied") else self.components
        each = {"spherical": 1, "diagonal": dim, "tied-diagonal": dim}.get(self.covariance, dim * (dim + 1) // 2)
        return self.components - 1 + self.components * dim + shared * each

    def prior(self, *given: Tensor) -> Distribution:
        """The prior over the components, event shape (components,)."""
        return dist.OneHotCategorical(logits=self.logits)

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The Gaussian N(mean_z, covariance_z) that one-hot z picks, event shape (observed_dim,)."""
        return self._gaussian(one_of(z, self.locs, 1), one_of(z, self.precisions, 2 if self.full else 1))

    def log_joint(self, x: Tensor) -> Tensor:
        """Returns log p(x, z) in nats for each component, shape (batch, components)."""
        each = self._gaussian(self.locs, self.precisions)
        log_weights = self.logits.log_softmax(0)
        chunk = max(1, _CHUNK_NUMBERS // (self.components * self.observed_dim))
        return torch.cat([log_weights + each.log_prob(part[:, None]) for part in x.split(chunk)])

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The exact posterior p(z | x), the responsibilities, batch shape (batch,)."""
        return dist.OneHotCategorical(logits=self.log_joint(x))

    def log_evidence(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns log p(x) in nats, the components summed out, shape (batch,)."""
        return self.log_joint(x).logsumexp(-1)

    def initialize(self, x: Tensor, seed: int = 0, em_steps: int = 0) -> Self:
        """Sets the units to those of x and the components by k-means++ (Arthur & Vassilvitskii 2007); returns self.

        A few k-means steps follow the seeds; the share, mean and covariance of each cluster are its component's, the
        covariance a tenth of the columns' variance larger. With ``em_steps``, scikit-learn's EM goes on from there,
        until a step gains less than 1e-6 nats a row: a few rows are then at their optimum before the first gradient
        step, of which it takes some hundred. Of more than 100000 rows, so many at random are looked at.

        Args:
            x: the data, shape (data, observed_dim).
            seed: of the k-means++ draw.
            em_steps: the most EM steps, none by default; where one ends below the floor, the covariance is put on it.

        Raises:
            InputError: for a wrong shape, NaN, a constant column, no more rows than components, or EM steps that are
                negative or for a tied diagonal, which scikit-learn has not.
        """
        from sklearn.cluster import KMeans

        self._check(x)
        if em_steps < 0 or (em_steps and self.covariance not in _OF_EM):
            raise InputError(
                f"em_steps is {em_steps} for {self.covariance} covariances; it is 0 or above, and 0 for tied-diagonal "
                "ones, which scikit-learn's EM has not"
            )
        x = x.detach().to(self.center)
        if len(x) > _SEEDING_ROWS:
            x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_SEEDING_ROWS].to(x.device)]
        center, spread = x.mean(0), x.std(0, correction=0)
        if self.covariance == "spherical":  # one unit for all columns, or the balls would not stay balls
            spread = spread.square().mean().sqrt().expand_as(spread)
        scaled = (x - center) / spread
        means = KMeans(self.components, init="k-means++", n_init=1, max_iter=_LLOYD_STEPS, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # stopped early on purpose, and rows may be equal
            means.fit(scaled.double().cpu().numpy())
        nearest = torch.from_numpy(means.labels_).long().to(x.device)
        member = nn.functional.one_hot(nearest, self.components).to(scaled)
        counts = member.sum(0).clamp(min=1)
        locs = member.T @ scaled / counts[:, None]
        residual = scaled - member @ locs
        covariances = torch.einsum("nk,ni,nj->kij", member, residual, residual) / counts[:, None, None]
        weights = counts / counts.sum()
        with torch.no_grad():
            self.center.copy_(center)
            self.spread.copy_(spread)
            self.logits.copy_(weights.log())
            self.locs.copy_(locs)
            self.factors.copy_(self._factors(covariances, weights))
            if em_steps:
                self._climb(scaled.double().cpu(), em_steps)
        return self

    def _factors(self, covariances: Tensor, weights: Tensor) -> Tensor:
        """Returns the start's factors A, a tenth of the columns' variance added so that small clusters start alive."""
        covariances = covariances + 0.1 * torch.eye(self.observed_dim).to(covariances)
        if self.covariance.startswith("tied"):
            covariances = torch.einsum("k,kij->ij", weights, covariances)[None]
        if self.full:
            return torch.linalg.cholesky(covariances)
        variances = covariances.diagonal(dim1=-2, dim2=-1)
        return (variances.mean(-1, keepdim=True) if self.covariance == "spherical" else variances).sqrt()

    def _climb(self, scaled: Tensor, steps: int) -> None:
        """Moves the parameters by scikit-learn's EM, from where they are; the data are in units of the spread."""
        from sklearn.mixture import GaussianMixture as EM

        roots = self.precisions.double().cpu()
        precisions = (roots.mT @ roots if self.full else roots.square()).numpy()
        first_alone, one_number = self.covariance == "tied", self.covariance == "spherical"
        em = EM(
            self.components,
            covariance_type=_OF_EM[self.covariance],
            tol=_GAIN,
            reg_covar=_ADDED,
            max_iter=steps,
            weights_init=self.logits.double().cpu().softmax(0).numpy(),
            means_init=self.locs.detach().double().cpu().numpy(),
            precisions_init=precisions[0] if first_alone else precisions[:, 0] if one_number else precisions,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # so many steps were asked for
            em.fit(scaled.numpy())
        self.logits.copy_(torch.from_numpy(em.weights_).clamp(min=1e-30).log())
        self.locs.copy_(torch.from_numpy(em.means_))
        found = torch.from_numpy(em.covariances_)
        least = 1e-3 * self.floor  # at A = 0 the gradient of A A' is 0, and the covariance would stay there
        if self.full:
            found = found.reshape(-1, self.observed_dim, self.observed_dim)
            values, vectors = torch.linalg.eigh(found)
            above = (values - self.floor).clamp(min=least)
            self.factors.copy_(torch.linalg.cholesky((vectors * above[:, None]) @ vectors.mT))
        else:
            self.factors.copy_((found - self.floor).clamp(min=least).sqrt().reshape(self.factors.shape))

    def _check(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[1] != self.observed_dim:
            raise InputError(f"x has shape {tuple(x.shape)}; a mixture over {self.observed_dim} columns needs as many")
        if not x.isfinite().all():
            raise InputError("x has NaN or infinity in it: drop or fill these rows")
        if len(x) <= self.components:
            raise InputError(f"x has {len(x)} rows for {self.components} components: take more rows than components")
        for column in (x.amax(0) == x.amin(0)).nonzero()[:1]:
            raise InputError(f"column {int(column)} of x is constant, so its variance is 0: drop it")

    def extra_repr(self) -> str:
        """Says what the mixture is made of."""
        return f"components={self.components}, covariance={self.covariance!r}, observed_dim={self.observed_dim}"


def bic(model: GaussianMixture, x: Tensor) -> float:
    """Returns the Bayesian information criterion of a mixture on some data, lower is better (Schwarz 1978).

    It is -2 log p(x) + free parameters * log rows.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import GaussianMixture
        >>> from ppl_vae.models.gaussian_mixture import bic
        >>> x = torch.cat([torch.randn(50, 2) - 4, torch.randn(50, 2) + 4])
        >>> one, two = (GaussianMixture(2, components).initialize(x) for components in (1, 2))
        >>> bic(two, x) < bic(one, x)
        True
    """
    with torch.no_grad():
        total: Any = model.log_evidence(x).double().sum()
    return -2 * float(total) + model.num_free * math.log(len(x))
