"""Tokens by one random number a row: what is drawn, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from selftrain.backends.draws import BLOCK, drawn  # noqa: E402

SIZES = st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 5 * BLOCK + 3])


@given(size=SIZES, seed=st.integers(0, 2**32 - 1), zeros=st.floats(0, 0.99), edge=st.sampled_from([0.0, 1 - 2**-53]))
def test_draws_are_those_of_the_cumulative_distribution(size: int, seed: int, zeros: float, edge: float) -> None:
    stream = torch.Generator().manual_seed(seed)
    probs = torch.rand(6, size, generator=stream).pow(8)
    probs[torch.rand(6, size, generator=stream) < zeros] = 0.0
    probs[:, seed % size] += 0.5
    uniform = torch.rand(6, generator=stream, dtype=torch.float64)
    uniform[0] = edge
    found = drawn(probs, uniform)
    weights = probs.double()
    reached = weights.cumsum(1) / weights.sum(1, keepdim=True)
    place = found[:, None]
    assert (weights.gather(1, place) > 0).all()
    # Sums of a block are float32's.
    assert (reached.gather(1, place)[:, 0] > uniform - 1e-6).all()
    assert ((reached - weights / weights.sum(1, keepdim=True)).gather(1, place)[:, 0] < uniform + 1e-6).all()


def test_tokens_come_as_often_as_they_are_likely() -> None:
    stream = torch.Generator().manual_seed(0)
    probs = torch.randn(2 * BLOCK + 9, generator=stream).mul(3).softmax(-1)
    found = drawn(probs.expand(40_000, -1), torch.rand(40_000, generator=stream, dtype=torch.float64))
    shares = torch.bincount(found, minlength=len(probs)) / 40_000
    errors = (shares - probs) / (probs * (1 - probs) / 40_000).sqrt()
    # Chi-squared over the tokens that come often enough, per degree of freedom.
    often = probs * 40_000 > 10
    assert often.sum() > 50
    assert 0.5 < float(errors[often].pow(2).mean()) < 1.6


def test_what_is_no_number_is_no_crash() -> None:
    assert 0 <= int(drawn(torch.full((1, 300), torch.nan), torch.tensor([0.5]))[0]) < 300
