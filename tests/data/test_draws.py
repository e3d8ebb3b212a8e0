import pytest
import torch

from cnnbench.data.draws import bits, sample_keys, uniform


def test_bits_are_splitmix64():
    published = [  # for the seed 1234567, https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [value % 2**64 for value in bits(torch.tensor([1234567]), 5)[0].tolist()] == published


def test_uniform_numbers_are_uniform_and_uncorrelated():
    draws = uniform(sample_keys(seed=0, epoch=0, index=torch.arange(100_000)), 5).double()
    assert draws.min() >= 0
    assert draws.max() < 1
    for draw in draws.T:
        counts = draw.histc(100, 0, 1)
        assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-square, 99 degrees of freedom: p of 1e-4
    assert (draws.T.corrcoef() - torch.eye(5)).abs().max() < 0.015
    assert draws[:-1, 0].dot(draws[1:, 0] - 0.5).abs() / 1e5 < 0.005  # neighbours


def test_keys_differ_between_samples_epochs_and_seeds():
    index = torch.arange(1000)
    keys = torch.cat([sample_keys(seed, epoch, index) for seed in range(10) for epoch in range(10)])
    assert len(keys.unique()) == len(keys)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_what_a_cpu_draws():
    index = torch.arange(10_000)
    assert torch.equal(uniform(sample_keys(7, 3, index.cuda()), 5).cpu(), uniform(sample_keys(7, 3, index), 5))
