import collections

import pytest

from advrec.errors import ConfigError
from advrec.evaluation import tuples


def test_pairs_are_distinct_of_different_categories_and_of_one_split(catalog):
    rows = tuples.sample(catalog, "test", 100, seed=1).to_pylist()
    test = set(catalog.ids_of("test").tolist())
    assert [row["tuple_id"] for row in rows] == list(range(100))
    assert len({(row["target_id"], row["attack_id"]) for row in rows}) == 100
    for row in rows:
        assert {row["target_id"], row["attack_id"]} <= test
        assert catalog.category_names[row["target_id"]] != catalog.category_names[row["attack_id"]]


def test_a_smaller_draw_is_the_beginning_of_a_larger_one(catalog):
    assert tuples.sample(catalog, "test", 60, seed=1).slice(0, 20) == tuples.sample(
        catalog, "test", 20, seed=1
    )
    assert tuples.sample(catalog, "test", 20, seed=2) != tuples.sample(catalog, "test", 20, seed=1)


def test_every_possible_pair_can_be_drawn_and_no_more(catalog):
    ids = catalog.ids_of("validation").tolist()
    kinds = collections.Counter(catalog.category_names[i] for i in ids)
    possible = sum(n * (len(ids) - n) for n in kinds.values())
    assert len(tuples.sample(catalog, "validation", possible, seed=1)) == possible
    with pytest.raises(ConfigError, match=f"holds {possible} pairs"):
        tuples.sample(catalog, "validation", possible + 1, seed=1)


def test_pairs_by_name_are_read_and_bad_ones_named_by_line(catalog, tmp_path):
    ids = catalog.ids_of("test")
    other = next(i for i in ids if catalog.category_names[i] != catalog.category_names[ids[0]])
    same = next(i for i in ids[1:] if catalog.category_names[i] == catalog.category_names[ids[0]])
    train = catalog.ids_of("train")[0]

    def read(*pairs, header="target_name,attack_name"):
        path = tmp_path / "pairs.csv"
        path.write_text(
            "\n".join([header, *(f"{catalog.names[t]},{catalog.names[a]}" for t, a in pairs)])
            + "\n"
        )
        return tuples.read_csv(catalog, "test", path)

    assert read((other, ids[0]), (ids[0], other)).to_pylist()[1]["attack_id"] == other
    with pytest.raises(ConfigError, match="line 3: both articles are of category"):
        read((other, ids[0]), (ids[0], same))
    with pytest.raises(ConfigError, match=r"line 2: .* is not an article of the test split"):
        read((ids[0], train))
    with pytest.raises(ConfigError, match="columns target_name and attack_name"):
        read(header="a,b")
    with pytest.raises(ConfigError, match="holds no tuples"):
        read()
