"""Stage 3, attack every tuple and rank the result: `ray job submit -- python jobs/evaluate.py STUDY.yaml [options]` is `advrec evaluate`."""

import sys

from advrec.cli import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
