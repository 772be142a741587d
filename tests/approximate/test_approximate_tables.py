"""Tables of products: errors as published, files that are read or refused, and their decomposition."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from imbnas.approximate.families import FAMILIES
from imbnas.approximate.low_rank import integer_factors
from imbnas.approximate.product_tables import ProductTable, codes, read_products, truncated
from imbnas.errors import UserError

PUBLISHED = {
    "exact": (0.0, 0.0, 0.0, 0),
    "truncated-1": (0.081, 0.39, 53.33, 255),
    "truncated-2": (0.23, 1.16, 149.78, 759),
    "truncated-3": (0.52, 2.66, 339.94, 1743),
    "first-truncated-6": (3.08, 12.30, 2016.0, 8064),
}
"""MAE and WCE of EvoApproxLib's circuits in percent, as printed, and absolute."""


@pytest.mark.parametrize("name", FAMILIES)
def test_errors_are_those_of_the_library(name: str) -> None:
    figures = FAMILIES[name].table(name).figures
    mae, wce, absolute, worst = PUBLISHED[name]
    assert figures.mae_percent == pytest.approx(mae, abs=0.005 if mae > 0.1 else 0.0005)
    assert figures.wce_percent == pytest.approx(wce, abs=0.005)
    assert (figures.mae, figures.wce) == (pytest.approx(absolute, abs=0.005), worst)


def test_errors_by_hand() -> None:
    values = np.multiply.outer(codes(False), codes(False))
    values[0, 7], values[2, 3] = 5, 2
    figures = ProductTable(values, False, "test", "two wrong").figures
    assert (figures.mae, figures.wce, figures.mse) == (9 / 65536, 5, 41 / 65536)
    assert figures.probability == 2 / 65536
    # The first exact product is 0, and 1 takes its place.
    assert figures.mre == pytest.approx((5 / 1 + 4 / 6) / 65536)


def test_truncation_rounds_down() -> None:
    table = truncated(2, 0, "test", "t")
    assert table.values[codes(True).tolist().index(-1), codes(True).tolist().index(5)] == -4 * 5
    assert table.values[codes(True).tolist().index(7), codes(True).tolist().index(-5)] == 4 * -5


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".bin"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_table_comes_back_from_a_file(tmp_path: Path, suffix: str, signed: bool) -> None:
    exact = np.multiply.outer(codes(signed), codes(signed))
    exact[3, 200] += 17
    path = tmp_path / f"products{suffix}"
    kind = "<i2" if signed else "<u2"
    if suffix == ".npy":
        np.save(path, exact.astype(np.int32))
    elif suffix == ".csv":
        path.write_text("".join(", ".join(map(str, row)) + "\n" for row in exact.tolist()))
    else:
        path.write_bytes(exact.astype(kind).tobytes())
    found = read_products(path, signed, "EvoApproxLib v2022", "mul8")
    assert np.array_equal(found.values, exact)
    assert (found.library, found.name) == ("EvoApproxLib v2022", "mul8")
    assert found.sha256 == hashlib.sha256(exact.astype(kind).tobytes()).hexdigest()


def saved(path: Path, array: np.ndarray) -> None:
    np.save(path, array)


BAD = {
    "absent.npy": (lambda path: None, "No such file or directory"),
    "folder.npy": (lambda path: path.mkdir(), "Is a directory"),
    "table.txt": (lambda path: path.write_text("1"), r"the suffix is \.txt, expected one of \.npy, \.csv, \.bin"),
    "shape.npy": (lambda path: saved(path, np.zeros((256, 255), int)), r"the shape \[256, 255\]"),
    "type.npy": (lambda path: saved(path, np.zeros((256, 256))), "the type float64"),
    "empty.npy": (lambda path: path.write_bytes(b""), "not a file of numpy's format"),
    "cut.npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "expected 256 rows"),
    "range.npy": (
        lambda path: saved(path, np.pad([[70000]], ((0, 255), (1, 254)))),
        r"row 1, column 2: found 70000 as the product of -128 and -127, expected a number from -32768 to 32767",
    ),
    "short.csv": (lambda path: path.write_text("1,2\n"), "row 1 has 2 numbers"),
    "word.csv": (lambda path: path.write_text(",".join(["1"] * 255 + ["x"]) + "\n"), "row 1, column 256: found 'x'"),
    "rows.csv": (lambda path: path.write_text(",".join(["1"] * 256) + "\n"), r"the shape \[1, 256\]"),
    "bytes.csv": (lambda path: path.write_bytes(b"\xff\xfe"), "utf-8"),
    "short.bin": (lambda path: path.write_bytes(b"12"), "found 2 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        read_products(tmp_path / name, True, "library", "name")
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rank", [0, 1, 4, 7])
def test_whole_factors_of_a_matrix_of_known_rank(rank: int) -> None:
    rng = np.random.default_rng(rank)
    matrix = rng.integers(-3, 4, (40, rank)) @ rng.integers(-3, 4, (rank, 30))
    found = integer_factors(matrix, 7)
    assert found is not None
    left, right = found
    assert left.shape == (40, rank)
    assert np.array_equal(left @ right, matrix)
    if rank:
        assert integer_factors(matrix, rank - 1) is None


def test_whole_factors_exist_where_no_two_rows_make_a_basis() -> None:
    # Any two rows span a part of the lattice only: 6, 10 and 15 have no common factor, and each pair has one.
    matrix = np.array([[6, 0, 6], [10, 0, 10], [15, 0, 15], [0, 6, 6], [0, 10, 10], [0, 15, 15]])
    found = integer_factors(matrix, 2)
    assert found is not None
    assert np.array_equal(found[0] @ found[1], matrix)
    assert np.abs(found[1]).max() == 1
