"""Counters as people see them."""

from broker.stats import ModelStats, Stats, model_as_dict
from ringbuf.errors import Code


def test_errors_are_told_by_name_in_the_order_of_their_codes():
    stats = Stats(requests=3, sessions=2, dropped_requests=1)
    stats.errors.update([Code.MODEL_FAILED, Code.DUPLICATE_ID, Code.MODEL_FAILED, 4999])
    assert stats.as_dict() == {
        "requests": 3,
        "sessions": 2,
        "dropped_requests": 1,
        "errors": {"DUPLICATE_ID": 1, "4999": 1, "MODEL_FAILED": 2},
    }
    assert list(stats.as_dict()["errors"]) == ["DUPLICATE_ID", "4999", "MODEL_FAILED"]


def test_means():
    told = model_as_dict(
        ModelStats(results=4, rows=6, batches=2, queue_ns=8000, compute_ns=9000), copied={"outputs_bytes": 5}
    )
    assert (told["mean_batch_rows"], told["mean_queue_us"], told["mean_compute_us"]) == (3.0, 2.0, 4.5)
    assert (told["results"], told["rows"], told["batches"], told["copied"]) == (4, 6, 2, {"outputs_bytes": 5})


def test_a_model_that_was_not_asked_yet_has_means_too():
    told = model_as_dict(ModelStats(), copied={})
    assert told.pop("copied") == {}
    assert set(told.values()) == {0}
