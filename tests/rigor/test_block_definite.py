"""No block matrix that exact arithmetic calls indefinite is ever called positive semidefinite, whatever its folds."""

import time
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from exact import is_semidefinite, to_integers

from certlip.rigor import block_definite, block_matrix
from certlip.rigor.ball import Ball
from certlip.rigor.block_definite import is_block_positive_semidefinite
from certlip.rigor.definite import is_positive_semidefinite


class Blocks:
    """diagonal, lower, folds as arrays, and the matrix that they stand for."""

    def __init__(self, diagonal, lower, folds, rad=0.0):
        self.diagonal, self.lower, self.folds, self.rad = diagonal, lower, folds, rad

    def explicit(self, signs=None):
        """The whole symmetric matrix of rationals, entry by entry; `signs` moves entries to an end of their radius."""
        starts, size = [], 0
        for corner in self.diagonal:
            starts.append(size)
            size += corner.shape[0] * corner.shape[1]
        M = [[Fraction(0)] * size for _ in range(size)]

        def put(row, column, value):
            moved = Fraction(float(value))
            if signs is not None:
                moved += int(signs[max(row, column), min(row, column)]) * Fraction(self.rad)
            M[row][column] = M[column][row] = moved

        for k, corner in enumerate(self.diagonal):
            frequencies, rows = corner.shape[:2]
            for f in range(frequencies):
                for i in range(rows):
                    for j in range(i + 1):
                        if corner.ndim == 3:
                            put(starts[k] + f * rows + i, starts[k] + f * rows + j, corner[f, i, j])
                        elif i == j:
                            put(starts[k] + f * rows + i, starts[k] + f * rows + i, corner[f, i])
        for (k, s), block in self.lower.items():
            for f in range(block.shape[0]):
                for i in range(block.shape[1]):
                    for p in range(block.shape[2]):
                        for j in range(block.shape[3]):
                            column = starts[s] + self.folds[k, s][f, p] * block.shape[3] + j
                            put(starts[k] + f * block.shape[1] + i, column, block[f, i, p, j])
        return M

    def floats(self):
        return np.array([[float(x) for x in row] for row in self.explicit()])

    def truth(self, signs=None):
        return is_semidefinite(to_integers(self.explicit(signs)))

    def proved(self):
        def ball(array):
            return Ball(array, np.asarray(self.rad))

        lower = {key: ball(block) for key, block in self.lower.items()}
        return is_block_positive_semidefinite([ball(corner) for corner in self.diagonal], lower, self.folds)

    def shifted(self, amount):
        diagonal = []
        for corner in self.diagonal:
            corner = corner.copy()
            if corner.ndim == 2:
                corner += amount
            else:
                rows = np.arange(corner.shape[-1])
                corner[:, rows, rows] += amount
            diagonal.append(corner)
        return Blocks(diagonal, self.lower, self.folds, self.rad)


def random_blocks(rng, groups=4, largest=3, coupling=0.7) -> Blocks:
    """Frequencies that fold by random factors in random order; some diagonal blocks are diagonal."""
    frequencies, owners = [int(rng.choice([1, 2, 4, 6]))], [None]
    for _ in range(groups - 1):
        before = frequencies[-1]
        after = int(rng.choice([n for n in range(1, before + 1) if before % n == 0]))
        frequencies.append(after)
        owners.append(rng.permutation(np.arange(before) % after))  # which frequency of k one of k - 1 folds into
    sizes = rng.integers(1, largest + 1, groups)
    diagonal = []
    for f, n in zip(frequencies, sizes, strict=True):
        corner = rng.standard_normal((f, n, n))
        diagonal.append(np.abs(rng.standard_normal((f, n))) if rng.random() < 0.4 else corner + corner.swapaxes(1, 2))
    lower, folds = {}, {}
    for k in range(groups):
        for s in range(k):
            if rng.random() < coupling:
                owner = np.arange(frequencies[s])
                for j in range(s + 1, k + 1):
                    owner = owners[j][owner]
                fold = np.stack([rng.permutation(np.flatnonzero(owner == f)) for f in range(frequencies[k])])
                folds[k, s] = fold
                lower[k, s] = rng.standard_normal((frequencies[k], sizes[k], fold.shape[1], sizes[s]))
    return Blocks(diagonal, lower, folds)


