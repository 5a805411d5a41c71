"""Stage 2, the study's models: `ray job submit -- python jobs/train.py STUDY.yaml [options]` is
`advrec train`.
"""

import sys

from advrec.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
