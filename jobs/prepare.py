"""Stage 1, images to catalog, for `ray job submit -- python jobs/prepare.py STUDY.yaml [options]`; the same as `advrec prepare`."""

import sys

from advrec.cli import main

sys.exit(main(["prepare", *sys.argv[1:]]))
