import math
import time

import numpy as np
import pytest
from chains import classes, oracle_squared_bound, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from certlip.errors import UsageError
from certlip.lipschitz import best, bound_output
from certlip.properties import Output
from certlip.repairs.admm import train
from certlip.repairs.losses import mean_loss

QUICK = {"loss": "cross-entropy", "rounds": 2, "epochs": 1, "batch": 32}


def proved(chain):
    return best(bound_output(chain.graph(), Output("all"), "l2", "lipsdp")).value


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    activation=st.sampled_from(["relu", "tanh", "leaky", "gelu"]),
    joint=st.booleans(),
    share=st.floats(0.05, 0.9),
)
def test_every_state_has_a_proved_bound_of_at_most_the_target(seed, hidden, activation, joint, share):
    chain = random_chain(seed, (3, *hidden, 3), activation, scale=2.0)
    x, y = classes(seed, 40, 3, 3)
    target = share * math.sqrt(chain.squared_bound())
    states = list(train(chain, x, y, target=target, joint=joint, **QUICK))
    assert [state.round for state in states[:-1]] == [0, 1, 2]
    for state in states:
        assert proved(state.chain) <= target * (1 + 1e-9)
        assert state.bound == pytest.approx(math.sqrt(oracle_squared_bound(state.chain)), rel=1e-4)
        assert state.loss == pytest.approx(mean_loss("cross-entropy", state.chain(x), y), rel=1e-9)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("sizes", [(2, 8, 3), (2, 8, 6, 3)])
def test_enforced_training_beats_scaling_and_ends_with_the_best(sizes, joint):
    chain = random_chain(1, sizes)
    x, y = classes(1, 120, 2, 3)
    states = list(train(chain, x, y, loss="cross-entropy", target=2.0, joint=joint, rounds=8, epochs=3))
    assert states[-1].status == "finished" and states[-2].status == "running"
    assert states[-1].loss == min(state.loss for state in states)
    assert states[-1].loss < 0.8 * states[0].loss
    assert states[0].bound <= 2.0 and states[-1].bound <= 2.0


def test_weights_and_copies_come_together():
    chain = random_chain(1, (2, 8, 3))
    x, y = classes(1, 120, 2, 3)
    states = list(train(chain, x, y, loss="cross-entropy", target=2.0, penalty=0.5, rounds=15, epochs=3))
    assert states[-2].residual < 0.5 * max(state.residual for state in states) < 0.1


def test_regularised_training_lowers_loss_plus_price():
    chain = random_chain(2, (2, 8, 8, 3), "tanh", scale=2.0)
    x, y = classes(2, 120, 2, 3)
    values = {}
    for mu in (1e-3, 1e-1):
        states = list(train(chain, x, y, loss="cross-entropy", mu=mu, rounds=5, epochs=3))
        for state in states:
            assert state.value == pytest.approx(state.loss + mu * state.bound**2, rel=1e-9)
        assert states[-1].value == min(state.value for state in states)
        assert states[-1].value < 0.9 * states[0].value
        values[mu] = states[-1]
    assert values[1e-1].bound < values[1e-3].bound


@pytest.mark.parametrize("loss", ["square", "absolute", "huber"])
def test_regression(loss):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((80, 3))
    y = np.sin(x[:, :1]) + 0.3 * x[:, 1:2]
    chain = random_chain(3, (3, 10, 1), "tanh")
    states = list(train(chain, x, y, loss=loss, target=1.5, rounds=6, epochs=5))
    assert states[-1].loss < 0.7 * states[0].loss
    assert states[-1].loss == pytest.approx(mean_loss(loss, states[-1].chain(x), y), rel=1e-9)


@pytest.mark.parametrize("loss", ["hinge", "logistic"])
def test_one_logit_with_a_margin(loss):
    x, y = classes(5, 80, 3, 2)
    chain = random_chain(5, (3, 6, 1))
    states = list(train(chain, x, y, loss=loss, target=1.0, margin=0.3, rounds=4, epochs=3))
    assert states[-1].loss < states[0].loss
    assert states[-1].loss == pytest.approx(mean_loss(loss, states[-1].chain(x), y, 0.3), rel=1e-9)


def test_equal_seeds_give_equal_networks():
    chain = random_chain(6, (3, 6, 3))
    x, y = classes(6, 60, 3, 3)
    first, again, other = (
        [state.chain.weights for state in train(chain, x, y, target=1.0, seed=seed, **QUICK)] for seed in (0, 0, 1)
    )
    for one, same in zip(first, again, strict=True):
        assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert (first[-1][0] != other[-1][0]).any()


def test_the_deadline_ends_it_with_the_best():
    chain = random_chain(7, (10, 40, 40, 3))
    x, y = classes(7, 400, 10, 3)
    began = time.monotonic()
    states = list(train(chain, x, y, loss="cross-entropy", target=1.0, rounds=1000, deadline=began + 1.0))
    assert time.monotonic() - began < 4.0
    assert states[-1].status == "deadline" and states[-1].loss == min(state.loss for state in states)
    assert proved(states[-1].chain) <= 1.0


def test_divergence_is_met_by_the_best_state():
    chain = random_chain(8, (3, 6, 1), "relu")
    x = np.random.default_rng(8).standard_normal((60, 3))
    states = list(train(chain, x, x[:, :1], loss="square", target=1.0, rate=1e3, rounds=5))
    assert states[-1].status == "diverged"
    assert all(np.isfinite(W).all() for W in states[-1].chain.weights)
    assert proved(states[-1].chain) <= 1.0


@pytest.mark.parametrize("wrong", [{}, {"target": 1.0, "mu": 1.0}, {"target": 0.0}, {"mu": -1.0}, {"target": math.nan}])
def test_one_positive_aim(wrong):
    chain = random_chain(9, (2, 3, 2))
    with pytest.raises(UsageError, match="and not both"):
        next(train(chain, np.zeros((4, 2)), np.zeros(4, dtype=int), loss="hinge", **wrong))


def test_data_that_give_no_loss_are_refused():
    chain = random_chain(9, (2, 3, 1))
    with pytest.raises(UsageError, match="not finite"):
        next(train(chain, np.zeros((4, 2)), np.full((4, 1), np.nan), loss="square", target=1.0))
