"""What a table must not hold is named: the column, the first bad row, and what is allowed."""

import numpy as np
import pytest

from shiftbench.errors import InputError
from shiftbench.results.schema import REPLICATE_KEYS, TABLES, validate
from shiftbench.results.tables import cells_table, recall_table, replicates_table, stability_table


def rows(**changes):
    row = {
        "encoder": "zeta", "train_seed": 3, "data": "digits", "split": "test", "shift": "corruption",
        "corruption": "fog", "severity": 2, "table": "cifar", "feature": "backbone", "clusterer": "kmeans", "k": 10,
        "k_source": "true", "seed": 0, "protocol": "frozen", "fit_split": "train", "selection": "last",
        "metric": "acc", "value": 0.5, "higher_is_better": True, "n": 30, "status": "ok", "reason": "",
    }  # fmt: skip
    return cells_table([row, row | {"seed": 1} | changes, row | {"seed": 2}])


def test_good_tables():
    validate("cells", rows())
    validate("cells", rows(reason="fitted to 5,000 of 50,000 images"))  # a note
    validate("cells", rows(status="failed", value=np.nan, reason="no memory"))
    validate("cells", rows(status="skipped", value=np.nan, reason="2 classes in common"))
    validate("cells", rows(train_seed=None))
    validate("cells", cells_table([]))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("of_a_plugin", -17.0),
        ("ari", -0.3),
        ("ami", -0.4),
        ("silhouette", -0.9),
        ("collapsed", 7.0),
        ("drift", 3.5),
        ("frechet", 40.0),
    ],
)
def test_metrics_that_are_no_fractions(metric, value):
    validate("cells", rows(metric=metric, value=value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 97.4}, r"row 1 \(encoder=zeta.*seed=1.*value is .*97.4.*; 0 to 1 is allowed"),
        ({"value": -0.1}, "0 to 1 is allowed"),
        ({"value": np.inf}, "0 to 1 is allowed"),
        ({"metric": "ari", "value": -1.5}, "-1 to 1 is allowed"),
        ({"metric": "drift", "value": -0.1}, "0 to inf is allowed"),
        ({"value": np.nan}, "value is .*nan.*; what was measured needs a value"),
        ({"status": "failed"}, "what was not measured needs a reason"),
        ({"status": "failed", "reason": "no memory"}, "what was not measured must have none"),
        ({"status": "done"}, "status is 'done'; one of ok, failed, skipped is needed"),
        ({"seed": 0}, "the same keys as a row before"),
        ({"severity": -1}, "severity is .*-1.*; 0 to inf is allowed"),
        ({"encoder": None}, "encoder is .*; text is needed"),
        ({"reason": 5}, "reason is 5; text is needed"),
    ],
)
def test_bad_cells(changes, message):
    with pytest.raises(InputError, match=f"cells.*{message}"):
        validate("cells", rows(**changes))


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("severity", "float64", "a whole number is needed"),
        ("train_seed", "float64", "a whole number is needed"),
        ("value", "object", "a floating point number is needed"),
        ("higher_is_better", "int64", "true or false is needed"),
    ],
)
def test_bad_types(column, kind, message):
    with pytest.raises(InputError, match=f"{column} is .*; {message}"):
        validate("cells", rows().astype({column: kind}))


def test_a_missing_column():
    with pytest.raises(InputError, match="cells: there is no column 'seed'"):
        validate("cells", rows().drop(columns="seed"))
    with pytest.raises(InputError, match=r"Unknown table 'cell'. Did you mean 'cells'"):
        validate("cell", rows())


def test_the_first_metric_that_is_wrong_is_named():
    table = rows().assign(metric=["nmi", "acc", "acc"], value=[1.5, 2.5, 0.5])
    with pytest.raises(InputError, match="metric=nmi"):
        validate("cells", table)


def test_replicates_of_a_fraction():
    row = dict(zip(REPLICATE_KEYS, rows()[REPLICATE_KEYS].iloc[0], strict=True))
    validate("replicates", replicates_table([row | {"replicates": [0.1, 1.0]}]))
    validate("replicates", replicates_table([row | {"metric": "ari", "replicates": [-0.1, 1.0]}]))
    with pytest.raises(InputError, match=r"b1 is .*1.5.*; 0 to 1 is allowed"):
        validate("replicates", replicates_table([row | {"replicates": [0.1, 1.5]}]))


def test_agreement_needs_a_reason_too():
    row = {"encoder": "zeta", "mean": np.nan, "status": "failed", "reason": ""}
    words = {name: "" for name in TABLES["stability"].keys if name not in ("train_seed", "severity", "k")}
    table = stability_table([words | row | {"severity": 0, "k": 2, "n_pairs": 0, "n": 0}])
    with pytest.raises(InputError, match=r"stability.*what was not measured needs a reason"):
        validate("stability", table)


def test_recall_is_a_fraction():
    words = {name: "" for name in TABLES["recall"].keys if name not in ("train_seed", "severity", "k")}
    row = words | {"severity": 0, "k": 2, "mean": 1.2, "sd": 0.1, "n_seeds": 2, "n": 5}
    with pytest.raises(InputError, match=r"mean is .*1.2.*; 0 to 1 is allowed"):
        validate("recall", recall_table([row]))
    with pytest.raises(InputError, match=r"sd is .*-0.1.*; 0 to inf is allowed"):
        validate("recall", recall_table([row | {"mean": 1.0, "sd": -0.1}]))


def test_tables_are_described():
    for name, table in TABLES.items():
        assert set(table.keys) <= set(table.columns), name
        assert len(set(table.columns)) == len(table.columns), name
