"""``python -m ppl_vae``: the same as ``ppl-vae``."""

from ppl_vae.cli.app import main

main()
