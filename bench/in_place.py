"""in_place: what does it save that a result is written into its plane, and not copied there?

The same op on inputs and outputs of one size, once with `out=` (in place), once returning a tensor of its own (copied).
"""

from __future__ import annotations

from contextlib import ExitStack

import ringbroker

from bench.harness import at_least, broker, interleave, report, scratch_folder, us
from bench.held_lease import on_held_lease

QUESTION = "in_place: a copied result over one in place, round trip"
SIZES = {"64 B": 16, "4 KB": 1024, "64 KB": 16 * 1024, "1 MB": 2**18, "16 MB": 2**22, "64 MB": 2**24}
WAYS = {"in place": "doubling", "copied": "doubling_new"}
ROUNDS = 12


def main() -> None:
    """Measure and report."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        arguments, names = [], {}
        for size, floats in SIZES.items():
            for way, factory in WAYS.items():
                name = names[size, way] = f"m{len(names)}"
                arguments += [f"{name}=bench.models:{factory}", "--argument", f"{name}/floats={floats}"]
        path = stack.enter_context(broker(folder, *arguments, "--threads", "1"))
        client = stack.enter_context(ringbroker.connect(path, spin=10_000))
        contenders = [on_held_lease(stack, client, name, f"{size} {way}") for (size, way), name in names.items()]
        turns = {f"{size} {way}": 1000 if floats < 2**18 else 20 for size, floats in SIZES.items() for way in WAYS}
        seen = interleave(contenders, ROUNDS, turns)
    rows = []
    for size in SIZES:
        copied, in_place = seen[f"{size} copied"].p50_ns, seen[f"{size} in place"].p50_ns
        rows.append(at_least(size, copied / in_place, 1.0, f"{us(copied)} / {us(in_place)}"))
    report(QUESTION, rows, seen)


if __name__ == "__main__":
    main()
