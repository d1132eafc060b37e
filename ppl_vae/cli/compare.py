"""``ppl-vae compare``: many guides for one model, of images or of latents that all the data share."""

from ppl_vae.cli.options import CompareOptions


def compare(options: CompareOptions) -> None:
    """Train one model, freeze it, fit every guide to it, and rank the guides by their ELBO.

    Example: ppl-vae compare --data mnist --guides diagonal,full,flow --latents 32

    Example: ppl-vae compare --data mnist --guides diagonal,flow --images 100 --split --evidence annealed

    Example: ppl-vae compare --model eight-schools --guides auto-normal,auto-mvn,auto-laplace

    Example: ppl-vae compare --from runs/diagonal --from runs/flow
    """
    from ppl_vae.cli.image_comparison import compare_on_images
    from ppl_vae.cli.measuring import compare_runs
    from ppl_vae.cli.resuming import resumed
    from ppl_vae.cli.shared_runs import compare_on_shared
    from ppl_vae.runs.zoo import SHARED_MODELS

    options = resumed(options, "compare")
    if options.runs:
        compare_runs(options)
    elif options.model in SHARED_MODELS:
        compare_on_shared(options)
    else:
        compare_on_images(options)
