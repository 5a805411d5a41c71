"""All stages of a study, for `ray job submit -- python jobs/study.py STUDY.yaml [options]`; the same as `advrec study`."""

import sys

from advrec.cli import main

sys.exit(main(["study", *sys.argv[1:]]))
