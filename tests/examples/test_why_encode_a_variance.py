import pytest

from ppl_vae.evidence import quadrature


def test_rate_and_distortion_add_up_and_no_bound_is_above_log_p(run_example):
    found = run_example("why_encode_a_variance", "--epochs", "4", "--latents", "2", "--images", "20")
    by_name = found["by_name"]
    assert list(found["rows"]) == ["delta", "prior", "unit", "fixed-scale", "diagonal", "full", "flow"]
    assert [name for name, row in by_name.items() if not row.is_bound] == ["delta"]
    for name in found["bounded"]:
        row = found["rows"][name]
        assert abs(row["elbo"] + row["rate"] + row["distortion"]) < 1e-3
        exact = float(
            quadrature(found["found"].pairs[name][0], found["test"], nodes=61).log_evidence.mean()
        )  # two latents
        assert row["elbo"] < exact + 4 * row["error"]
        assert by_name[name].log_evidence == pytest.approx(exact, abs=0.2)
    assert abs(found["rows"]["prior"]["rate"]) < 1e-6
    gains = found["gains"]
    for sigma, name in (("1", "unit"), ("0.5", "fixed-scale")):
        assert gains[sigma][0] == by_name["diagonal"].elbo - by_name[name].elbo
    smallest = min(gains.values())[0]
    assert abs(smallest) > 0.1  # so that the sentence takes a side
    assert f"{'is worth' if smallest > 0 else 'is worse by'} {abs(smallest):.2f} ±" in found["printed"].splitlines()[-1]