@pytest.mark.parametrize("tile", [1, 2, 128])
def test_matrices_near_the_border(monkeypatch, tile):
    """The smallest eigenvalue is moved to within 1e-17 ... 1e-3 of zero, on either side."""
    monkeypatch.setattr(block_matrix, "_TILE", tile)
    rng = np.random.default_rng(tile)
    outcomes = {(True, True): 0, (True, False): 0, (False, False): 0}
    for trial in range(150):
        blocks = random_blocks(rng, int(rng.integers(1, 5)))
        values = np.linalg.eigvalsh(blocks.floats())
        gap = float(rng.choice([-1.0, 1.0])) * 10.0 ** rng.uniform(-17, -3)
        blocks = blocks.shifted(gap - values[0])
        definite, claim = blocks.truth(), blocks.proved()
        assert definite or not claim, trial
        if gap > 1e-11:
            assert claim, (trial, gap)
        outcomes[definite, claim] += 1
    assert min(outcomes.values()) > 5, outcomes


def test_agrees_with_the_dense_proof():
    rng = np.random.default_rng(1)
    for _ in range(100):
        blocks = random_blocks(rng, 5)
        values = np.linalg.eigvalsh(blocks.floats())
        blocks = blocks.shifted(-values[0] + float(rng.choice([-1e-6, 1e-8, 1e-4, 1.0])))
        assert blocks.proved() == is_positive_semidefinite(Ball.exact(blocks.floats()))


@pytest.mark.parametrize("tile", [1, 128])
def test_every_member_of_a_ball_counts(monkeypatch, tile):
    monkeypatch.setattr(block_matrix, "_TILE", tile)
    rng = np.random.default_rng(2)
    claims = 0
    for _ in range(60):
        blocks = random_blocks(rng, 3, 2)
        floats = blocks.floats()
        size = len(floats)
        blocks = blocks.shifted(float(rng.uniform(0.05, 0.3)) - np.linalg.eigvalsh(floats)[0])
        blocks.rad = float(rng.uniform(0.0, 0.1))
        if not blocks.proved():
            continue
        claims += 1
        worst = np.linalg.eigh(blocks.floats())[1][:, 0]
        choices = [-np.sign(np.outer(worst, worst)).astype(int)]
        choices += [rng.choice([-1, 1], (size, size)) for _ in range(3)]
        assert all(blocks.truth(signs) for signs in choices)
    assert claims > 10


def test_a_radius_anywhere_counts():
    """[[1, 1 - e], [1 - e, 1]] and the like: each single radius of 3 e spoils the proof."""
    e = 1e-6
    fold = np.zeros((1, 1), dtype=int)

    def proved(corner=0.0, diagonal=0.0, block=0.0, inner=0.0):
        first = Ball(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[[corner, 0.0], [inner, 0.0]]]))
        second = Ball(np.ones((1, 1)), np.full((1, 1), diagonal))
        coupling = Ball(np.array([[[[1.0 - e, 0.0]]]]), np.array([[[[block, 0.0]]]]))
        return is_block_positive_semidefinite([first, second], {(1, 0): coupling}, {(1, 0): fold})

    assert proved() and proved(e / 2) and proved(0, e / 2) and proved(0, 0, e / 2) and proved(0, 0, 0, 1e-8)
    assert not proved(3 * e) and not proved(0, 3 * e) and not proved(0, 0, 3 * e) and not proved(0, 0, 0, 0.1)


@pytest.mark.parametrize("tile", [1, 2, 128])
def test_the_factorisation_is_not_trusted(monkeypatch, tile):
    """Forged Cholesky factors and forged solutions of triangular systems."""
    monkeypatch.setattr(block_matrix, "_TILE", tile)
    rng = np.random.default_rng(3)
    cholesky, solve = np.linalg.cholesky, np.linalg.solve
    cases = []
    while len(cases) < 20:
        blocks = random_blocks(rng, 3, 2)
        blocks = blocks.shifted(-np.linalg.eigvalsh(blocks.floats())[0] - 10.0 ** rng.uniform(-16, 0))
        if not blocks.truth():
            cases.append(blocks)

    def regular(a, shift):
        return cholesky(a + (shift + max(0.0, -float(np.linalg.eigvalsh(a).min()))) * np.eye(a.shape[-1]))

    factors = [
        np.zeros_like, lambda a: np.full_like(a, np.nan), lambda a: np.full_like(a, 1e200),
        lambda a: rng.standard_normal(a.shape), lambda a: np.broadcast_to(np.eye(a.shape[-1]), a.shape) + 0.0,
        lambda a: regular(a, 1e-16), lambda a: regular(a, 1e-15), lambda a: regular(a, 1e-8), lambda a: regular(a, 0.3),
    ]  # fmt: skip
    solutions = [
        lambda a, b: solve(a + 1e-300, b), lambda a, b: np.zeros_like(b), lambda a, b: 1e-3 * b,
        lambda a, b: np.full_like(b, np.nan), lambda a, b: rng.standard_normal(b.shape),
    ]  # fmt: skip
    for forge in factors:
        for forged in solutions:
            monkeypatch.setattr(np.linalg, "cholesky", forge)
            monkeypatch.setattr(np.linalg, "solve", forged)
            for blocks in cases:
                assert not blocks.proved()


