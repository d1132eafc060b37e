"""``ppl-vae reproduce``: the command of an earlier run, once more, and its figures beside those of then."""

from ppl_vae.cli.opening_options import ReproduceOptions


def reproduce(options: ReproduceOptions) -> None:
    """Run the command of an earlier run again and compare the figures with those of then.

    Ends with status 1 where a figure differs by more than rounding. Times and memory are not compared.

    Example: ppl-vae reproduce runs/mnist
    """
    from ppl_vae.cli.reproducing import run_again

    run_again(options)
