"""The members by the names that the commands take, one line each, as ``ppl-vae list`` prints them.

The registries (``MODELS``, ``FAMILIES``, ``ESTIMATORS``, ``DATASETS`` and so on) make them, and importing these takes
seconds: here they are named once more, and a test compares the two. A line is the first of the docstring, where the
member is a class or function of ours.
"""

COVARIANCES = ("spherical", "diagonal", "tied-diagonal", "tied", "full")  # as in ppl_vae.models

MEMBERS: dict[str, dict[str, str]] = {
    "models": {
        "vae": "The model of a variational autoencoder: z ~ N(0, I), x ~ p(x | decoder(z)) (Kingma & Welling 2014).",
        "conditional-vae": "A VAE of x given y: z ~ N(0, I), x ~ p(x | decoder(z, y)) (Sohn et al. 2015).",
        "two-layer-vae": "A VAE with two stochastic layers, z2 above z1 (Burda et al. 2015, section 5).",
        "bernoulli-vae": "A VAE whose latents are independent fair bits: z ~ Bernoulli(1/2), x ~ p(x | decoder(z)).",
        "categorical-vae": (
            "A VAE whose latents are ``latent_dim`` one-hot vectors, uniform in the prior; x ~ p(x | decoder(z))."
        ),
        "linear-gaussian": "Probabilistic PCA: z ~ N(0, I), x ~ N(W z + b, s^2 I) (Tipping & Bishop 1999).",
        "gaussian-mixture": "A mixture of Gaussians: one-hot z ~ Categorical(weights), x ~ N(mean_z, covariance_z).",
        "mixture-density-network": (
            "A mixture of Gaussians whose parameters a network computes from an input ``given`` (Bishop 1994)."
        ),
        "linear-regression": (
            "Linear regression: weights ~ N(0, prior_scale^2 I), x ~ N(inputs w + b, noise^2) (Bishop 2006, "
            "section 3.3)."
        ),
        "logistic-regression": (
            "Logistic regression: x ~ Bernoulli(sigmoid(inputs w + b)), with one of two priors over the weights w."
        ),
        "eight-schools": (
            "The effect of coaching in eight schools: theta_j ~ N(mu, tau^2), x_j ~ N(theta_j, sigma_j^2) (Rubin 1981)."
        ),
        "hierarchical-poisson": (
            "Overdispersed counts in groups: x_i ~ Poisson(exposure_i exp(mu + tau g_group(i) + sigma e_i))."
        ),
        "bayesian-mixture": (
            "A mixture of Gaussians whose parameters have priors, in units of data that are standardized."
        ),
        "item-response": "Answers of persons to items: x_ij ~ Bernoulli(sigmoid(a_j (ability_i - difficulty_j))).",
        "eight-schools-centered": "Eight schools whose effects are latents themselves: the posterior has a funnel.",
        "logistic-regression-horseshoe": (
            "Logistic regression with the horseshoe, under which most weights are close to 0."
        ),
    },
    "guides": {
        "delta": 'A point mass, as in the deterministic autoencoder; it has no density, so its "ELBO" is not a bound.',
        "unit": "The Gaussian N(mu, I), with sigma hard-coded to 1.0.",
        "fixed-scale": "The Gaussian N(mu, sigma^2 I) with sigma hard-coded: only the mean is encoded.",
        "diagonal": "The diagonal Gaussian N(mu, diag(sigma^2)) of the usual VAE (Kingma & Welling 2014).",
        "low-rank": "The Gaussian N(mu, diag(sigma^2) + F F') with F of a few columns.",
        "full": "The Gaussian N(mu, L L') with L lower triangular, which sees the correlations between latents.",
        "mixture": "A mixture of diagonal Gaussians with reparameterized draws (Jankowiak & Karaletsos 2018).",
        "iaf": "An inverse autoregressive flow (Kingma et al. 2016): affine steps, fast to draw from.",
        "maf": "A masked autoregressive flow (Papamakarios et al. 2017): affine steps, slow to draw from.",
        "nsf": "A neural spline flow (Durkan et al. 2019), run backwards: monotonic splines, fast to draw from.",
        "bernoulli": (
            "Independent bits, for models with such latents; not reparameterized: Pyro takes the score function."
        ),
        "categorical": "Independent one-hot vectors, event shape (latent_dim, categories); not reparameterized.",
        "one-hot": (
            "A single one-hot vector, event shape (latent_dim,): which component of a mixture; not reparameterized."
        ),
        "exact-posterior": "The guide q(z | x) = p(z | x), by the model's own posterior: its gap is zero.",
        "prior": "The guide q(z | x) = p(z), which is blind to x: nothing of x passes through z, and the rate is zero.",
        "two-layer": (
            "The guide q(z1 | x) q(z2 | z1) of the two-layer VAE, both diagonal Gaussians (Burda et al. 2015, "
            "section 5)."
        ),
        "flow": "The same as iaf.",
        "auto-delta": "A point estimate of all latents: not a bound (Pyro's AutoDelta).",
        "auto-normal": "An independent Gaussian for each latent, site by site (Pyro's AutoNormal).",
        "auto-diagonal": (
            "One Gaussian over all latents together, with a diagonal covariance (Pyro's AutoDiagonalNormal)."
        ),
        "auto-low-rank": "A Gaussian with a diagonal plus low-rank covariance (Pyro's AutoLowRankMultivariateNormal).",
        "auto-mvn": "One Gaussian over all latents with a full covariance (Pyro's AutoMultivariateNormal).",
        "auto-iaf": "An inverse autoregressive flow over all latents (Pyro's AutoIAFNormal).",
        "auto-flow": "A neural autoregressive flow over all latents (Pyro's AutoNormalizingFlow).",
        "auto-structured": (
            "A Gaussian for each latent, with the dependences among sites learned (Pyro's AutoStructured)."
        ),
        "auto-laplace": "The Gaussian around the mode, by the curvature there (Pyro's AutoLaplaceApproximation).",
    },
    "estimators": {
        "pathwise": "Pyro's Trace_ELBO (Kingma & Welling 2014).",
        "pathwise-kl": "Pyro's TraceMeanField_ELBO: analytic KL (Kingma & Welling 2014).",
        "sticking-the-landing": "Pathwise without the score of q (Roeder et al. 2017).",
        "score-function": "Pyro's TraceGraph_ELBO, no baseline (Williams 1992).",
        "reinforce": "The score function by the data axis, no baseline (Williams 1992).",
        "running-mean": "The score function, a decaying mean as its baseline.",
        "neural-baseline": "The score function, a network of x as its baseline (NVIL).",
        "rloo": "The score function, leave-one-out baseline (Kool et al. 2019).",
        "vimco": "IWELBO by leave-one-out scores (Mnih & Rezende 2016).",
        "iwae": "IWELBO, pathwise (Burda et al. 2016).",
        "dreg": "IWELBO, doubly reparameterized (Tucker et al. 2019).",
        "enumeration": "Exact: all states of one discrete site.",
        "gumbel-softmax": "Biased: relaxed draws, analytic KL (Jang et al. 2017).",
        "straight-through": "Biased: the gradient of the mean (Bengio et al. 2013).",
        "straight-through-gumbel": "Biased: discrete draws, the relaxed one's gradient (Jang et al. 2017).",
        "disarm": "Antithetic pairs for independent bits (Dong et al. 2020).",
        "relax": "A learned control variate for independent bits (Grathwohl et al. 2018).",
    },
    "data": {
        "digits": "1437 + 360 handwritten digits of 8x8 pixels, real, embedded in scikit-learn.",
        "mnist": "60000 + 10000 handwritten digits of 28x28 pixels (torchvision).",
        "fashion-mnist": "60000 + 10000 pieces of clothing of 28x28 pixels (torchvision).",
        "static-mnist": "50000 + 10000 MNIST digits, binarized once (Larochelle & Murray 2011).",
        "iris": "150 iris flowers of three species, four lengths in cm, embedded in scikit-learn.",
        "old-faithful": (
            "272 eruptions of the geyser, their length and the wait before the next in minutes (faithful.csv of R)."
        ),
    },
}
