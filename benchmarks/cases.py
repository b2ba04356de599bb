"""What is measured and what it must reach: a table of cases, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

PEER_SECONDS, PEER_GIGABYTES = 300.0, 6.0


@dataclass(frozen=True)
class Target:
    """Every field that is set must hold. Fields that name a method compare with its row for the same network.

    value: largest bound. relative: largest (bound / published - 1). ratio: largest bound / norm product. gap: largest
    relative distance to the optimum. seconds on the clock, gigabytes at the peak. below: the bound is not above that
    method's. near: (method, largest relative difference). faster: (method, factor) pairs; a peer that did not finish
    counts with its cap, one that ran out of memory or is not installed does not count.
    """

    value: float | None = None
    relative: float | None = None
    ratio: float | None = None
    gap: float | None = None
    seconds: float | None = None
    gigabytes: float | None = None
    below: str = ""
    near: tuple[str, float] | None = None
    faster: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Case:
    """One row. recipe: see `networks.build`. published: a number, or the name of a bound in references.csv.

    seconds: the deadline that certlip is given, or the cap of a peer.
    """

    name: str
    recipe: str
    method: str = "auto"
    work: str = "bound"
    output: str = "all"
    norm: str = "l2"
    published: float | str | None = None
    must: Target | None = None
    goal: Target | None = None
    seconds: float = 120.0
    gigabytes: float = 8.0

    @property
    def limit(self) -> float:
        """Seconds after which the process is ended: a peer's cap; twice certlip's deadline, and time to start."""
        return self.seconds if self.work == "peer" else 2 * self.seconds + 120

    def work_order(self) -> dict[str, Any]:
        """What the measuring process needs to know."""
        wanted = ("work", "method", "output", "norm", "seconds", "gigabytes")
        return {"network": self.recipe, **{key: getattr(self, key) for key in wanted}}


@dataclass(frozen=True)
class Section:
    """One table. ratio: the value column is followed by bound / norm product, from the `spectral` row.
    against: two columns compare with the row of this method. needs_data: it cannot be measured without the folder."""

    key: str
    title: str
    text: str
    cases: tuple[Case, ...]
    ratio: bool = False
    against: str = ""
    needs_data: bool = True


def _published() -> Iterator[Case]:
    exact = Target(relative=1e-5)
    for name in ("lipsdp_random", "lipsdp_mnist"):
        yield Case(name, f"published {name}", published="lipsdp-neuron", must=exact, goal=Target(seconds=10))
    for kind, seed in product(("fnn2", "fnn3", "cnn2", "cnn3"), range(5)):
        name = f"digits_{kind}_seed{seed}"
        yield Case(name, f"published {name}", output="7", published="LipSDP", must=exact, goal=Target(seconds=10))
    for size in (100, 300):
        name = f"eclipse_mnist_n{size}"
        fast = Target(relative=1e-4)
        yield Case(name, f"published {name}", "eclipse-fast", published="ECLipsE-Fast", must=fast)
        yield Case(name, f"published {name}", "ECLipsE-Fast (eclipse-nn)", "peer", published="ECLipsE-Fast",
                   seconds=PEER_SECONDS, gigabytes=PEER_GIGABYTES)
        yield Case(name, f"published {name}", published="ECLipsE-Fast", must=Target(below="eclipse-fast"))


def _chains() -> Iterator[Case]:
    deep = {(16, 32): 2.36e-4, (64, 32): 6.6e-5, (64, 64): 6e-7}
    for width, depth in product((16, 64), (2, 4, 8, 16, 32, 64)):
        name = f"mlp_chain_w{width}_d{depth}"
        must: Target | None = Target(relative=1e-5)
        goal = Target(seconds=10)
        if depth > 16:
            value = deep.get((width, depth))
            must, goal = Target(value=value) if value else None, Target(gap=1e-3, seconds=30)
        yield Case(name, f"published {name}", published="LipSDP", must=must, goal=goal)


def _residual() -> Iterator[Case]:
    must, goal = Target(value=20.081), Target(seconds=8)
    yield Case("fc_resnet18", "published fc_resnet18", published="GLipSDP", must=must, goal=goal)
    for name in ("maxmin_2fc_16", "maxmin_2fc_32", "maxmin_5fc_32"):
        yield Case(name, f"published {name}", published="LipSDP-NSR", must=Target(relative=1e-4))


def _convolutions() -> Iterator[Case]:
    must = {(8, 4): 27.6, (8, 8): 82, (8, 16): 1360, (16, 4): 35.95, (16, 8): 62, (16, 16): 1100}
    goal = {(8, 4): 27.5, (8, 8): 81, (8, 16): 1300}
    for channels, depth, method in product((8, 16), (2, 4, 8, 16), ("lipsdp-torus", "auto")):
        name, key = f"cnn_chain_ch{channels}_d{depth}", (channels, depth)
        first = Target(value=must[key]) if key in must else Target(relative=1e-6)
        second = Target(value=goal.get(key), seconds=10 if channels == 8 else 15)
        yield Case(name, f"published {name}", method, published="GLipSDP", must=first, goal=second)


def _eclipse() -> Iterator[Case]:
    published = {2: 0.84, 5: 0.81, 10: 0.83, 20: 0.765, 50: 0.67, 100: 0.56}
    fast = {2: 0.9246, 5: 0.9050, 10: 0.9141, 20: 0.8808, 50: 0.8234, 100: 0.7511}
    must = {20: 0.765, 50: 0.670, 100: 0.557}
    for depth in published:
        name, recipe = f"80 wide, depth {depth}", f"eclipse {depth} 80"
        peer = {"work": "peer", "seconds": PEER_SECONDS, "gigabytes": PEER_GIGABYTES}
        yield Case(name, recipe, "spectral")
        yield Case(name, recipe, "eclipse-fast", published=fast[depth])
        yield Case(name, recipe, "ECLipsE-Fast (eclipse-nn)", published=fast[depth], **peer)
        yield Case(name, recipe, "ECLipsE (eclipse-nn)", published=published[depth], **peer)
        first = Target(ratio=must[depth]) if depth in must else Target(below="eclipse-fast")
        yield Case(name, recipe, published=published[depth], must=first, goal=Target(gap=1e-3, seconds=10))


def _solvers() -> Iterator[Case]:
    names = ("Clarabel", "SCS", "QICS", "SDPA")
    for hidden in (50, 200, 500):
        name, recipe = f"2 x {hidden}", f"random 10 {hidden} {hidden} 5"
        never_slower = tuple((peer, 1.0) for peer in names)
        if hidden == 50:
            must = Target(near=("Clarabel", 1e-6), faster=(("Clarabel", 300.0), *never_slower[1:]))
        else:
            must = Target(gap=1e-6, faster=never_slower)
        goal = Target(seconds=10, gigabytes=2) if hidden == 500 else None
        yield Case(name, recipe, "lipsdp", must=must, goal=goal)
        yield Case(name, recipe, "auto")
        for peer in names:
            yield Case(name, recipe, peer, "peer", seconds=PEER_SECONDS, gigabytes=PEER_GIGABYTES)


def _wide() -> Iterator[Case]:
    must = Target(gap=1e-2, seconds=900, gigabytes=12)
    name, recipe = "2 x 5000", "random 10 5000 5000 5"
    for method, first, second in (("spectral", None, None), ("eclipse-fast", None, None), ("auto", must, 1e-3)):
        goal = Target(gap=second) if second else None
        yield Case(name, recipe, method, must=first, goal=goal, seconds=900, gigabytes=16)


def _pairs() -> Iterator[Case]:
    networks = {
        "MNIST 784-256-256-256-256-10": "large",
        "mnist_fc 256x2": "competition mnist_fc/onnx/mnist-net_256x2.onnx.gz",
    }
    for name, norm in product(networks, ("l2", "linf")):
        for method, goal in (("spectral", None), ("auto", Target(seconds=120))):
            must = Target(below="spectral") if method == "auto" else None
            yield Case(f"{name}, {norm}", networks[name], method, "pairs", norm=norm, must=must, goal=goal, seconds=240)


def _images() -> Iterator[Case]:
    networks = {
        "sri_resnet_a": "sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx.gz",
        "oval21": "oval21/onnx/cifar_base_kw.onnx.gz",
    }
    for name, path in networks.items():
        recipe = f"competition {path}"
        for method in ("spectral", "eclipse-fast"):
            yield Case(name, recipe, method)
        must, goal = Target(below="eclipse-fast"), Target(seconds=60, gigabytes=4)
        yield Case(name, recipe, must=must, goal=goal, seconds=60)
        yield Case(name, recipe, "lipsdp")


def _section(key: str, title: str, text: str, cases: Callable[[], Iterator[Case]], **columns: Any) -> Section:
    return Section(key, title, text, tuple(cases()), **columns)


SECTIONS = (
    _section(
        "published", "Published networks",
        "`lipsdp_*` are the networks of the LipSDP repository (Fazlyab et al. 2019). `digits_*` are those of GLipSDP, "
        "with the bound on logit 7. `eclipse_mnist_*` are those of ECLipsE. Published: LipSDP by MOSEK, ECLipsE-Fast.",
        _published,
    ),
    _section(
        "chains", "Deep dense chains",
        "`mlp_chain_*`, published LipSDP by MOSEK. From depth 32 on the published values are solver noise.", _chains,
    ),
    _section(
        "residual", "Residual blocks and MaxMin",
        "`fc_resnet18` has eight blocks z + W2 relu(W1 z); published: GLipSDP. `maxmin_*`: published LipSDP-NSR; "
        "max and min of a pair are written as (a + b)/2 +- |a - b|/2, an exact rewriting.",
        _residual,
    ),
    _section(
        "convolutions", "Convolutional chains",
        "`cnn_chain_*`, 3 x 3 kernels with zero padding on 28 x 28 images; published: GLipSDP.", _convolutions,
    ),
    _section(
        "eclipse", "Random chains of the ECLipsE paper",
        "Published and measured as ratio to the norm product. ECLipsE's published ratios are read off a figure. "
        "eclipse-nn is the authors' package; its numbers are not proved.",
        _eclipse, ratio=True, needs_data=False,
    ),
    _section(
        "solvers", "LipSDP by general solvers",
        "Random chains 10 - h - h - 5. Each peer gets LipSDP with every layer scaled to norm 1, wide first and tall "
        "last layers reduced, and sparse constraint matrices, in the form that suits it best: the matrix inequality "
        "through cvxpy for Clarabel, SCS (tolerance 1e-7) and SDPA, the dual for QICS. Their numbers are not proved: "
        "one below the optimum is no bound. Each is capped at 300 s and 6 GB. SDPA is measured where the user has "
        "installed it. `x time` is the peer's time over that of `lipsdp`.",
        _solvers, against="lipsdp", needs_data=False,
    ),
    _section(
        "wide", "Two layers of 5000", "Random chain 10 - 5000 - 5000 - 5.", _wide, ratio=True, needs_data=False
    ),
    _section(
        "pairs", "All pairs of classes",
        "The bound on f_i - f_j for all 45 pairs of 10 classes in one process; the value is the largest of them. The "
        "MNIST chain is trained by `python -m models_zoo.large`; `mnist_fc` is from VNN-COMP.",
        _pairs, ratio=True,
    ),
    _section(
        "images", "CIFAR-size networks",
        "`sri_resnet_a` (residual) and `oval21` (convolutional) from VNN-COMP, all ten outputs in l2. `auto` has the "
        "60 s that the command gives by default, `lipsdp` over all neurons 120 s.",
        _images, ratio=True,
    ),
)
