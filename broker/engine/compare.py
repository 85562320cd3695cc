"""Whether two runs of a model gave the same, up to rounding: how plans are checked, and batch axes proven."""

from __future__ import annotations

import torch

# Relative to the largest value of the output. Two kernels for different batch sizes sum in another order: some hundred
# roundings for a deep model.
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def disagreement(found: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> str | None:
    """Say how `found` differs from `expected` by more than rounding explains; None where it does not.

    NaN equals NaN, an infinity itself. Integers and bools must be equal.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{list(found.shape)} {found.dtype} instead of {list(expected.shape)} {expected.dtype}"
    if torch.equal(found, expected):  # most are, and all that follows takes ten times as long
        return None
    if not found.dtype.is_floating_point:
        wrong = int((found.to(torch.int64) != expected.to(torch.int64)).sum())
        return f"{wrong} of {found.numel()} values differ" if wrong else None
    a, b = found.double(), expected.double()
    if not torch.equal(torch.isfinite(a), torch.isfinite(b)):
        return "NaN or infinity in other places"
    finite = torch.isfinite(b)
    if not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
        return "other infinities"
    if not finite.any():
        return None
    allowed = _TOLERANCES[found.dtype] if tolerance is None else tolerance
    off = (a[finite] - b[finite]).abs().max().item()
    scale = max(b[finite].abs().max().item(), 1e-30)
    return f"off by {off / scale:.1e} of the largest value" if off > allowed * scale else None
