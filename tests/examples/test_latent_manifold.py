import math

import pytest
import torch


def test_the_images_fill_the_prior_and_the_rate_is_taken_apart(run_example):
    found = run_example("latent_manifold", "--epochs", "40")
    shares = found["shares"]
    for limit in (1.0, 2.0, 3.0):
        assert shares[limit] == pytest.approx(1 - math.exp(-(limit**2) / 2), abs=0.2)
    with torch.no_grad():  # KL(q(z) || p(z)) once more, from draws of its own
        q = found["guide"].posterior(found["test"])
        z = q.sample((20,)).flatten(0, 1)
        log_q = torch.cat([q.log_prob(part[:, None]).logsumexp(-1) for part in z.split(500)]) - found["cap"]
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert found["left_over"] == pytest.approx(float((log_q - log_p).mean()), abs=0.1)
    assert 0.5 < found["kept"] < math.log(len(found["test"]))
    assert found["printed"].strip().splitlines()[-1].startswith("Of the draws from q(z)")
