"""All stages of a study: `ray job submit -- python jobs/study.py STUDY.yaml [options]` is `advrec
study`.
"""

import sys

from advrec.cli import main

sys.exit(main(["study", *sys.argv[1:]]))
