"""The Bayesian models with their example data, their sites, and the density of a program at values of them."""

from functools import partial

from pyro import poutine

from ppl_vae.models import (
    BayesianMixture,
    EightSchools,
    HierarchicalPoisson,
    ItemResponse,
    LinearRegression,
    LogisticRegression,
)

# a model for its class's example data, by name; and the sites of its latents, with their shapes in one run
MADE = {
    "linear-regression": partial(LinearRegression, 10),
    "logistic-regression": partial(LogisticRegression, 30),
    "logistic-regression, horseshoe": partial(LogisticRegression, 30, prior="horseshoe"),
    "eight-schools": EightSchools,
    "eight-schools, centered": partial(EightSchools, centered=True),
    "hierarchical-poisson": partial(HierarchicalPoisson, 20),
    "bayesian-mixture": BayesianMixture,
    "item-response": partial(ItemResponse, 12),
    "item-response, Rasch": partial(ItemResponse, 12, parameters=1),
}
SITES = {
    "linear-regression": {"weights": (11,)},
    "logistic-regression": {"weights": (30,), "intercept": ()},
    "logistic-regression, horseshoe": {
        "global_scale": (),
        "local_scales": (30,),
        "raw_weights": (30,),
        "intercept": (),
    },
    "eight-schools": {"mu": (), "tau": (), "theta_raw": (8,)},
    "eight-schools, centered": {"mu": (), "tau": (), "theta": (8,)},
    "hierarchical-poisson": {"mu": (), "tau": (), "sigma": (), "group_raw": (20,), "data_raw": (200,)},
    "bayesian-mixture": {"weights": (2,), "means": (2,), "scales": (2,)},
    "item-response": {"difficulties": (12,), "log_discriminations": (12,), "abilities": (100,)},
    "item-response, Rasch": {"difficulties": (12,), "abilities": (100,)},
}


def made(name):
    """The model and its example data in float64."""
    model = MADE[name]()
    return model, tuple(part.double() if part.is_floating_point() else part for part in model.example_data())


def traced(model, data, **values):
    """The trace of a run with some sites held at these values, its log-densities computed."""
    trace = poutine.trace(poutine.condition(model, data=values)).get_trace(*data)
    trace.compute_log_prob()
    return trace


def latents(trace):
    return {
        name: site["value"]
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and type(site["fn"]).__name__ != "_Subsample"
    }


def drawn(name):
    """The model, its data, a draw of its latents from the prior, as numpy, and the log joint there in nats."""
    model, data = made(name)
    values = latents(traced(model, data))
    return model, data, {key: value.numpy() for key, value in values.items()}, joint(model, data, **values)


def joint(model, data, **values):
    return traced(model, data, **values).log_prob_sum().item()
