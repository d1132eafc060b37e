"""``ppl-vae train``: images, tables and models of shared latents are trained in different ways, under one name."""

from ppl_vae.cli.options import OF_IMAGES, OF_TABLES, TrainOptions


def train(options: TrainOptions) -> None:
    """Train a model with one guide and measure its bounds on the test images; or a mixture on a table.

    Example: ppl-vae train --data mnist --guide diagonal --epochs 30 --run runs/mnist

    Example: torchrun --nproc-per-node 2 -m ppl_vae train --data mnist

    Example: ppl-vae train --model gaussian-mixture --data iris --components 3

    Example: ppl-vae train --model eight-schools --guide auto-mvn
    """
    from ppl_vae.cli.image_runs import train_on_images
    from ppl_vae.cli.resuming import resumed
    from ppl_vae.cli.shared_runs import train_on_shared
    from ppl_vae.cli.table_runs import train_on_table
    from ppl_vae.data.tables import is_table
    from ppl_vae.runs.zoo import SHARED_MODELS

    options = resumed(options, "train", "epochs")
    if options.model in SHARED_MODELS:
        train_on_shared(options)
    elif is_table(options.data):
        options.refuse(OF_IMAGES, f"on {options.data}, which is a table")
        train_on_table(options)
    else:
        options.refuse(OF_TABLES, f"on {options.data}, which has images and no table")
        train_on_images(options)
