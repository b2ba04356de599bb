"""One pass from the input to the output: the best bound for given multipliers, or multipliers in closed form.

For metric P and multipliers T let K(P, T) = M + C'C of the LipSDP. Then the smallest s with s K - C'C >= 0 is
lambda_max(C K^-1 C'), so (s P, s T) proves |Df|_2^2 <= s Dx' P Dx. K > 0 is checked by eliminating group after group:
the state is Gamma = V K^-1 V' on the rows that later groups read, and with m = (a + b), c = 2 a b group k asks for

    G = Gamma_kk corrected for the curvature V' diag(c T) V,   S = 2 T - diag(m T) G diag(m T) > 0.

The closed form takes T_k as large as G's largest eigenvalue allows (ECLipsE-Fast, Xu and Sivaranjani 2024; any slopes,
any graph, any number of frequencies). Nothing here is a proof: the multipliers are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from certlip.solvers.network import Network, Tensor, pairing

SLACK = 1.05
"""Room that the closed form leaves where a + b vanishes, so that S stays positive."""

_CONSTANT = 1e-100
"""What counts as the energy of pre-activations that are constant, the metric being one."""

_EIGEN_SIZE = 600
"""Above this order eigenvalues come from a block Krylov space."""


OVERFLOW = "the numbers of the network are too large for floating point"


class Infeasible(ArithmeticError):
    """K(P, T) is not positive definite: these multipliers prove nothing."""


class Sweep:
    """The symbolic part, once per network: which pairs of groups meet and how their frequencies correspond."""

    def __init__(self, network: Network):
        self.network = network
        form, last = network.form, network.hidden + 1
        self._reads = {k: set(form.maps[k - 1]) for k in range(1, last + 1)}
        folds = dict(form.folds)
        self._phases: dict[tuple[int, int, int], Tensor | None] = {}
        for source in range(last):
            readers = [k for k in range(source + 1, last + 1) if source in self._reads[k]]
            for position, upper in enumerate(readers):
                for lower in readers[:position]:
                    if (upper, lower) not in folds:
                        folds[upper, lower] = pairing(folds, upper, lower, source)
                    self._reads[upper].add(lower)
                    self._phases[upper, lower, source] = self._correspondence(folds, upper, lower, source)
        self._folds = {pair: network._fold(fold) for pair, fold in folds.items()}

    def _correspondence(self, folds: dict, upper: int, lower: int, source: int) -> Tensor | None:
        """For each phase p of `lower` in `upper` and q of `source` in `lower`, the phase of `source` in `upper`."""
        outer, pair, inner = folds[upper, source], folds[upper, lower], folds[lower, source]
        if outer.shape[1] == pair.shape[1] == 1:
            return None
        wanted = inner[pair]  # (F, P, Q): frequencies of the source
        order = np.argsort(outer, axis=1)
        ranked = np.take_along_axis(outer, order, 1)
        flat = wanted.reshape(len(outer), -1)
        place = np.stack([np.searchsorted(row, entry) for row, entry in zip(ranked, flat, strict=True)])
        return torch.as_tensor(np.take_along_axis(order, place, 1).reshape(wanted.shape), device=self.network.device)

    def readers(self, source: int) -> list[int]:
        """Groups whose state changes when `source` is eliminated."""
        return [k for k in range(source + 1, self.network.hidden + 2) if source in self._reads[k]]

    def bound(self, metric: Tensor, multipliers: Tensor, weights: Tensor | None = None) -> float:
        """The smallest s; `metric` (n_0,) and `multipliers` as rows' values, `weights` of the output rows.

        Raises Infeasible where K is not positive definite in floating point.
        """
        return self._run(metric, lambda k, gram: multipliers[self.network.variables[k - 1]], weights)

    def gram(self, metric: Tensor, multipliers: Tensor) -> np.ndarray:
        """C K^-1 C' of a network of one frequency; Infeasible as for `bound`."""
        gram = self._gram(metric, lambda k, gram: multipliers[self.network.variables[k - 1]])
        size = self.network.sizes[-1]
        return np.zeros((size, size)) if gram is None else gram[0].cpu().numpy()

    def closed_form(self, metric: Tensor, weights: Tensor | None = None) -> tuple[Tensor, float]:
        """Multipliers, one per variable, and the s that goes with them."""
        found = torch.zeros(self.network.form.neurons, dtype=torch.float64, device=self.network.device)

        def choose(k: int, gram: Tensor) -> Tensor:
            network = self.network
            low, high = network.low[k - 1], network.high[k - 1]
            radius, steepest = (high - low) / 2, torch.maximum(low.abs(), high.abs())
            top = _largest_eigenvalue(gram)
            reach = torch.maximum(radius, 1e-3 * steepest) * torch.maximum(steepest, SLACK * radius)
            sigma = max(top, 0.0) * reach
            floor = max(float(sigma.max()) * 1e-6, _CONSTANT * float(1.0 / metric.min()))
            rows = 0.5 / sigma.clamp(min=floor)
            index = network.variables[k - 1]
            smallest = torch.full_like(found, torch.inf).scatter_reduce_(0, index, rows, "amin")
            found[index] = smallest[index]
            return found[index]

        return found, self._run(metric, choose, weights)

    def _run(self, metric: Tensor, multipliers: Callable[[int, Tensor], Tensor], weights: Tensor | None) -> float:
        gram = self._gram(metric, multipliers)
        if gram is None:
            return 0.0
        if weights is not None:
            root = weights.sqrt()
            gram = root[:, None] * gram * root
        return _largest_eigenvalue(gram)

    def _gram(self, metric: Tensor, multipliers: Callable[[int, Tensor], Tensor]) -> Tensor | None:
        """C K^-1 C' after eliminating all groups; None for a constant output. `multipliers` gives a group's rows of T,
        knowing V K^-1 V' on its pre-activations."""
        network = self.network
        state: dict[tuple[int, int], Tensor] = {}
        root = metric.rsqrt()
        self._absorb(state, 0, {k: network.maps[k - 1][0] * root for k in self.readers(0)}, 1.0)
        for k in range(1, network.hidden + 1):
            size = network.sizes[k]
            gram = state.pop((k, k), None)
            if gram is None:
                gram = torch.zeros(network.frequencies[k], size, size, dtype=torch.float64, device=network.device)
            rows = multipliers(k, gram)
            low, high = network.low[k - 1], network.high[k - 1]
            readers = self.readers(k)
            cross = {m: state.pop((m, k)) for m in readers if (m, k) in state}
            for sign in (1.0, -1.0):
                bent = torch.nonzero(sign * low * high * rows > 0).flatten()
                if bent.numel():
                    inverse = 1.0 / (2 * low * high * rows)[bent].abs()
                    gram, cross = self._bend(state, k, gram, cross, bent, inverse, sign)
            both = (low + high) * rows
            factor = self._cholesky(torch.diag_embed(2 * rows) - both[:, None] * gram * both)
            del gram
            steps = {}
            for m in readers:
                step = network.maps[m - 1].get(k)
                if m in cross:
                    coupled = cross.pop(m) * both
                    step = coupled if step is None else step + coupled
                if step is not None:
                    steps[m] = self._solve(factor, step, m, k)
            self._absorb(state, k, steps, 1.0)
        return state.get((network.hidden + 1, network.hidden + 1))

    def _bend(self, state, k, gram, cross, bent, inverse, sign):
        """Account for the curvature of group k's rows `bent`: K grows by sign V' diag(1 / inverse) V."""
        factor = self._cholesky(torch.diag_embed(inverse) + sign * gram[:, bent][:, :, bent])
        own = torch.linalg.solve_triangular(factor.mT, gram[:, :, bent], upper=True, left=False)
        steps = {m: self._solve(factor, block[..., bent], m, k) for m, block in cross.items()}
        fold = self._folds
        for m, step in steps.items():
            lower = own[:, None] if fold[m, k] is None else own[fold[m, k]]  # (F_m, P, n_k, bent)
            cross[m] = cross[m] - sign * torch.einsum("fmpb,fpnb->fmpn", step, lower)
        self._absorb(state, k, steps, -sign)
        return gram - sign * own @ own.mT, cross

    def _solve(self, factor: Tensor, block: Tensor, m: int, k: int) -> Tensor:
        """block L^-T over the phases of k in m: (F_m, n_m, P, n_k)."""
        fold = self._folds[m, k]
        lower = factor if fold is None else factor[fold]
        if fold is None:
            return torch.linalg.solve_triangular(lower.mT, block[:, :, 0], upper=True, left=False)[:, :, None]
        right = block.transpose(1, 2)
        return torch.linalg.solve_triangular(lower.mT, right, upper=True, left=False).transpose(1, 2)

    def _absorb(self, state: dict, source: int, steps: dict[int, Tensor], sign: float) -> None:
        """Gamma_{m m'} += sign Y_m Y_m'' for all readers m, m' of the eliminated group."""
        readers = sorted(steps)
        for position, m in enumerate(readers):
            flat = steps[m].flatten(2)
            self._add(state, (m, m), sign * flat @ flat.mT)
            for other in readers[:position]:
                lower = steps[other].flatten(2)
                places = self._phases[m, other, source]  # (F, P, Q)
                if places is None:
                    block = (flat @ lower.mT)[:, :, None]
                else:
                    frequency = torch.arange(len(places), device=places.device)[:, None, None]
                    left = steps[m].transpose(1, 2)[frequency, places]  # (F, P, Q, n_m, n_k)
                    fold = self._folds[m, other]
                    right = steps[other][:, None] if fold is None else steps[other][fold]  # (F, P, n', Q, n_k)
                    block = torch.einsum("fpqmk,fpnqk->fmpn", left, right)
                self._add(state, (m, other), sign * block)

    @staticmethod
    def _add(state: dict, pair: tuple[int, int], block: Tensor) -> None:
        state[pair] = state[pair] + block if pair in state else block

    @staticmethod
    def _cholesky(matrix: Tensor) -> Tensor:
        factor, info = torch.linalg.cholesky_ex(matrix)
        if bool(info.any()) or not bool(torch.isfinite(factor).all()):
            raise Infeasible("K is not positive definite in floating point")
        return factor


def _largest_eigenvalue(gram: Tensor) -> float:
    """An estimate from below, to many digits, of the largest eigenvalue over all frequencies.

    Raises Infeasible where numbers have overflowed.
    """
    size = gram.shape[-1]
    if not gram.numel():
        return 0.0
    if not bool(torch.isfinite(gram).all()):
        raise Infeasible(OVERFLOW)
    if size <= _EIGEN_SIZE:
        return float(torch.linalg.eigvalsh(gram).max())
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(*gram.shape[:-1], 8, generator=generator, dtype=gram.dtype).to(gram.device)
    krylov = []
    for _ in range(14):
        block = torch.linalg.qr(gram @ block).Q
        krylov.append(block)
    basis = torch.linalg.qr(torch.cat(krylov, -1)).Q
    return float(torch.linalg.eigvalsh(basis.mT @ gram @ basis).max())
