"""Stage 3, attack and rank: `ray job submit -- python jobs/evaluate.py STUDY.yaml [options]` is
`advrec evaluate`.
"""

import sys

from advrec.cli import main

sys.exit(main(["evaluate", *sys.argv[1:]]))
