"""Counters as people see them."""

from broker.stats import ModelCounters, Stats, errors_as_dict, page_bytes, sum_of
from ringbuf.errors import Code


def test_errors_are_told_by_name_in_the_order_of_their_codes():
    first, second = Stats(), Stats()
    for stats, code in [(first, Code.MODEL_FAILED), (first, Code.DUPLICATE_ID), (second, Code.MODEL_FAILED)]:
        stats.count_error(code)
    told = errors_as_dict([first, second])
    assert told == {"DUPLICATE_ID": 1, "MODEL_FAILED": 2}
    assert list(told) == ["DUPLICATE_ID", "MODEL_FAILED"]


def test_every_code_has_a_place_of_its_own():
    stats = Stats(models=1)
    for code in Code:
        stats.count_error(code)
    assert errors_as_dict([stats]) == {code.name: 1 for code in Code}
    assert stats.of_model(0) == ModelCounters()


def test_two_sides_of_a_page_see_the_same():
    memory = memoryview(bytearray(page_bytes(2)))
    worker, supervisor = Stats(memory=memory), Stats(memory=memory)
    worker.count_error(Code.MODEL_FAILED)
    assert errors_as_dict([supervisor]) == {"MODEL_FAILED": 1}


def test_means():
    told = sum_of(
        [
            ModelCounters(results=3, rows=5, batches=1, queue_ns=6000, compute_ns=4000, outputs_bytes=5),
            ModelCounters(results=1, rows=1, batches=1, queue_ns=2000, compute_ns=5000),
        ]
    ).as_dict()
    assert (told["mean_batch_rows"], told["mean_queue_us"], told["mean_compute_us"]) == (3.0, 2.0, 4.5)
    assert (told["results"], told["rows"], told["batches"]) == (4, 6, 2)
    assert told["copied"] == {"inputs_bytes": 0, "gathered_bytes": 0, "outputs_bytes": 5}


def test_a_model_that_was_not_asked_yet_has_means_too():
    told = ModelCounters().as_dict()
    assert set(told.pop("copied").values()) == {0}
    assert set(told.values()) == {0}


def test_workers_that_are_gone_are_counted_by_pool_also_after_their_generation():
    supervisor = Stats()
    for lost, hung in (("fast", "slow"), ("fast", "fast")):
        past = Stats(models=2)
        past.lost_workers[lost] += 1
        past.hung_workers[hung] += 1
        supervisor.absorb(past)
    assert supervisor.lost_workers == {"fast": 2}
    assert supervisor.hung_workers == {"slow": 1, "fast": 1}
