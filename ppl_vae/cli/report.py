"""``ppl-vae report``: the page of an earlier run, written anew."""

import sys
import webbrowser

from ppl_vae.cli.opening_options import ReportOptions


def report(options: ReportOptions) -> None:
    """Write the report of an earlier run anew: its table, figures and images in one file, for any browser.

    Example: ppl-vae report runs/mnist --open
    """
    from ppl_vae.runs.page import write_page

    page = write_page(options.folder, options.to, options.data_root)
    print(page)
    if options.open and not webbrowser.open(page.resolve().as_uri()):
        print(f"ppl-vae: no browser was found: open {page} in one", file=sys.stderr)
