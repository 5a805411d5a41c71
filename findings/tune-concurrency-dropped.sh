#!/usr/bin/env bash
# ray 2.60.0 (Ray Tune): TuneConfig(max_concurrent_trials=1) beside search_alg=BasicVariantGenerator(),
# the class that Ray Tune takes for itself when no search_alg is given, is dropped without a word: as
# many trials run at once as there are cores. Without search_alg it holds, and so does the class's own
# argument max_concurrent. Whoever names the searcher for its seed (random_state) loses the limit.
#
# Seen: trials at once, of 4 on 2 cores: no search_alg 1, BasicVariantGenerator() 2,
#       BasicVariantGenerator(max_concurrent=1) 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "ray[tune]==2.60.0"
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import os
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def trial(config):
    begin = time.time()
    time.sleep(3)
    tune.report({"begin": begin, "end": time.time()})


def at_once(search_alg):
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            num_samples=4, search_alg=search_alg, max_concurrent_trials=1
        ),
        run_config=tune.RunConfig(storage_path=os.path.abspath("kept"), verbose=0),
    )
    spans = [(r.metrics["begin"], r.metrics["end"]) for r in tuner.fit()]
    return max(sum(begin <= t < end for begin, end in spans) for t, _ in spans)


found = [
    at_once(None),
    at_once(BasicVariantGenerator()),
    at_once(BasicVariantGenerator(max_concurrent=1)),
]
print("trials at once: no search_alg", found[0], " BasicVariantGenerator()", found[1],
      " BasicVariantGenerator(max_concurrent=1)", found[2])
assert found == [1, 2, 1]
PYTHON
