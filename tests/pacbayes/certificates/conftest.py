"""Fixtures of the tests of certificates."""

import pytest

import bayesgen as bg


@pytest.fixture(scope="module")
def digits():
    return bg.data.load("digits", train=200, test=100)


@pytest.fixture(scope="module")
def one_hot(digits):
    return bg.likelihoods.one_hot(digits.y_train, 10)


@pytest.fixture(scope="module")
def parity(digits):
    return 2 * (digits.y_train % 2).double() - 1