def test_the_rounding_of_products_counts_beside_any_factor(monkeypatch):
    """2 x 2 matrices a little above the *float* product R R' and indefinite all the same, as two groups and as one."""
    rng = np.random.default_rng(9)
    factors = np.zeros((20000, 2, 2))
    factors[:, 0, 0], factors[:, 1, 0] = rng.uniform(0.6, 0.95, 20000), rng.uniform(0.51, 0.9, 20000)
    factors[:, 1, 1] = 2.0**-27 * rng.random(20000)
    matrices = factors @ factors.swapaxes(1, 2)
    matrices[:, [0, 1], [0, 1]] += 2.0**-54 * rng.integers(1, 3, (20000, 2))
    tested = 0
    for matrix, factor in zip(matrices, factors, strict=True):
        a, b, c = (Fraction(float(matrix[i])) for i in ((0, 0), (1, 0), (1, 1)))
        if a * c >= b * b or min(a, c) < 0.25 or max(a, c) >= 1:
            continue
        tested += 1
        monkeypatch.setattr(np.linalg, "cholesky", lambda _, factor=factor: factor[None])
        assert not is_block_positive_semidefinite([Ball.exact(matrix[None])], {}, {})

        def corner(a, factor=factor):
            return np.full((1, 1, 1), factor[0, 0] if a[0, 0, 0] > 0.2 else factor[1, 1])

        monkeypatch.setattr(np.linalg, "cholesky", corner)
        monkeypatch.setattr(block_definite, "_solved", lambda *_, factor=factor: np.full((1, 1, 1), factor[1, 0]))
        corners = [Ball.exact(matrix[i, i].reshape(1, 1, 1)) for i in (0, 1)]
        coupling = Ball.exact(matrix[1, 0].reshape(1, 1, 1, 1))
        assert not is_block_positive_semidefinite(corners, {(1, 0): coupling}, {(1, 0): np.zeros((1, 1), dtype=int)})
    assert tested >= 3


def test_badly_scaled_rows():
    rng = np.random.default_rng(4)
    for _ in range(30):
        blocks = random_blocks(rng, 4)
        blocks = blocks.shifted(1e-3 - np.linalg.eigvalsh(blocks.floats())[0])
        powers = [rng.integers(-240, 240, corner.shape[:2]) for corner in blocks.diagonal]
        diagonal = []
        for corner, power in zip(blocks.diagonal, powers, strict=True):
            both = 2 * power if corner.ndim == 2 else power[:, :, None] + power[:, None, :]
            diagonal.append(np.ldexp(corner, both))
        lower = {}
        for (k, s), block in blocks.lower.items():
            fold = powers[s][blocks.folds[k, s]]
            lower[k, s] = np.ldexp(block, powers[k][:, :, None, None] + fold[:, None])
        assert Blocks(diagonal, lower, blocks.folds).proved()


def singular_chain(groups, size, rng):
    """R R' for R bidiagonal with orthogonal blocks and a last pivot of zero."""
    fold = np.zeros((1, 1), dtype=int)
    diagonal = [np.full((1, size), 1.0 if k in (0, groups - 1) else 2.0) for k in range(groups)]
    lower = {(k, k - 1): np.linalg.qr(rng.standard_normal((size, size)))[0][None, :, None] for k in range(1, groups)}
    return Blocks(diagonal, lower, dict.fromkeys(lower, fold))


