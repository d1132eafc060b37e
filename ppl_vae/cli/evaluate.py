"""``ppl-vae evaluate``: the pairs of an earlier run, measured again."""

from ppl_vae.cli.opening_options import EvaluateOptions


def evaluate(options: EvaluateOptions) -> None:
    """Measure the pairs of an earlier run again: with more particles, more images, or other evidence.

    Example: ppl-vae evaluate runs/mnist --particles 5000 --images 100 --evidence annealed
    """
    from ppl_vae.cli.measuring import measure_runs

    measure_runs(options)
