"""Files of an evaluation with a byte changed or the end cut off: read as they were, or not at all, never an error."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftbench.evaluation.partitions import Agreements, AxisResult, Partitions
from shiftbench.reports import gallery
from shiftbench.stability import Agreement

MEASURED = {"ari": Agreement(0.5, 0.1, 0.4, 0.6, 3)}
KEPT = {
    "partitions": Partitions(
        "key", ("frozen", "refit"), np.array([3, 3]), np.arange(60, dtype=np.int16).reshape(2, 3, 10) % 3,
        {"acc": np.full((2, 3), 0.5)}, replicates={"acc": np.linspace(0, 1, 80, dtype=np.float32).reshape(2, 40)},
    ),
    "agreements": Agreements("key", {"bootstrap": AxisResult(MEASURED, 10)}),
}  # fmt: skip
LOAD = {"partitions": Partitions.load, "agreements": Agreements.load, "examples": gallery.load}


def content(loaded):
    return repr(
        {
            name: np.asarray(value).tolist()
            for name, value in (loaded if isinstance(loaded, dict) else vars(loaded)).items()
        }
    )


@pytest.fixture(params=LOAD)
def saved(request, tmp_path):
    path = tmp_path / "file.npz"
    if request.param == "examples":
        np.savez_compressed(path, images=np.arange(300, dtype=np.uint8), name=np.array("condition"))
    else:
        KEPT[request.param].save(path)
    return LOAD[request.param], path, path.read_bytes()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_or_a_lost_end(saved, data):
    load, path, whole = saved
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
    else:
        path.write_bytes(whole[:place])
    found = load(path)
    path.write_bytes(whole)
    if found is not None:
        assert content(found) == content(load(path))
