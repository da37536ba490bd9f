"""Another processor's last bits, on this one: what libraries compute is rounded differently.

    python -m pytest -p tests.rounding tests/functional kdlab
    ROUNDING=3 ROUNDING_SEED=2 python -m pytest -p tests.rounding tests/functional kdlab

A plugin for pytest, off unless it is named. exp, log, softmax, sums, products, convolutions, solvers (everything whose
last bits differ between instruction sets, numbers of threads and versions of BLAS) come out up to ``ROUNDING`` units in
the last place off, always in the same way for the same operation and shape: so what is computed twice in the same way
is the same, as it is on one machine. Sums and products that are exact in any order stay exact. A test that fails here
asks a library for exact numbers. Processes that a test starts are not touched.
"""

from __future__ import annotations

import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FUNCTIONS = frozenset(
    """exp expm1 log log1p log2 _softmax _log_softmax _log_softmax_backward_data _softmax_backward_data logsumexp
    pow tanh sigmoid erf gelu silu cos sin rsqrt logaddexp tanh_backward sigmoid_backward gelu_backward
    silu_backward softplus log_sigmoid_forward""".split()
)
SUMS = frozenset(
    """sum mean mm bmm addmm baddbmm convolution convolution_backward mkldnn_convolution var std var_mean
    linalg_vector_norm native_batch_norm _native_batch_norm_legit native_batch_norm_backward native_layer_norm
    native_layer_norm_backward mv dot cumsum _cdist_forward _euclidean_dist _batch_norm_with_update
    _scaled_dot_product_flash_attention_for_cpu avg_pool2d _adaptive_avg_pool2d upsample_bilinear2d trace
    mse_loss""".split()
)
SOLVERS = frozenset(
    """_linalg_solve_ex _linalg_svd _linalg_eigh linalg_cholesky_ex linalg_inv_ex linalg_lstsq linalg_qr
    linalg_lu_factor_ex linalg_lu linalg_lu_solve cholesky_solve linalg_solve_triangular _linalg_det
    _linalg_slogdet""".split()
)
UNITS, SEED = float(os.environ.get("ROUNDING", "1")), int(os.environ.get("ROUNDING_SEED", "0"))


def _exact(x: torch.Tensor) -> bool:
    """Whether sums and products of these numbers are exact in any order: short binary fractions that are not large."""
    return bool(((x * 256) == (x * 256).round()).all() and (x.abs() <= 65536).all())


def _directions(x: torch.Tensor) -> torch.Tensor:
    """-1, 0 or 1 for each element, by its place and the tensor's size."""
    place = torch.arange(x.numel())
    return (((place * 2654435761 + x.numel() * 40503 + 977 * SEED) // 7) % 3 - 1).reshape(x.shape).to(x.dtype)


def _rounded(x, name: str):
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.numel() or x.device.type != "cpu":
        return x
    if x.is_inference() and not torch.is_inference_mode_enabled():
        return x
    value = x.detach()
    size = value.masked_fill(~value.isfinite(), 0.0).abs()
    if name in SOLVERS:  # where the exact answer is 0, a solver's is not
        size = size.max().expand_as(value)
    elif name in FUNCTIONS:  # exp(0), log(1), a half: right on every processor
        size = size.masked_fill((value == 1) | (value == 0.5), 0.0)
    value.add_(_directions(value) * size * torch.finfo(value.dtype).eps * UNITS)
    return x


class OtherProcessor(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        name = function._schema.name.partition("::")[2]
        name = name if name.startswith("_") else name.rstrip("_")
        if name not in FUNCTIONS | SUMS | SOLVERS:
            return made
        if name in SUMS or name == "pow":
            given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.is_floating_point()]
            if all(x.device.type != "cpu" or _exact(x) for x in given):
                return made
        return tree_map(lambda x: _rounded(x, name), made)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    with OtherProcessor():
        yield
