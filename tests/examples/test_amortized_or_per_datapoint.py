def test_the_table_grows_with_the_data_and_the_encoder_does_not(run_example):
    found = run_example("amortized_or_per_datapoint", "--sizes", "50,60", "--epochs", "3")
    rows = found["rows"]
    assert rows["encoder", 50]["numbers"] == rows["encoder", 60]["numbers"] == rows["semi-amortized", 60]["numbers"]
    assert [rows["table", count]["numbers"] for count in (50, 60)] == [200, 240]
    assert all(row["gap"] > -0.05 for row in rows.values())  # log p(x) is exact, and the ELBO a bound
    assert rows["table", 50]["unseen"] != rows["table", 50]["unseen"]  # no guide for these
    assert found["printed"].strip().splitlines()[-1].startswith("With N = 60")
