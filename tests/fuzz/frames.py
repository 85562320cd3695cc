"""Throw generated frames at the broker's session, in process: `python -m tests.fuzz.frames --count 100000`.

Everything but the socket is real: the catalog and the reference models, the rings in /dev/shm, the batcher, the worker.
The promise: every frame is answered as the specification says, and nothing else comes out; a 1xxx ends the session and
the next one begins; at the end nothing is left. The same seed gives the same frames; a failure names both.
"""

import argparse
import gc
import itertools
import logging
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import msgpack

from broker.batcher import Batcher
from broker.engine import models
from broker.engine.config import ModelConfig
from broker.handshake import Handshake
from broker.session import Session, SessionContext
from broker.stats import Stats
from broker.worker import Worker
from ringbuf.segment import SHM_DIR, SegmentStore
from ringbuf.wire.messages import Limits
from tests.conformance import reference_models
from tests.conformance.vectors import load
from tests.fuzz import oracle
from tests.fuzz.conversation import Client
from tests.fuzz.generator import Generator
from tests.unit.broker.parts import Keeper, catalog_of

LIMITS = {"frame_bytes": 65536, "segment_bytes": 2**18, "slots": 32, "rings": 2}
SENDS_BETWEEN_RUNS = (0, 1, 1, 2, 3, 6)
# What no single fault of a frame brings about here: time, memory, other processes, and the models' own failures.
NEEDS_MORE_THAN_A_FRAME = {
    "HANDSHAKE_TIMEOUT",
    "SHM_FULL",
    "SHM_UNAVAILABLE",
    "TOO_MANY_CONNECTIONS",
    "MODEL_FAILED",
    "OUTPUT_MISMATCH",
    "OUTPUT_TOO_LARGE",
    "UNIFORM_MISMATCH",
    "INVALID_BOOL",
    "WRONG_POOL",
    "EXECUTION_TIMEOUT",
    "SIGNATURE_CHANGED",
    "PEER_REFUSED",
}


class Link:
    """Stands where the loop's connection does: has a peer, which may be replaced."""

    def become(self, peer):
        self.peer = peer
        peer.connection = self


