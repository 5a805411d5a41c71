"""Purchases, as files have them and as models get them, against naive loops over their rows."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.catalog import bought, interactions, purchases
from advrec.catalog.interactions import Interactions
from advrec.errors import AdvrecError, ConfigError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.tables import read_table

UTC = datetime.UTC
USERS, ARTICLES = 5, 7
ROWS = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ARTICLES - 1)), min_size=1, max_size=40
)


def made(rows):
    users, articles = np.array(rows).T
    return Interactions.of(users, articles, num_users=USERS, num_articles=ARTICLES)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_a_users_last_of_two_or_more_is_held_out_and_repeats_do_not_count(rows):
    expected = []
    for user in range(USERS):
        mine = list(dict.fromkeys(article for buyer, article in rows if buyer == user))
        expected += [
            (user, article, place, len(mine) > 1 and place == len(mine) - 1)
            for place, article in enumerate(mine)
        ]
    found = made(rows)
    assert [*zip(*(column.tolist() for column in found[:4]), strict=True)] == expected
    training = [(user, article) for user, article, _, held_out in expected if not held_out]
    assert [*zip(*map(list, found.training()), strict=True)] == training
    starts, articles = found.seen()
    for user in range(USERS):
        seen = articles[starts[user] : starts[user + 1]].tolist()
        assert seen == [article for buyer, article in training if buyer == user]
    bought_then = {article for _, article in training}
    assert [not cold for cold in found.cold()] == [a in bought_then for a in range(ARTICLES)]
    held_out = [(user, article) for user, article, _, last in expected if last]
    assert [*zip(*map(list, found.held_out_pairs()), strict=True)] == held_out
    assert found.sizes.tolist() == [sum(row[0] == user for row in expected) for user in range(5)]


def test_they_are_read_as_they_were_written(tmp_path):
    run, found = Run(tmp_path), made([(0, 1), (0, 2), (4, 2)])
    with pytest.raises(AdvrecError, match=r"run `advrec prepare` first"):
        interactions.read(run, ARTICLES)
    interactions.write(run, found, pa.array(["a", "b", "c", "d", "e"]))
    again = interactions.read(run, ARTICLES)
    assert all(map(np.array_equal, again, found))
    assert pq.read_table(run.users).to_pydict() == {
        "query_id": [0, 1, 2, 3, 4],
        "user": ["a", "b", "c", "d", "e"],
        "purchases": [2, 0, 0, 0, 1],
    }


# Files


def csv(tmp_path, *lines):
    (tmp_path / "bought.csv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "bought.csv")


def parquet(tmp_path, **columns):
    pq.write_table(pa.table(columns), tmp_path / "bought.parquet")
    return str(tmp_path / "bought.parquet")


TIMES = {
    "seconds": ["30", "4", "4", "100"],
    "nanoseconds": ["1700000000000000003", "1700000000000000001"] * 2,
    "fractions": ["1e3", "-2.5", "-2.5", "1001"],
    "days": ["2026-02-01", "2026-01-31", "2026-01-31", "2027-01-01"],
    "moments": ["2026-02-01T00:00:00.5", "2026-02-01 00:00", "2026-02-01T00:00", "2026-02-02"],
    "zones": [
        "2026-02-01T01:00:00+00:00",
        "2026-02-01T01:30:00+02:00",
        "2026-01-31T23:30:00Z",
        "2026-02-01T02:00:00Z",
    ],
}
ORDER = {"nanoseconds": [1, 3, 0, 2]}
"""Order of the rows in time; of the others [1, 2, 0, 3]: the second and third are at one time."""


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_any_kind_order_the_rows_and_ties_keep_theirs(kind, tmp_path):
    rows = [f"u,{n},{time}" for n, time in enumerate(TIMES[kind])]
    read = purchases.read(csv(tmp_path, "user,article,time", *rows))
    assert read.order.tolist() == ORDER.get(kind, [1, 2, 0, 3])
    as_text = purchases.read(parquet(tmp_path, user=["u"] * 4, article=["0"] * 4, time=TIMES[kind]))
    assert as_text.order.tolist() == read.order.tolist()


DAYS = [datetime.date(2026, 2, day) for day in (2, 1, 1, 3)]
MOMENTS = [datetime.datetime(2026, 2, day, 5) for day in (2, 1, 1, 3)]  # noqa: DTZ001
COLUMNS = {
    "dates": pa.array(DAYS),
    "timestamps": pa.array(MOMENTS, pa.timestamp("ms")),
    "zoned": pa.array([each.replace(tzinfo=UTC) for each in MOMENTS], pa.timestamp("us", "+02:00")),
    "integers": pa.array([2, 1, 1, 2**63], pa.uint64()),
    "floats": pa.array([0.2, 0.1, 0.1, 3.0]),
    "decimals": pa.array([2, 1, 1, 3], pa.decimal128(5, 2)),
    "categories": pa.array(["2026-02-02", "2026-02-01", "2026-02-01", "2026-02-03"]),
}
COLUMNS["categories"] = COLUMNS["categories"].dictionary_encode()


@pytest.mark.parametrize("kind", COLUMNS)
def test_times_of_parquet_too(kind, tmp_path):
    path = parquet(tmp_path, user=["u"] * 4, article=[0, 1, 2, 3], time=COLUMNS[kind])
    assert purchases.read(path).order.tolist() == [1, 2, 0, 3]


def test_without_times_the_order_of_rows_counts(tmp_path):
    read = purchases.read(csv(tmp_path, "article;user", "0;b", "", "1;a"))
    assert read.order.tolist() == [0, 1]
    assert not read.timed
    assert read.users.to_pylist() == ["b", "a"]


IDS = {
    "whole numbers": (["12", "-7"], [12, -7]),
    "a leading zero": (["007", "12"], ["007", "12"]),
    "text": (["anna@x", "7"], ["anna@x", "7"]),
    "beyond 64 bits": (["1", "99999999999999999999"], ["1", "99999999999999999999"]),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_of_users_stay_as_they_are(kind, tmp_path):
    given_ids, expected = IDS[kind]
    path = csv(tmp_path, "user,article", *(f'"{user}", 0' for user in given_ids))
    assert purchases.read(path).users.to_pylist() == expected
    as_text = parquet(tmp_path, user=given_ids, article=[0, 0])
    assert purchases.read(as_text).users.to_pylist() == given_ids


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([5, 2], pa.int16()), [5, 2]),
        (pa.array([5.0, 2.0]), [5, 2]),
        (pa.array([2**63, 2], pa.uint64()), [str(2**63), "2"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
        (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
        (pa.array([b"x", b"y"]), ["x", "y"]),
    ],
    ids=str,
)
def test_ids_of_parquet_too(column, expected, tmp_path):
    path = parquet(tmp_path, user=column, article=[0, 0])
    assert purchases.read(path).users.to_pylist() == expected


REFUSED = {
    "no column": (["user,item", "1,2"], r"has no column article; it has user, item, of user"),
    "a time by another name": (["user,article,timestamp", "1,2,3"], "one called timestamp; rename"),
    "no user": (["user,article", "1,2", ",3"], "line 3: user is empty"),
    "no article": (["user,article", "1, "], "line 2: article is empty"),
    "no time": (["user,article,time", "1,2,3", "1,3,"], r"line 3: time is empty.*leave the column"),
    "no moment": (["user,article,time", "1,2,2026-01-01", "1,3,soon"], "line 3: time is soon;"),
    "mixed zones": (
        ["user,article,time", "1,2,2026-01-01T00:00Z", "1,3,2026-01-01"],
        "line 3: time is 2026-01-01; write",
    ),
    "mixed kinds": (["user,article,time", "1,2,5", "1,2,6", "1,3,2026-01-01"], "line 4: time is"),
    "no number": (["user,article,time", "1,2,5", "1,2,inf"], "line 3: time is inf"),
    "no rows": (["user,article"], "holds no purchases"),
    "too many values": (["user,article", "1,2,3"], "line 2: holds more values than the 2 columns"),
    "a column twice": (["user,article,article", "1,2,3"], "has the column article twice; rename"),
    "times twice": (["user,article,time,time", "1,2,3,4"], "has the column time twice"),
    "a quote": (["user,article", '1,"2'], "is neither a CSV"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_file_is_refused_in_a_sentence_with_its_line(kind, tmp_path):
    lines, said = REFUSED[kind]
    with pytest.raises(ConfigError, match=said) as refused:
        purchases.read(csv(tmp_path, *lines))
    assert str(refused.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": [1, None], "article": [0, 0]}, "row 2: user is empty"),
        ({"user": [1, 1], "article": [0, 0], "time": [1.0, float("nan")]}, "row 2: time is empty"),
        ({"user": [1, 1], "article": [0, 0], "time": [True, False]}, "values of the type bool"),
        ({"user": [[1], [2]], "article": [0, 0]}, r"user holds values of the type list"),
    ],
    ids=str,
)
def test_so_is_a_bad_table(columns, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        purchases.read(parquet(tmp_path, **columns))


def test_a_table_with_a_column_twice_is_refused_unless_nobody_reads_it(tmp_path):
    for name in ("user", "article", "time", "note"):
        names = ["user", "article", "time", "note", name]
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_arrays([pa.array([1, 2])] * 5, names), path)
        if name == "note":
            assert len(purchases.read(str(path)).users) == 2
        else:
            with pytest.raises(ConfigError, match=f"has the column {name} twice; rename one"):
                purchases.read(str(path))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for content in (b"PAR1 and no more", b"\xff\xfe\x00", b""):
        (tmp_path / "bought").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bought: (is neither|has no column user)"):
            purchases.read(str(tmp_path / "bought"))
    with pytest.raises(ConfigError, match="cannot be read"):
        purchases.read(str(tmp_path / "gone.csv"))


# In a catalog


def test_articles_go_by_name_by_id_and_by_the_article_that_a_duplicate_repeats(
    prepared, catalog, tmp_path
):
    listing = read_table(prepared.listing, schema.LISTING).to_pandas()
    copies = listing[(listing["outcome"] == "duplicate") & listing["article_id"].notna()]
    copy = copies.iloc[0]
    plain = listing[listing["outcome"] == "no texture"].iloc[0]
    rows = [
        ("eve", catalog.names[5]),
        ("gone", "nowhere.jpg"),
        ("eve", copy["name"]),
        ("ida", f"./{catalog.names[9]}"),
        ("eve", "5"),  # again, as ID
        ("ida", plain["name"]),
        ("ida", str(len(catalog))),
        ("ida", "12"),
    ]
    path = csv(tmp_path, "user,article", *(f"{user},{article}" for user, article in rows))
    found = bought.resolve(prepared, catalog, purchases.read(path), path)
    assert found.users.to_pylist() == ["eve", "ida"]
    assert found.interactions.article_ids.tolist() == [5, copy["article_id"], 9, 12]
    assert found.interactions.query_ids.tolist() == [0, 0, 1, 1]
    assert found.unknown == {
        "nowhere.jpg": "is not in the catalog",
        plain["name"]: "has no texture, so it is no article",
        str(len(catalog)): "is not in the catalog",
    }
    assert found.summary == (
        f"8 rows of {path} in order; 3 of 3 unknown articles are set aside (nowhere.jpg, "
        f"{plain['name']}, {len(catalog)}); 1 user who bought nothing else is left out; "
        "1 for an article that the user has already"
    )


def test_a_file_of_another_catalog_is_refused(prepared, catalog, tmp_path):
    path = csv(tmp_path, "user,article", "1,other/a.jpg", "1,-1", "2,99999999999")
    with pytest.raises(ConfigError, match=r"no purchase of an article of the catalog.*other/a.jpg"):
        bought.resolve(prepared, catalog, purchases.read(path), path)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 6), st.integers(0, 3)),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=40, deadline=None)
def test_a_file_becomes_what_a_loop_over_its_rows_says(rows):
    catalog = FakeCatalog(5)  # articles 5 and 6 are not in it
    run = Run("nothing")
    read = purchases.Purchases(
        pa.array([user for user, _, _ in rows]),
        pa.array([str(article) for _, article, _ in rows]),
        np.argsort([time for _, _, time in rows], kind="stable"),
        True,
    )
    known = [(user, article, time) for user, article, time in rows if article < 5]
    if not known:
        with pytest.raises(ConfigError):
            bought.resolve(run, catalog, read, "x")
        return
    found = bought.resolve(run, catalog, read, "x")
    users = list(dict.fromkeys(user for user, _, _ in known))
    assert found.users.to_pylist() == users
    expected = []
    for place, user in enumerate(users):
        mine = sorted((row for row in known if row[0] == user), key=lambda row: row[2])
        expected += [(place, article) for article in dict.fromkeys(row[1] for row in mine)]
    pairs = zip(found.interactions.query_ids, found.interactions.article_ids, strict=True)
    assert [(int(user), int(article)) for user, article in pairs] == expected


class FakeCatalog:
    """A catalog of so many articles, none of which has a name that is a number."""

    def __init__(self, articles):
        self.names = [f"{n}.jpg" for n in range(articles)]

    def __len__(self):
        return len(self.names)
