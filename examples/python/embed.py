"""Find the nearest sentence by meaning, with all-MiniLM-L6-v2 behind the broker, and compare with the plain model.

    python -m examples.models embed
    broker serve embed=build/examples/models/embed/1
    python examples/python/embed.py [--socket PATH] [--cases DIR]

Sentences are tokenised here; each goes as a row of its own length (`lease.shape`), so nothing is padded.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ringbroker
from tokenizers import Tokenizer

CASES = Path(__file__).resolve().parents[2] / "build" / "examples"
TOLERANCE = 1e-4


def embed(model: ringbroker.Model, ids: list[int]) -> np.ndarray:
    """The unit vector of one tokenised text: `[384] F32`."""
    with model.acquire(rows=1) as lease:
        inputs = lease.shape(seq=len(ids))  # this row is as long as this text
        inputs["input_ids"][0] = ids
        inputs["attention_mask"][0] = 1
        return lease.infer(timeout=30)["embedding"][0].copy()  # the view is another's after the release


def main() -> None:
    parser = argparse.ArgumentParser(description="Embed sentences through shared memory.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--cases", type=Path, default=CASES, help="the folder that `python -m examples.models` made")
    options = parser.parse_args()
    cases = json.loads((options.cases / "embed.json").read_text())
    tokenizer = Tokenizer.from_file(str(options.cases / "embed-tokenizer.json"))
    tokenizer.no_padding()
    tokens = [encoding.ids for encoding in tokenizer.encode_batch(cases["sentences"])]

    with (
        ringbroker.connect(options.socket) as client,
        client.open("embed", slots=16) as model,
        ThreadPoolExecutor(4) as threads,  # a Model may be shared; each call has a lease of its own
    ):
        vectors = np.stack(list(threads.map(lambda ids: embed(model, ids), tokens)))

    difference = float(np.abs(vectors - np.array(cases["embeddings"])).max())
    similarity = vectors @ vectors.T  # cosines: the vectors have length 1
    np.fill_diagonal(similarity, -1)
    nearest = similarity.argmax(1)
    paired = [row ^ 1 for row in range(len(vectors))]  # the sentences come in pairs
    pairs = similarity[np.arange(len(vectors)), paired]
    for row in range(0, len(vectors), 2):
        print(f"{pairs[row]:.2f}  {cases['sentences'][row]}  ~  {cases['sentences'][row + 1]}")
    right = int((nearest == paired).sum())
    print(f"{right} of {len(vectors)} found their pair, difference from the plain model {difference:.1e}")
    if right < len(vectors) or difference > TOLERANCE:
        raise SystemExit("embed: that is not what the plain model says")


if __name__ == "__main__":
    main()