class Fuzzer:
    """The worker's loop, as the worker sees it: `poll` sends frames, `flush` reads the answers."""

    def __init__(self, count, seed, store):
        self.on_tick = []
        self.codes = Counter()
        self.kinds = Counter()
        self.frames = self.sessions = self.results = self.reached = 0
        self.last = None
        self._count = count
        self._random = random.Random(seed)
        self._now_ns = 10**9
        loaded = [
            models.load(ModelConfig(name=name, source=source, max_batch=reference_models.MAX_BATCH), threads=1)
            for name, source in reference_models.SOURCES.items()
        ]
        stats = Stats(models=len(loaded))
        self._batcher = Batcher()
        self._keeper = Keeper(store.create)
        catalog = catalog_of(loaded)
        self._context = SessionContext(catalog, self._batcher, stats, Limits(**LIMITS), 4, self._keeper)
        self._worker = Worker(self, self._batcher, stats, self._clock_ns)
        described = load("vectors/sessions.json")["models"]
        self._models = {
            name: [["1"], {key: value for key, value in described[name].items() if key != "about"}]
            for name in reference_models.SOURCES
        }
        self._link = None
        self._client = None

    def run(self):
        """Send `count` frames."""
        try:
            self._worker.run()
        finally:
            gc.unfreeze()
            gc.set_threshold(700, 10, 10)

    # --- what the worker asks of its loop ---

    def poll(self, until_ns):
        self._hear()
        for _ in range(max(until_ns is None, self._random.choice(SENDS_BETWEEN_RUNS))):
            if self.frames >= self._count:
                self._worker.is_stopping = True
                if self._link is not None:
                    self._end()
                return
            self._send()

    def flush(self, connection):
        if connection is self._link:
            self._hear()

    def _clock_ns(self):
        self._now_ns += 1000
        return self._now_ns

    # --- a conversation ---

    def _send(self):
        if self._link is None:
            self._begin()
            return
        frame = self._generator.frame()
        self._note(frame)
        if not frame.is_whole:
            self._deliver(frame.data)
            self._hear()
            self._end()
            return
        self._expect(frame.data)
        self._deliver(frame.data)
        self._hear()
        assert not self._client.due, "an answer that is due at once did not come"
        assert self._link.peer.ended == self._client.ended
        if self._client.ended:
            assert not self._link.peer.in_flight, "a session that ended has requests still"
            self._end()

    def _begin(self):
        """A new connection, and its HELLO (or, rarely, something else)."""
        self._client = Client(self._models, LIMITS)
        self._generator = Generator(self._random, self._client)
        self._link = Link()
        self._link.become(Handshake(self._context.stats, self._welcome))
        is_hello = self._random.random() < 0.97
        frame = self._generator.hello() if is_hello else self._generator.frame()
        self._note(frame)
        self.sessions += 1
        is_welcome = False
        if frame.is_whole:
            is_welcome = self._expect_handshake(frame.data)
        self._deliver(frame.data)
        self._hear()
        assert not self._client.due, "no answer to the first message"
        assert isinstance(self._link.peer, Session) == is_welcome
        if not is_welcome:
            self._end()

    def _welcome(self, handshake, hello):
        handshake.connection.become(self._keeper.begin(self._context, hello, self._now_ns))

    def _note(self, frame):
        self.frames += 1
        self.kinds[frame.kind] += 1
        self.last = frame

    def _expect_handshake(self, data):
        message, codes = self._judge(data)
        if message is not None:
            codes = oracle.judge_hello(message) if message[0] == 1 else {1006}
        if codes:
            self._client.fails(codes)
        else:
            self._client.due.append(self._check_welcome)
        return not codes

    def _check_welcome(self, answer):
        assert answer[:3] == [65, 1, 0], answer
        assert answer[4:] == [answer[4], answer[5], LIMITS, 0, 1, {"pool": "default"}], answer
        assert len(answer[4]) == 32, answer

    def _expect(self, data):
        message, codes = self._judge(data)
        if message is None:
            self._client.fails(codes)
        else:
            self._client.sent(message)

    def _judge(self, data):
        if int.from_bytes(data[:4], "little") > 65536:
            return None, {1001}
        message, codes = oracle.judge_payload(data[4:])
        self.reached += message is not None or codes == {1004}
        return message, codes

    def _deliver(self, data):
        """Hand the bytes over in pieces, as the loop does: never more than the peer asks for."""
        if self._random.random() < 0.3 and len(data) > 1:
            cuts = sorted(
                self._random.sample(range(1, len(data)), min(len(data) - 1, self._random.choice((1, 1, 2, 5))))
            )
        else:
            cuts = []
        for start, end in itertools.pairwise((0, *cuts, len(data))):
            piece = data[start:end]
            while piece and not self._link.peer.ended:
                most = self._link.peer.receive_bytes
                self._link.peer.receive(piece[:most], self._now_ns)
                while self._link.peer.has_more:
                    self._link.peer.receive(b"", self._now_ns)
                piece = piece[most:]

    def _hear(self):
        """Read and judge every answer that is there."""
        if self._link is None:
            return
        out = self._link.peer.out
        data = bytes(out)
        out.clear()
        while data:
            end = 4 + int.from_bytes(data[:4], "little")
            payload, data = data[4:end], data[end:]
            answer = msgpack.unpackb(payload)
            described = oracle.BY_NUMBER[answer[0]]
            assert described["from"] == "broker"
            assert oracle.fields_fit(answer[1:], described["fields"]), answer
            if answer[0] == 64:
                assert answer[2] in oracle.BROKER_CODES, answer
                self.codes[answer[2]] += 1
            self._client.heard(answer)

    def _end(self):
        """The connection is closed, as the loop does it; nothing of the session is left."""
        peer = self._link.peer
        rings = list(peer.rings.values()) if isinstance(peer, Session) else []
        peer.closed()
        assert not any(ring.is_in_flight(0, ring.slots) for ring in rings)
        assert not any(Path(ring.path).exists() for ring in self._client.rings.values())
        self.results += self._client.results
        self._link = self._client = self._generator = None

    def check_nothing_left(self, store):
        """No request, no name, no mapping."""
        gc.collect()
        assert self._batcher.start(self._now_ns) is None
        assert not self._batcher.has_waiting
        assert not list(SHM_DIR.glob(store.prefix + "*"))
        assert store.prefix not in Path("/proc/self/maps").read_text()


def fuzz(count, seed):
    """Run, and return the fuzzer with its counts; a failure is an AssertionError that names seed and frame."""
    logging.getLogger("broker.session").setLevel(logging.CRITICAL)  # a line for every ended session is expected here
    with TemporaryDirectory(prefix="rb-") as folder:
        store = SegmentStore(folder + "/fuzz.sock")
        fuzzer = Fuzzer(count, seed, store)
        try:
            fuzzer.run()
            fuzzer.check_nothing_left(store)
        except BaseException as error:
            error.add_note(f"seed {seed}, frame {fuzzer.frames}: {fuzzer.last}")
            raise
        finally:
            store.sweep()
    return fuzzer


def expected_codes():
    """The codes that a frame alone can cause."""
    return {code for code, name in oracle.BROKER_CODES.items() if name not in NEEDS_MORE_THAN_A_FRAME}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="how many frames")
    parser.add_argument("--seed", type=int, default=None, help="the same seed gives the same frames")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    began = time.perf_counter()
    fuzzer = fuzz(arguments.count, seed)
    took = time.perf_counter() - began
    print(f"seed {seed}: {fuzzer.frames} frames in {took:.1f} s, {fuzzer.frames / took:.0f} a second")
    print(f"{fuzzer.sessions} sessions, {fuzzer.results} results checked byte by byte")
    print(f"{100 * fuzzer.reached / fuzzer.frames:.1f} % reached the fields' checks")
    for code in sorted(expected_codes() | set(fuzzer.codes)):
        print(f"  {code} {oracle.BROKER_CODES[code]:22}{fuzzer.codes[code]:8}")
    missing = [code for code in expected_codes() if not fuzzer.codes[code]]
    if fuzzer.frames >= 100_000 and missing:
        sys.exit(f"never seen: {missing}")


if __name__ == "__main__":
    main()
