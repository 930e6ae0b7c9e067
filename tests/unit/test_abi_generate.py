"""The committed generated files are what the schema says, and the schema's own arithmetic holds."""

from __future__ import annotations

import pytest

from afterburnerd import generated
from afterburnerd.abi import generate, layout, schema
from afterburnerd.abi.kinds import Field, Struct


def test_committed_files_are_what_the_schema_says() -> None:
    for name, render in generate.TARGETS.items():
        assert (generated.ROOT / name).read_text() == render(), f"{name} is stale: run `make generate`"


def test_a_layout_with_a_hole_is_refused() -> None:
    hole = Struct("hole", "native", "", (Field("u8", "a", ""), Field("u64", "b", "")), 16)
    with pytest.raises(generate.SchemaError, match="not aligned"):
        generate.check_struct(hole)


def test_a_layout_of_another_size_is_refused() -> None:
    short = Struct("short", "native", "", (Field("u64", "a", ""),), 16)
    with pytest.raises(generate.SchemaError, match="take 8 bytes"):
        generate.check_struct(short)


def test_blocks_keep_cache_lines_of_their_own() -> None:
    for block in schema.BLOCKS:
        assert block.words % 16 == 0, block.name


def test_a_record_survives_packing() -> None:
    record = layout.Record(tx=layout.Tx(num_accounts=3, length=235), seq=7, src=bytes(range(16)), sport=9, stored=235)
    assert layout.Record.unpack(record.pack()) == record
    assert len(record.pack()) == layout.Record.SIZE
