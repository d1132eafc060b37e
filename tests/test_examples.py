"""Every example has a test of its own, which runs its small form and holds its number."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_example_has_a_test_of_its_own():
    examples = {path.stem for path in (ROOT / "examples").glob("*.py")}
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "examples").glob("test_*.py")}
    assert examples == tested
