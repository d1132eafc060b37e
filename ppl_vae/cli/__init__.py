"""The command line ``ppl-vae``, one module for each command."""
