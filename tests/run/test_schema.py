"""Meaning and unit of each column travel with the tables; old tables, without them, still read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from advrec.run import inventory, schema
from advrec.run.columns import doc, unit
from advrec.run.directory import Run
from advrec.run.files import read_json, write_table
from advrec.run.tables import read_outcomes, read_table

SCHEMAS = [
    *(columns for _, columns in inventory.TABLES.values()),
    schema.IMPORTED,
    schema.outcomes(["png", "jpeg-90"]),
]


def outcomes(size=3):
    values = {pa.string(): "fgsm", pa.bool_(): False, pa.float32(): 0.25, pa.float64(): 0.5}
    return schema.table(
        schema.OUTCOMES,
        {field.name: [values.get(field.type, 1)] * size for field in schema.OUTCOMES},
    )


def before(table):
    """The table as version 0.1.0 wrote it: without metadata."""
    return table.cast(pa.schema([field.remove_metadata() for field in table.schema]))


@pytest.mark.parametrize("columns", SCHEMAS, ids=lambda columns: columns.names[-1])
def test_every_column_says_what_it_means(columns):
    assert [field.name for field in columns if not doc(field).endswith(".")] == []


def test_every_measured_number_has_a_unit():
    pure = {"learning_rate", "train_loss", "weight", "median_rank_before", "median_rank_after"}
    floats = {field for columns in SCHEMAS for field in columns if pa.types.is_floating(field.type)}
    assert {field.name for field in floats if not unit(field)} == pure


def test_meaning_and_unit_travel_in_the_file(tmp_path):
    write_table(tmp_path / "t.parquet", outcomes())
    field = pq.read_schema(tmp_path / "t.parquet").field("adversarial_distance")
    assert unit(field) == "cosine distance, 0 to 2"
    assert doc(field) == "Distance of the attacked image to the target."


def test_files_without_metadata_still_read_also_beside_new_ones(tmp_path):
    new, old = outcomes(), before(outcomes())
    assert doc(old.schema.field("epsilon")) == ""
    for number, table in enumerate((old, new)):
        write_table(tmp_path / "model=m" / "attack=a" / f"block-{number:06d}.parquet", table)
    single = tmp_path / "model=m" / "attack=a" / "block-000000.parquet"
    assert read_table(single, schema.OUTCOMES).equals(new)
    assert read_outcomes(tmp_path).num_rows == 6
    assert pa.concat_tables([old, new]).num_rows == 6


def test_metadata_is_no_part_of_a_content_hash():
    assert schema.content_hash(before(outcomes())) == schema.content_hash(outcomes())


def test_the_hash_of_the_reference_catalog_is_the_one_that_was_recorded():
    run = Run(Path(__file__).parents[2] / "results" / "reference")
    table = read_table(run.catalog, schema.CATALOG)
    assert schema.content_hash(table) == read_json(run.preparation)["catalog_sha256"]
