"""The contender: a Python gRPC server on a Unix socket, whose messages are plain `bytes`.

No protobuf at all, which flatters it: request and response are the tensors' bytes, and only gRPC's own framing and
copies are paid.
"""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import torch

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def serve(path: str, factories: list[str]) -> None:
    """Serve `package.module:factory` models, each as the method /models/FACTORY."""
    torch.set_num_threads(1)
    handlers = {factory.partition(":")[2]: _handler(factory) for factory in factories}
    server = grpc.server(ThreadPoolExecutor(1), options=UNLIMITED)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("models", handlers),))
    server.add_insecure_port(f"unix:{path}")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()


def _handler(factory: str) -> grpc.RpcMethodHandler:
    module, _, name = factory.partition(":")
    model = getattr(importlib.import_module(module), name)().eval()
    shape = _sample(model)

    def infer(request: bytes, _context: Any) -> bytes:
        with torch.inference_mode():
            x = torch.frombuffer(request, dtype=torch.float32).view(-1, *shape)
            return model(x).numpy().tobytes()  # type: ignore[no-any-return]

    return grpc.unary_unary_rpc_method_handler(infer)


def _sample(model: Any) -> tuple[int, ...]:
    written = next(iter(model.inputs.values()))
    return tuple(int(dim) for dim in written.partition("[")[2].rstrip("]").split(",")[1:])


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore", message="The given buffer is not writable")
    serve(sys.argv[1], sys.argv[2:])
