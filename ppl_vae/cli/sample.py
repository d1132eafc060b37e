"""``ppl-vae sample``: new data from the model of an earlier run."""

from ppl_vae.cli.opening_options import SampleOptions


def sample(options: SampleOptions) -> None:
    """Draw new images or rows from the model of an earlier run, and write them to its folder.

    Images come as drawn.npy, which --data takes again, and drawn.png; rows of a table as drawn.csv; for a model whose
    latents all the data share, what its guide predicts comes as drawn.nc (arviz.from_netcdf).

    Example: ppl-vae sample runs/mnist --count 1000
    """
    from ppl_vae.cli.drawing import draw
    from ppl_vae.runs.opened import open_run

    for path in draw(open_run(options.folder), options):
        print(path)
