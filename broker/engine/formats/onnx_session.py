"""Sessions of ONNX Runtime: their options, and what a model that cannot be loaded brings about.

The package is imported here and not at the top: it is in the extra `onnx`, and its import starts a thread.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from ringbuf.errors import Code, RingbrokerError

_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z\[])"
)
_LONGEST = 400  # of a reason, in characters: some go on to list all that is supported


def open_session(path: Path, threads: int) -> Any:
    """Read the model and make it ready to run; raises `RingbrokerError` MODEL_INVALID or RUNTIME_MISSING."""
    onnxruntime = require("onnxruntime", path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Threads that wait for work by spinning take the CPUs that clients answer from. Two threads on two CPUs, a request
    # a millisecond: 1.15 CPUs are busy for 0.18 ms answers when they spin, 0.28 CPUs for 0.29 ms when they do not.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory pattern is kept for every shape that ever came. 500 shapes of a transformer added 31 MB with patterns and
    # 12 MB without, nearly all in the first 100, at the same speed. The arena is worth its memory: without it, 64 MB
    # intermediates are mapped anew at every run (45 ms against 25 ms); growing by what is asked for added 29 MB.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = True
    options.log_severity_level = 4  # what goes wrong is raised, and need not be printed as well
    try:
        # Its fallback to the same provider would try again, and print to stdout that it does.
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common class
        text = f"not a model that this ONNX Runtime can load: {in_one_line(error)}"
        raise RingbrokerError(Code.MODEL_INVALID, text, str(path)) from error


def require(package: str, path: Path) -> Any:
    """Import one of the extra's packages, for this file; raises `RingbrokerError` RUNTIME_MISSING."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        text = f"ONNX models need packages that are not installed ({error}): pip install 'ringbroker[onnx]'"
        raise RingbrokerError(Code.RUNTIME_MISSING, text, str(path)) from error


def in_one_line(error: Exception) -> str:
    """What it says, without its number, the file's path, places in ONNX Runtime's source, and line breaks."""
    text = _NOISE.sub("", " ".join(str(error).split()))
    return text[:_LONGEST] or type(error).__name__