def test_depth_costs_no_digits():
    """As in the short chain, 1e-13 above the singular matrix is enough; the order of 400 x 4 alone would cost 1e-10."""
    rng = np.random.default_rng(5)
    for groups in (3, 30, 400):
        chain = singular_chain(groups, 4, rng)
        assert chain.shifted(1e-13).proved(), groups
        assert not chain.shifted(-1e-13).proved()


def test_parallel_rows_need_the_second_attempt():
    """All rows of R point the same way, which is the worst case for the bound of |R||R|'."""
    n = 300
    matrix = Ball.exact((np.ones((n, n)) + 1e-11 * np.eye(n))[None])
    assert is_block_positive_semidefinite([matrix], {}, {})
    assert not is_block_positive_semidefinite([Ball.exact(np.ones((1, n, n)))], {}, {})
    assert not is_block_positive_semidefinite([Ball.exact((np.ones((n, n)) - 1e-14 * np.eye(n))[None])], {}, {})


def test_a_wide_diagonal_group_costs_no_square():
    rng = np.random.default_rng(6)
    wide, rows = 12288, 5
    coupling = Ball.exact(rng.standard_normal((1, rows, 1, wide)) / np.sqrt(wide))
    fold = {(1, 0): np.zeros((1, 1), dtype=int)}
    tracemalloc.start()
    began = time.process_time()
    assert is_block_positive_semidefinite(
        [Ball.exact(np.full((1, wide), 2.0)), Ball.exact(np.full((1, rows), 1.0))], {(1, 0): coupling}, fold
    )
    assert time.process_time() - began < 2.0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    few = [Ball.exact(np.full((1, wide), 0.5)), Ball.exact(np.full((1, rows), 1.0))]
    assert not is_block_positive_semidefinite(few, {(1, 0): coupling}, fold)


def test_rows_of_zeros():
    fold = {(1, 0): np.zeros((1, 1), dtype=int)}

    def proved(corner, block=((0.0, 0.0),), rad=0.0):
        coupling = Ball(np.asarray(block)[None, :, None], np.asarray(rad))
        return is_block_positive_semidefinite([Ball.exact([[1.0, 0.0]]), Ball.exact(corner)], {(1, 0): coupling}, fold)

    assert proved([[1.0]]) and proved([[0.0]]) and proved([[[0.0]]])
    assert not proved([[1.0]], [[0.0, 1e-300]]) and not proved([[1.0]], rad=1e-300) and not proved([[-0.1]])
    assert not is_block_positive_semidefinite([Ball.exact([[[0.0, 0.0], [1e-320, 1.0]]])], {}, {})
    assert not is_block_positive_semidefinite([Ball(np.zeros((1, 1)), np.full((1, 1), 1e-320))], {}, {})


def test_degenerate_sizes():
    assert is_block_positive_semidefinite([], {}, {})
    empty = [Ball.exact(np.ones((1, 2))), Ball.exact(np.ones((1, 0))), Ball.exact(np.ones((1, 0, 0)))]
    folds = {(1, 0): np.zeros((1, 1), dtype=int), (2, 1): np.zeros((1, 1), dtype=int)}
    lower = {(1, 0): Ball.exact(np.ones((1, 0, 1, 2))), (2, 1): Ball.exact(np.ones((1, 0, 1, 0)))}
    assert is_block_positive_semidefinite(empty, lower, folds)
    for value, expected in ((5e-324, True), (1e-300, True), (1e300, True), (-1e-300, False)):
        assert is_block_positive_semidefinite([Ball.exact([[value]])], {}, {}) == expected
        assert is_block_positive_semidefinite([Ball.exact([[[value]]])], {}, {}) == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_entries_that_are_no_numbers_prove_nothing(bad):
    def proved(where, in_radius):
        arrays = {"vector": np.ones((1, 2)), "corner": 9 * np.eye(2)[None], "block": np.ones((1, 2, 1, 2))}
        radii = {name: np.zeros(array.shape) for name, array in arrays.items()}
        if where is not None:
            (radii if in_radius else arrays)[where].flat[-1] = abs(bad) if in_radius else bad
        balls = {name: Ball(array, radii[name]) for name, array in arrays.items()}
        diagonal, fold = [balls["vector"], balls["corner"]], np.zeros((1, 1), dtype=int)
        return is_block_positive_semidefinite(diagonal, {(1, 0): balls["block"]}, {(1, 0): fold})

    assert proved(None, False)
    for where in ("vector", "corner", "block"):
        assert not proved(where, False) and not proved(where, True)


