"""Measure how a client should treat sentences of different lengths: each at its own, or padded to one of a few.

    python -m examples.models embed
    broker serve embed=build/examples/models/embed/1
    python examples/python/bucketing.py [--socket PATH] [--cases DIR] [--rounds N] [--threads N]

Requests run as one batch where their rows are neighbours and of one length. Exact lengths have no padding, and hardly
any batches; rows padded to buckets (the attention mask hides the padding) have some; a ring for each bucket, which is
the same model opened once more with a smaller maximum, has nothing but neighbours of one length. Threads send the
sentences of scikit-learn's data set descriptions, one to a request, in closed loops; the ways take turns within every
round, so that what else the machine does meets all of them.
"""

import argparse
import bisect
import importlib.util
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import ringbroker
from tokenizers import Tokenizer

CASES = Path(__file__).resolve().parents[2] / "build" / "examples"
MAX_SEQ = 256
BUCKETS = (16, 32, 64, 128, MAX_SEQ)
TOLERANCE = 1e-4  # padding changes the order of sums, and nothing else


def exact(length: int) -> int:
    """A row is as long as its sentence."""
    return length


def bucket(length: int) -> int:
    """The smallest bucket that is long enough."""
    return BUCKETS[bisect.bisect_left(BUCKETS, length)]


# By name: how long a row is, and whether every length has a ring of its own.
WAYS: dict[str, tuple[Callable[[int], int], bool]] = {
    "exact lengths, one ring": (exact, False),
    "buckets, one ring": (bucket, False),
    "buckets, a ring for each": (bucket, True),
}


def read_sentences(count: int) -> list[str]:
    """Real sentences, headings and tables left out, again and again in a seeded order."""
    spec = importlib.util.find_spec("sklearn.datasets.descr")
    if spec is None or spec.origin is None:
        raise SystemExit("bucketing: pip install scikit-learn")
    texts = [path.read_text() for path in sorted(Path(spec.origin).parent.glob("*.rst"))]
    paragraphs = [" ".join(part.split()) for text in texts for part in re.split(r"\n\s*\n", text)]
    prose = [part for part in paragraphs if re.match("[A-Z]", part) and not re.search(r"[=*|:-]{2}", part)]
    sentences = [text for part in prose for text in re.split(r"(?<=[a-z)])[.?!] +(?=[A-Z])", part)]
    found = [text for text in sentences if len(text.split()) >= 3]
    return [found[i % len(found)] for i in np.random.default_rng(0).permutation(count)]


def run(
    model_for: Callable[[int], ringbroker.Model], tokens: list[list[int]], pad: Callable[[int], int], threads: int
) -> "Measured":
    """Send every row once, from several threads."""
    vectors = np.empty((len(tokens), 384), np.float32)
    latencies, batch_rows = np.empty(len(tokens)), np.empty(len(tokens))
    turns = iter(range(len(tokens)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                row = next(turns, None)
            if row is None:
                return
            ids = tokens[row]
            start = time.perf_counter()
            seq = pad(len(ids))
            with model_for(seq).acquire(rows=1) as lease:
                inputs = lease.shape(seq=seq)
                inputs["input_ids"][:] = 0
                inputs["attention_mask"][:] = 0
                inputs["input_ids"][0, : len(ids)] = ids
                inputs["attention_mask"][0, : len(ids)] = 1
                result = lease.infer(timeout=60)
                vectors[row] = result["embedding"][0]
            latencies[row] = time.perf_counter() - start
            batch_rows[row] = result.batch_rows

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Measured(time.perf_counter() - start, latencies, batch_rows, vectors)


class Measured:
    """One round of one way."""

    def __init__(self, seconds: float, latencies: np.ndarray, batch_rows: np.ndarray, vectors: np.ndarray) -> None:
        self.rate = len(latencies) / seconds
        self.p50_ms, self.p99_ms = (np.percentile(latencies, [50, 99]) * 1000).tolist()
        self.mean_batch = len(batch_rows) / (1 / batch_rows).sum()
        self.vectors = vectors


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare exact lengths with buckets.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--cases", type=Path, default=CASES, help="the folder that `python -m examples.models` made")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; each has every way once, in another order")
    parser.add_argument("--threads", type=int, default=16, help="requests in flight")
    parser.add_argument("--sentences", type=int, default=400, help="how many a round sends")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.cases / "embed-tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_SEQ)
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(read_sentences(options.sentences))]
    lengths = [len(ids) for ids in tokens]
    spread = ", ".join(f"p{p} {np.percentile(lengths, p):.0f}" for p in (10, 50, 90, 99))
    print(f"{len(tokens)} sentences of {len(set(lengths))} lengths ({spread} tokens), {options.threads} in flight")

    rounds: dict[str, list[Measured]] = {name: [] for name in WAYS}
    with ringbroker.connect(options.socket) as client, ExitStack() as stack:
        rings = {
            seq: stack.enter_context(client.open("embed", slots=options.threads, maxima={"seq": seq}))
            for seq in BUCKETS
        }
        whole = stack.enter_context(client.open("embed", slots=options.threads))
        for turn in range(options.rounds):
            names = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
            for name in names:
                pad, has_rings = WAYS[name]
                model_for = rings.__getitem__ if has_rings else lambda _: whole
                rounds[name].append(run(model_for, tokens, pad, options.threads))

    exactly = rounds["exact lengths, one ring"]
    plain = exactly[0].vectors
    head = (
        f"{'sentences/s':>12}{'to exact (least, most)':>24}{'p50 ms':>9}{'p99 ms':>9}{'rows a batch':>14}{'padding':>9}"
    )
    print(f"{'':26}{head}")
    for name, measured in rounds.items():
        rate, p50, p99, batch = np.median([(m.rate, m.p50_ms, m.p99_ms, m.mean_batch) for m in measured], axis=0)
        ratios = [own.rate / other.rate for own, other in zip(measured, exactly, strict=True)]  # round by round
        ratio = f"{np.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        padding = sum(map(WAYS[name][0], lengths)) / sum(lengths) - 1
        print(f"{name:26}{rate:12.1f}{ratio:>24}{p50:9.1f}{p99:9.1f}{batch:14.1f}{padding:9.0%}")
        if np.abs(measured[0].vectors - plain).max() > TOLERANCE:
            raise SystemExit(f"bucketing: {name} gives other vectors")


if __name__ == "__main__":
    main()
