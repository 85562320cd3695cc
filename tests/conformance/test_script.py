"""The player of the scripts notices what is not as written."""

import pytest

from tests.conformance.script import matches

MATCHING = [
    ("*", [1, {}]),
    ([1, "*"], [1, None]),
    ({"kind": "path"}, {"kind": "path", "later": 1}),
    (["$a", "$a"], [5, 5]),
    (["$a", {"path": "$b"}], [5, {"path": "/x"}]),
    ({"$contains": [["a"], ["c"]]}, [["a"], ["b"], ["c"]]),
    ({"$contains": []}, []),
]
DIFFERENT = [
    (1, 2),
    (1, True),
    (1, 1.0),
    (0, None),
    ([1], [1, 2]),
    ([1, 2], [1]),
    ({"kind": "path"}, {}),
    ({"kind": "path"}, {"kind": "fd"}),
    ({"kind": "path"}, [["kind", "path"]]),
    (["$a", "$a"], [5, 6]),
    ({"$contains": [["a"], ["c"]]}, [["a"], ["b"]]),
]


@pytest.mark.parametrize(("expected", "received"), MATCHING)
def test_matching(expected, received):
    assert matches(expected, received, {})


@pytest.mark.parametrize(("expected", "received"), DIFFERENT)
def test_different(expected, received):
    assert not matches(expected, received, {})


def test_names_are_bound_once():
    names = {}
    assert matches(["$ring", "*"], [7, 8], names)
    assert names == {"$ring": 7}
    assert not matches("$ring", 8, names)
