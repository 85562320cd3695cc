"""Wrong arguments: refused here, with a plain text, and the session and its leases go on."""

import asyncio
import re

import numpy as np
import pytest
import ringbroker
from ringbroker import aio

from ringbuf.wire import messages

LONG = "n" * 100_000

WRONG = [
    (TypeError, "model is a str, not None", lambda client, model, lease: client.open(None)),
    (TypeError, "model is a str, not b'double'", lambda client, model, lease: client.open(b"double")),
    (ValueError, "model has 100000 characters; 128 is the most", lambda client, model, lease: client.open(LONG)),
    (ValueError, r"model cannot be written in UTF-8: '\udc80'", lambda client, model, lease: client.open("\udc80")),
    (TypeError, "version is a str, not 2", lambda client, model, lease: client.open("double", version=2)),
    (ValueError, "version has 129 char", lambda client, model, lease: client.open("double", version="9" * 129)),
    (ValueError, "slots is 0 or more", lambda client, model, lease: client.open("double", slots=-1)),
    (ValueError, "slots is 0 or more", lambda client, model, lease: client.open("double", slots=2**53)),
    (TypeError, "slots is an integer, not 8.0", lambda client, model, lease: client.open("double", slots=8.0)),
    (TypeError, "slots is an integer, not '8'", lambda client, model, lease: client.open("double", slots="8")),
    (TypeError, "slots is an integer, not None", lambda client, model, lease: client.open("double", slots=None)),
    (ValueError, "maxima['seq'] is 0 or", lambda client, model, lease: client.open("tokens", maxima={"seq": -1})),
    (TypeError, "maxima['seq'] is an int", lambda client, model, lease: client.open("tokens", maxima={"seq": 1.5})),
    (TypeError, "maxima are sizes by", lambda client, model, lease: client.open("tokens", maxima="a")),
    (TypeError, "a dim of maxima is a str", lambda client, model, lease: client.open("tokens", maxima={1: 1})),
    (
        ValueError,
        "maxima has 65 dims",
        lambda client, model, lease: client.open("tokens", maxima={str(number): 1 for number in range(65)}),
    ),
    (TypeError, "rows is an integer, not 1.5", lambda client, model, lease: model.acquire(rows=1.5)),
    (TypeError, "rows is an integer, not '1'", lambda client, model, lease: model.acquire(rows="1")),
    (TypeError, "version is a str, not 2", lambda client, model, lease: lease.infer(30, version=2)),
    (ValueError, "version has 100000 characters", lambda client, model, lease: lease.infer(30, version=LONG)),
    (TypeError, "trace is a str, not 5", lambda client, model, lease: lease.infer(30, trace=5)),
    (ValueError, "trace cannot be written in UTF-8", lambda client, model, lease: lease.infer(30, trace="\ud800")),
    (TypeError, "seq is an integer, not 1.5", lambda client, model, lease: lease.shape(seq=1.5)),
    (TypeError, "seq is an integer, not 'a'", lambda client, model, lease: lease.shape(seq="a")),
]


@pytest.mark.parametrize(("kind", "text", "use"), WRONG)
def test_wrong_arguments(peer, client, kind, text, use):
    with client.open("tokens", slots=2) as model, model.acquire() as lease:
        with pytest.raises(kind, match=re.escape(text)):
            use(client, model, lease)
        assert lease.infer().batch_rows == 1
        model.acquire().release()
    assert len(peer.sessions) == 1
    assert len(peer.sessions[0].got(messages.Open)) == 1


@pytest.mark.parametrize(("kind", "text", "use"), WRONG)
def test_wrong_arguments_with_asyncio(peer, kind, text, use):
    async def refuse():
        async with (
            await aio.connect(peer.path, timeout=30) as client,
            await client.open("tokens", slots=2) as model,
            model.acquire() as lease,
        ):
            with pytest.raises(kind, match=re.escape(text)):
                await use(client, model, lease)
            assert (await lease.infer()).batch_rows == 1
            (await model.acquire()).release()

    asyncio.run(refuse())
    assert len(peer.sessions) == 1
    assert len(peer.sessions[0].got(messages.Open)) == 1


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (TypeError, {"name": 5}),
        (ValueError, {"name": LONG}),
        (TypeError, {"pool": 5}),
        (ValueError, {"pool": LONG}),
        (TypeError, {"conns": 1.5}),
        (TypeError, {"conns": "1"}),
    ],
)
def test_wrong_arguments_of_connect(peer, kind, named):
    for connect in (ringbroker.connect, lambda *path, **named: asyncio.run(aio.connect(*path, **named))):
        with pytest.raises(kind, match=next(iter(named))):
            connect(peer.path, **named)
    assert peer.sessions == []


@pytest.mark.parametrize("number", [np.int64, np.uint8, np.int32])
def test_integers_of_numpy(client, number):
    with client.open("tokens", slots=number(4), maxima={"seq": number(8)}) as model:
        assert model.slots == 4
        with model.acquire(rows=number(2)) as lease:
            inputs = lease.shape(seq=number(3))
            inputs["tokens"][:], inputs["mask"][:] = [[1, 2, 3], [4, 5, 6]], True
            assert lease.infer(timeout=number(30))["score"].tolist() == [6, 15]
    with pytest.raises(ringbroker.TooManyRows):
        client.open("tokens").acquire(rows=np.int64(-1))


def test_a_bool_is_a_number(client):
    with client.open("double", slots=True) as model, model.acquire(True) as lease:
        assert (model.slots, lease.infer().batch_rows) == (1, 1)


def test_a_long_trace_is_cut(peer, client):
    with client.open("double") as model, model.acquire() as lease:
        lease.infer(30, trace=LONG)
    assert peer.sessions[0].got(messages.Infer)[0].extra.trace == LONG[:128]
