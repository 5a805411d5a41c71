#!/usr/bin/env bash
# pytrec_eval-terrier 0.5.11 (trec_eval) and ranx 0.3.21: the same lists, the same relevant article,
# other numbers. trec_eval orders equal scores by the article's name, last name first, and keeps
# scores as float32: scores that differ by less are equal too. ranx keeps the order in which the scores
# were handed over. A model that gives equal scores (saturated, or equal photographs) is as good as
# the names of its articles.
#
# Seen: trec_eval: reciprocal rank of a beside b at one score 0.5, of b 1.0; a better by 1e-9: 0.5
#       ranx: a first in the dictionary 1.0, a second 0.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pytrec_eval-terrier==0.5.11 ranx==0.3.21 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import warnings

warnings.simplefilter("ignore")
import pytrec_eval
from ranx import Qrels, Run, evaluate


def trec(relevant, scores):
    evaluator = pytrec_eval.RelevanceEvaluator({"user": {relevant: 1}}, {"recip_rank"})
    return evaluator.evaluate({"user": scores})["user"]["recip_rank"]


def ranx(relevant, scores):
    return float(evaluate(Qrels({"user": {relevant: 1}}), Run({"user": scores}), "mrr"))


equal = {"a": 1.0, "b": 1.0}
by_name = trec("a", equal), trec("b", equal)
tiny = trec("a", {"a": 1.0, "b": 1.0 - 1e-9})
by_order = ranx("a", equal), ranx("a", {"b": 1.0, "a": 1.0})
print("trec_eval:", by_name, "better by 1e-9:", tiny, "  ranx:", by_order)
assert by_name == (0.5, 1.0)
assert tiny == 0.5
assert by_order == (1.0, 0.5)
PYTHON
