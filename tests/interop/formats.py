"""One small model, `y = sigmoid(Wx + b)`, in every format of the README's table."""

from pathlib import Path

import torch

BATCH = {0: torch.export.Dim("batch", max=64)}
EXAMPLE = torch.linspace(-1, 1, 8).view(2, 4)


class Scorer(torch.nn.Module):
    """`x F32[batch,4]` -> `y F32[batch,3]`."""

    inputs = {"x": "F32[batch,4]"}
    outputs = {"y": "F32[batch,3]"}

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return torch.sigmoid(self.linear(x))


class InPlaceScorer(Scorer):
    """The same, into `out`."""

    def forward(self, x, out=None):
        return torch.sigmoid(self.linear(x), out=out)


def factory(seed):
    return Scorer(seed)


def in_place():
    return InPlaceScorer()


def untrained():
    """What the weights are loaded into."""
    return Scorer(seed=99)


def write_all(folder: str) -> None:
    """Write the files: `python -c 'from tests.interop import formats; formats.write_all("...")'`, in a process of its
    own, because what writes TorchScript and ONNX warns of its own deprecation.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.torch import save_file

    to = Path(folder)
    model = Scorer().eval()
    program = torch.export.export(model, (EXAMPLE,), dynamic_shapes=(BATCH,))
    torch.export.save(program, to / "exported.pt2")
    (to / "exported_as.bin").write_bytes((to / "exported.pt2").read_bytes())
    torch._inductor.aoti_compile_and_package(program, package_path=str(to / "compiled.pt2"))
    torch.jit.save(torch.jit.script(model), to / "scripted.pt")
    torch.save(model, to / "pickled.pt")
    torch.save(model.state_dict(), to / "weights.pt")
    save_file(model.state_dict(), to / "weights.safetensors")
    torch.onnx.export(model, (EXAMPLE,), to / "graph.onnx", dynamic_shapes=(BATCH,), verbose=False)
    graph = onnx.load(to / "graph.onnx")
    graph.graph.ClearField("value_info")  # the quantiser turns a weight round, and would find its old shape here
    quantize_dynamic(graph, to / "quantised.onnx", weight_type=QuantType.QInt8)
    version = to / "repository" / "stored" / "3"
    version.mkdir(parents=True)
    (version / "model.pt2").write_bytes((to / "exported.pt2").read_bytes())
    (version / "model.toml").write_text('max_batch = 5\ninputs = { x = "F32[batch,4]" }\n')
