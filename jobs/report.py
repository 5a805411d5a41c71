"""Stage 4, tables, figures and page: `ray job submit -- python jobs/report.py STUDY.yaml [options]`
is `advrec report`.
"""

import sys

from advrec.cli import main

sys.exit(main(["report", *sys.argv[1:]]))
