"""Stage 1, images to catalog: `ray job submit -- python jobs/prepare.py STUDY.yaml [options]` is
`advrec prepare`.
"""

import sys

from advrec.cli import main

sys.exit(main(["prepare", *sys.argv[1:]]))