def test_only_the_lower_triangle_is_read():
    assert is_block_positive_semidefinite([Ball.exact([[[1.0, np.nan], [0.5, 1.0]]])], {}, {})
    assert not is_block_positive_semidefinite([Ball.exact([[[1.0, 0.5], [99.0, 1.0]]])], {}, {})


def test_what_does_not_fit_proves_nothing():
    one, fold = Ball.exact(np.ones((2, 3))), np.array([[0], [1]])
    good = Ball.exact(np.zeros((2, 3, 1, 3)))
    assert is_block_positive_semidefinite([one, one], {(1, 0): good}, {(1, 0): fold})
    for diagonal, lower, folds in (
        ([one, Ball.exact(np.ones(3))], {}, {}),
        ([one, Ball.exact(np.ones((2, 3, 2)))], {}, {}),
        ([one, one], {(1, 0): good}, {}),
        ([one, one], {(0, 1): good}, {(0, 1): fold}),
        ([one, one], {(1, 1): good}, {(1, 1): fold}),
        ([one, one], {(2, 0): good}, {(2, 0): fold}),
        ([one, one], {(1, 0): good}, {(1, 0): np.array([[0], [0]])}),
        ([one, one], {(1, 0): good}, {(1, 0): np.array([[0], [2]])}),
        ([one, one], {(1, 0): good}, {(1, 0): np.array([[-1], [0]])}),
        ([one, one], {(1, 0): good}, {(1, 0): np.array([[0.0], [1.0]])}),
        ([one, one], {(1, 0): good}, {(1, 0): np.array([[0, 1]])}),
        ([one, one], {(1, 0): Ball.exact(np.zeros((2, 3, 1, 2)))}, {(1, 0): fold}),
        ([one, one], {(1, 0): Ball.exact(np.zeros((2, 3, 3)))}, {(1, 0): fold}),
    ):
        assert not is_block_positive_semidefinite(diagonal, lower, folds)


def test_folds_that_are_not_nested_prove_nothing():
    """Group 2 reads frequency f of group 0 directly, and frequency 1 - f through group 1."""
    straight, crossed = np.array([[0], [1]]), np.array([[1], [0]])
    ones = [Ball.exact(np.ones((2, 1)))] * 3
    lower = dict.fromkeys([(1, 0), (2, 0), (2, 1)], Ball.exact(np.full((2, 1, 1, 1), 0.1)))
    assert is_block_positive_semidefinite(ones, lower, dict.fromkeys(lower, straight))
    assert is_block_positive_semidefinite(ones, lower, {(1, 0): crossed, (2, 0): straight, (2, 1): crossed})
    assert not is_block_positive_semidefinite(ones, lower, {(1, 0): straight, (2, 0): straight, (2, 1): crossed})
    # four frequencies fold into two, and those into one: fill has to find the way through both
    merging, meeting = np.array([[0, 2], [1, 3]]), np.array([[0, 1], [2, 3]])
    groups = [Ball.exact(np.ones((4, 1))), Ball.exact(np.ones((2, 1))), Ball.exact(np.ones((2, 1)))]
    blocks = dict.fromkeys([(1, 0), (2, 0)], Ball.exact(np.full((2, 1, 2, 1), 0.1)))
    assert is_block_positive_semidefinite(groups, blocks, dict.fromkeys(blocks, merging))
    assert not is_block_positive_semidefinite(groups, blocks, {(1, 0): merging, (2, 0): meeting})


def exact(array):
    """The same array of rationals; numpy multiplies and adds them without rounding."""
    return np.vectorize(Fraction, otypes=[object])(array) if array.size else array.astype(object)


def gathered_sums(errors, parent, count):
    """Rows of (F_s, n, m), summed along the rows and over the children of each of `count` parents."""
    return np.stack([errors[parent == f].sum((0, 2)) for f in range(count)])


def covers(charged, errors):
    """The limits made of what was charged are at least these rationals."""
    return bool((exact(charged) >= errors).all())


