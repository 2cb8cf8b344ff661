"""Triton's jets against those in torch, interpreted; that they compile for a GPU; who gets them."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from hpctrain import kernels

CHECK = Path(__file__).parent / "triton_check.py"
INDICES = ("bounds", "first_of", "second_of", "starts", "numbers")
INTEGERS = ("rows", "inner", "points", "row_stride", "inner_stride", "components", "stride")
INTEGERS += ("outputs", "inputs")
CONSTANTS = {
    "_product": {"BIASED": True, "ADDED": True, "SCALED": True, "ROWS": 32, "TILE": 64},
    "_activate": {"SKIPS": True, "SCALED": True, "TILE": 64},
    "_pull_back": {"SKIPS": True, "SCALED": True, "TILE": 64},
    "_gradients": {"SCALED": True, "ROWS": 8, "INPUTS": 32},
    "_sum_terms": {"SKIPS": True, "SCALED": True, "SINE": True, "REVERSE": True, "TILE": 64},
}
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton (extra gpu)")


@needs_triton
def test_jets_and_gradients_are_those_in_torch(python):
    done = python(CHECK, TRITON_INTERPRET="1", timeout=400)
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)
    assert len(cases) == 7
    for case, differences in cases.items():
        assert differences["jets"] < 1e-12, case
        assert differences["gradients"] < 1e-12, case


@needs_triton
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="Triton interprets")
@pytest.mark.parametrize("real", ["fp64", "fp32"])
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_kernel_compiles_for_a_gpu_that_is_not_here(name, real):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hpctrain.kernels import triton_jets, triton_rules

    module = triton_rules if name == "_sum_terms" else triton_jets
    kernel, constants = getattr(module, name), CONSTANTS[name]
    kinds = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(INDICES, "*i64")
    kinds |= dict.fromkeys(constants, "constexpr")
    signature = {each: kinds.get(each, f"*{real}") for each in kernel.arg_names}
    values = {(kernel.arg_names.index(each),): value for each, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32))
    assert ("f64" in compiled.asm["ptx"]) == (real == "fp64")


@pytest.mark.parametrize(
    "device, installed, switch, expected",
    [
        ("cuda", True, "", "triton"),
        ("cuda", False, "", "torch"),
        ("cuda", True, "torch", "torch"),
        ("cpu", True, "torch", "torch"),
    ],
)
def test_a_gpu_gets_triton_where_it_is_installed(monkeypatch, device, installed, switch, expected):
    monkeypatch.setenv("HPCTRAIN_KERNELS", switch)
    monkeypatch.setattr(kernels, "find_spec", lambda _: object() if installed else None)
    assert kernels.choose_kernels(torch.device(device)) == expected
