import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal


def log_evidence(x: torch.Tensor, group: torch.Tensor) -> float:
    """log p(x): given the spread x is Gaussian, and the spread's logarithm, N(0, 1), is summed over a grid."""
    logs = torch.linspace(-8, 8, 2001, dtype=torch.float64)
    together = (group[:, None] == group).double()
    covariances = 25 + (2 * logs).exp()[:, None, None] * together + torch.eye(len(x)).double()
    given = MultivariateNormal(torch.zeros(len(x)).double(), covariances).log_prob(x.double())
    return float((given + Normal(0.0, 1.0).log_prob(logs)).logsumexp(0)) + math.log(16 / 2000)


def test_all_three_guides_are_sound_and_give_the_known_log_p(run_example):
    found = run_example("a_model_of_your_own", "--epochs", "1000")
    by_name = found["found"]
    assert found["mistakes"] == {name: [] for name in found["guides"]}
    known = log_evidence(*found["data"])
    for measured in by_name.values():
        assert float(measured.log_evidence[0]) == pytest.approx(known, abs=0.1)
    last = found["printed"].strip().splitlines()[-1]
    assert last.startswith("The ELBO of the guide written by hand is measured to lie")
    assert ("is below" in last) == (found["khat"] < found["threshold"])


def test_a_guide_that_was_hardly_trained_is_not_believed(run_example):
    found = run_example("a_model_of_your_own", "--epochs", "5")
    assert found["khat"] > found["threshold"]
    assert "neither log p(x) nor the gap can be believed" in found["printed"].strip().splitlines()[-1]
