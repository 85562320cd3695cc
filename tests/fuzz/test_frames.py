"""The fuzzer's promise, kept over 100,000 frames with one seed for every run; `make fuzz` takes a new one each time."""

from tests.fuzz.frames import expected_codes, fuzz

FRAMES = 100_000
SEED = 20_26


def test_every_frame_is_answered_as_the_specification_says():
    fuzzer = fuzz(FRAMES, SEED)
    assert fuzzer.frames == FRAMES
    assert fuzzer.reached >= FRAMES / 2, "too few frames reach the fields' checks"
    assert fuzzer.results > 1000
    rare = {code: fuzzer.codes[code] for code in (*range(1001, 1008), *range(2001, 2011)) if fuzzer.codes[code] < 100}
    assert not rare, "codes that too few frames caused"
    assert expected_codes() <= set(fuzzer.codes)


def test_the_same_seed_gives_the_same_frames():
    first, second = fuzz(2000, 7), fuzz(2000, 7)
    assert (first.codes, first.kinds, first.last) == (second.codes, second.kinds, second.last)
