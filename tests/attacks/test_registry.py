"""Names of attacks: what each means, and what is refused."""

import re

import pytest
import torch

from advrec.attacks import names, registry
from advrec.attacks.apgd import APGD
from advrec.attacks.blind import Square
from advrec.attacks.ensemble import Ensemble
from advrec.attacks.gradient import PGD
from advrec.attacks.objective import Misclassification
from advrec.attacks.problem import Problem
from advrec.errors import ConfigError

WRONG = [
    "fgms",
    "pgd8",
    "pgd-0",
    "pgd",
    "cw--5",
    "pgd-1.5",
    "",
    "PGD-8",
    "pgd-08",
    "pgd-12345678",
    "pgd-\u0663",
    "fgsm-1",
    "noise-5",
    "auto-5",
]
WRONG += [
    "apgd-100 ",
    "apgd-l2-5o",
    "apgd-l2-0",
    "apgd-l2-",
    "square",
    "square-0",
    "mifgsm",
    "cw-exact",
    "cw-exact-",
    "pgd-decay--3",
]


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_no_attack_is_refused(name):
    for make in (registry.by_name, registry.build):
        with pytest.raises(ConfigError, match="is not an attack"):
            make(name)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("pdg-32", "pgd-32"),
        ("PGD-8", "pgd-8"),
        ("fgms", "fgsm"),
        ("nosie", "noise"),
        ("atuo", "auto"),
        ("apgd-l2-5o", "apgd-l2-5"),
        ("apgd_l2-50", "apgd-l2-50"),
        ("apdg-100", "apgd-100"),
        ("square", "square-8"),
        ("squre-1000", "square-1000"),
        ("Square-500", "square-500"),
        ("mifgms-10", "mifgsm-10"),
        ("cwexact-100", "cw-exact-100"),
        ("pgd-decy-64", "pgd-decay-64"),
        ("apgd-l2", "apgd-l2-8"),
    ],
)
def test_a_misspelt_attack_gets_the_nearest_right_word(wrong, right):
    with pytest.raises(ConfigError, match=rf"did you mean {re.escape(right)}\?"):
        registry.build(wrong)
    registry.build(right)


def test_a_word_that_is_near_nothing_gets_no_suggestion():
    with pytest.raises(ConfigError, match=r"is not an attack \(known: "):
        registry.build("xyzzy")


def test_a_refusal_names_every_attack():
    with pytest.raises(ConfigError) as refusal:
        registry.build("xyzzy")
    for name in (*registry.FIXED, "auto", *registry.FAMILIES):
        assert re.search(rf"[ ,(]{name}(-K)?[,;]", str(refusal.value).replace(")", ","))


@pytest.mark.parametrize("name", ["fgsm", "pgd-8", "cw-8", "noise", "auto"])
@pytest.mark.parametrize("nested", [False, True])
def test_restarts_are_refused_for_what_draws_nothing_and_for_ensembles(name, nested):
    with pytest.raises(ConfigError, match="restarts"):
        registry.build(name, restarts=1, nested=nested)
    registry.build(name, restarts=0, nested=nested)


@pytest.mark.parametrize("family", names.STRONG)
def test_the_other_attacks_are_restarted_as_often_as_asked(family):
    attack = registry.build(f"{family}-7", restarts=2)
    assert isinstance(attack, Ensemble)
    assert [member.label for member in attack.members] == [
        f"{family}-7",
        f"{family}-7 restart 1",
        f"{family}-7 restart 2",
    ]
    assert {member.attack for member in attack.members} == {registry.by_name(f"{family}-7")}


def test_a_misspelt_attack_is_refused_as_such_with_restarts_too():
    with pytest.raises(ConfigError, match=r"did you mean apgd-100\?"):
        registry.build("apdg-100", restarts=2)


@pytest.mark.parametrize(
    "name", [*registry.FIXED, *(f"{family}-7" for family in registry.FAMILIES)]
)
def test_an_attack_without_restarts_and_nesting_is_the_attack_itself(name):
    assert registry.build(name) == registry.by_name(name)


def test_the_number_is_the_steps_or_the_queries():
    assert registry.by_name("fgsm") == PGD(steps=1) == registry.by_name("pgd-1")
    assert registry.by_name("apgd-l2-50") == APGD(50, squared=True)
    assert registry.by_name("square-5000") == Square(queries=5000)


def test_the_squared_distance_is_refused_where_there_are_no_embeddings():
    objective = Misclassification(lambda images: (images.flatten(1), None), torch.tensor([0]), None)
    problem = Problem(objective, torch.rand(1, 3, 4, 4), torch.tensor([0.1], dtype=torch.float64))
    registry.by_name("apgd-3")(problem)
    with pytest.raises(TypeError, match="embeddings"):
        registry.by_name("apgd-l2-3")(problem)


@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("fgsm", {}, 1),
        ("pgd-128", {}, 128),
        ("pgd-128", {"nested": True}, 256),
        ("apgd-l2-100", {"restarts": 2}, 300),
        ("apgd-l2-100", {"restarts": 2, "nested": True}, 300),
        ("auto-1", {"nested": True}, 250),
        ("auto", {"nested": True}, 175),
        ("auto", {"nested": True, "budgets": 5}, 375),
        ("pgd-8", {"budgets": 3}, 24),
        ("minimal-40", {"budgets": 3}, 40),
        ("square-300", {}, 100),
        ("noise", {}, 1 / 3),
    ],
)
def test_forecasts_count_the_steps_of_an_attack(name, options, steps):
    assert names.most_steps(name, **options) == pytest.approx(steps)


def test_every_name_of_the_grammar_has_its_attack_and_the_other_way_round():
    assert set(registry.FIXED) == set(names.FIXED)
    assert set(registry.FAMILIES) == set(names.FAMILIES)
    assert names.parse("apgd-l2-50") == ("apgd-l2", 50)
    for member in (*names.AUTO_MEMBERS, *names.AUTO_DELIVERED):
        registry.by_name(member)
