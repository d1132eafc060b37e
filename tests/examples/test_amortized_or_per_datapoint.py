import pytest


def test_the_table_grows_with_the_data_and_the_encoder_does_not(run_example):
    found = run_example("amortized_or_per_datapoint", "--sizes", "50,200", "--epochs", "40", "--steps", "30")
    rows, best = found["rows"], found["best"]
    assert rows["encoder", 50]["numbers"] == rows["encoder", 200]["numbers"] == rows["semi-amortized", 200]["numbers"]
    assert [rows["table", count]["numbers"] for count in (50, 200)] == [200, 800]
    in_encoder, in_row = rows["encoder", 50]["numbers"], found["row_numbers"]
    assert (found["crossing"] - 1) * in_row <= in_encoder < found["crossing"] * in_row
    assert best["gap"] > -4 * best["gap_se"]  # log p(x) is exact, and the ELBO a bound
    assert all(row["gap"] > -4 * row["gap_se"] for row in rows.values())
    assert best["gap"] < rows["encoder", 200]["gap"]
    for count in (50, 200):
        assert rows["encoder", count]["unseen"] > rows["encoder", count]["gap"]
        assert rows["semi-amortized", count]["gap"] < rows["encoder", count]["gap"]
    assert rows["encoder", 200]["unseen"] < rows["encoder", 50]["unseen"]
    assert rows["table", 50]["unseen"] != rows["table", 50]["unseen"]  # no guide for these
    assert found["printed"].strip().splitlines()[-1].startswith("With N = 200 and 30 steps")


@pytest.mark.parametrize("sizes", ["10,100", "100,1000000"])
def test_a_size_without_the_images_that_are_measured_is_refused(run_example, capsys, sizes):
    with pytest.raises(SystemExit):
        run_example("amortized_or_per_datapoint", "--sizes", sizes)
    assert "--sizes is" in capsys.readouterr().err
