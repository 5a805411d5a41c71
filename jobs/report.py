"""Stage 4, tables, figures and page, for `ray job submit -- python jobs/report.py STUDY.yaml [options]`; the same as `advrec report`."""

import sys

from advrec.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
