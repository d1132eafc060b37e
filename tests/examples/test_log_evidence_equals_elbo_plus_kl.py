from itertools import pairwise

import pytest


@pytest.fixture
def found(run_example):
    return run_example("log_evidence_equals_elbo_plus_kl", "--epochs", "2", "--steps", "10")


def test_elbo_and_kl_add_up_to_the_evidence_after_each_step(found):
    steps = found["fitting"] + found["misfitting"]
    assert len(steps) == 2 * (1 + 2 * 2 * 10)
    assert found["largest"] == max(abs(step.elbo + step.divergence - step.evidence) for step in steps) < 1e-10
    assert min(step.divergence for step in steps) > 1e-3  # so that the sum says something of the KL
    assert found["printed"].strip().splitlines()[-1].startswith("Yes: ELBO + KL is log p(x)")


def test_a_step_on_q_leaves_the_evidence_and_a_step_on_p_moves_it(found):
    for steps in (found["fitting"], found["misfitting"]):
        for before, after in pairwise(steps):
            assert (before.evidence == after.evidence) == (after.moved == "q")


def test_steps_on_p_make_a_worse_model_where_q_cannot_follow(found):
    gained = found["gained"]
    assert gained("elbo", found["fitting"]) > 0
    assert gained("evidence", found["fitting"]) > 0
    assert gained("elbo", found["misfitting"]) > 0 > gained("evidence", found["misfitting"])