def test_what_is_charged_covers_the_exact_errors():
    """Each step by itself, against rational arithmetic: |what was computed - what is exact| summed along rows."""
    rng = np.random.default_rng(10)

    def entries(*shape):
        return rng.uniform(-1, 1, shape) if rng.random() < 0.7 else rng.choice([-1 / 3, 1 / 3, 0.1], shape)

    for _ in range(300):
        fine, size = int(rng.choice([1, 2, 4])), int(rng.integers(1, 4))
        middle = int(rng.choice([n for n in (1, 2, 4) if fine % n == 0]))
        coarse = int(rng.choice([n for n in (1, 2) if middle % n == 0]))
        j_s, k_j = rng.permutation(np.arange(fine) % middle), rng.permutation(np.arange(middle) % coarse)
        counts, sizes = (fine, middle, coarse), (size, *(int(n) for n in rng.integers(1, 4, 2)))

        def fresh(counts=counts, sizes=sizes, parents=None):
            needed = [np.full((f, n), 1e-300) for f, n in zip(counts, sizes, strict=True)]
            corners = [entries(f, n, n) for f, n in zip(counts, sizes, strict=True)]
            corners = [corner + corner.swapaxes(1, 2) for corner in corners]
            return block_matrix.BlockMatrix(corners, [None] * 3, {}, {}, parents, needed)

        parents = {(1, 0): j_s, (2, 0): k_j[j_s], (2, 1): k_j}
        # a block of the factor, below a full and below a diagonal corner
        for root in (np.tril(entries(fine, size, size)) + 2 * np.eye(size), 1 + np.abs(entries(fine, size))):
            matrix = fresh(parents=parents)
            block = entries(fine, sizes[2], size)
            matrix.blocks[2, 0] = block.copy()
            factor = block_definite._factor_block(matrix, 2, 0, root)
            full = root if root.ndim == 3 else block_definite._full(root)
            errors = np.abs(exact(block) - exact(factor) @ exact(full).swapaxes(1, 2))
            limits = matrix.limits()
            assert covers(limits[2], gathered_sums(errors, parents[2, 0], coarse))
            assert covers(limits[0], errors.sum(1))
        # a corner: the sum of all errors but those that E's diagonal shows
        for corner in (fresh(parents=parents).corners[0] + 6 * np.eye(size), 1 + np.abs(entries(fine, size))):
            matrix = fresh(parents=parents)
            matrix.corners[0] = corner.copy()
            root, points = block_definite._factor_corner(matrix, 0, np.full((fine, size), 1e-15))
            full = (block_definite._full(array) if corner.ndim == 2 else array for array in (corner, root))
            left, right = (exact(array) for array in full)
            remainder = left - right @ right.swapaxes(1, 2)
            diagonal = np.diagonal(remainder, axis1=1, axis2=2)
            others = np.abs(remainder).sum(-1) - np.abs(diagonal)
            assert covers(matrix.limits()[0], others + np.abs(exact(points) - diagonal))
        # an update of corners, of a block and of the zeros where one fills in
        matrix = fresh(parents=parents)
        before = [corner.copy() for corner in matrix.corners]
        block = entries(middle, sizes[2], sizes[1])
        # one factor is so much larger that its rows' own corners hide nothing
        factors = {1: entries(fine, sizes[1], size), 2: entries(fine, sizes[2], size)}
        large = int(rng.integers(1, 3))
        factors[large] = np.ldexp(factors[large], 30)
        case = rng.integers(3)
        if case == 0:  # the difference is near zero, and the rounding of the product is all there is
            products = factors[2] @ factors[1].swapaxes(1, 2)
            block = np.stack([products[j_s == g].sum(0) for g in range(middle)])
        if case == 1:
            block = np.zeros_like(block)
        else:
            matrix.blocks[2, 1] = block.copy()
        block_definite._update(matrix, 0, factors)
        sums = {1: 0, 2: 0}
        for k, j, old, new in (
            (1, 1, before[1], matrix.corners[1]),
            (2, 2, before[2], matrix.corners[2]),
            (2, 1, block, matrix.blocks[2, 1]),
        ):
            products = exact(factors[k]) @ exact(factors[j]).swapaxes(1, 2)
            total = np.stack([products[parents[j, 0] == g].sum(0) for g in range(counts[j])])
            errors = np.abs(exact(new) - (exact(old) - total))
            if k == j:
                sums[k] = sums[k] + errors.sum(-1)
            else:
                sums[k] = sums[k] + gathered_sums(errors, k_j, coarse)
                sums[j] = sums[j] + errors.sum(1)
        limits = matrix.limits()
        assert covers(limits[1], sums[1]) and covers(limits[2], sums[2])
