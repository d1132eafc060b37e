"""``ppl-vae gradients``: gradient estimators side by side."""

from ppl_vae.cli.options import GradientsOptions


def gradients(options: GradientsOptions) -> None:
    """Measure gradient estimators side by side on one pair: variance, bias and cost, along its training.

    Example: ppl-vae gradients --data mnist --latents 2,10,50 --estimators pathwise,score-function
    """
    from ppl_vae.cli.gradient_runs import measure_gradients
    from ppl_vae.cli.resuming import resumed

    measure_gradients(resumed(options, "gradients"))
