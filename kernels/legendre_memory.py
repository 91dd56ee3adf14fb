"""The Legendre memory: a linear system of d states that holds a sliding window of its input as Legendre coefficients.

    m_t = Ā m_{t−1} + B̄ u_t,   Ā = e^A,   B̄ = A⁻¹(Ā − I)B                                                       (1)
    A_ij = (2i+1)/θ · (−1 if i < j else (−1)^{i−j+1}),   B_i = (2i+1)/θ · (−1)^i                                   (2)
    u_{t−δ} ≈ Σ_i P_i(2δ/θ − 1) m_i(t),   0 ≤ δ ≤ θ                                                               (3)

(Voelker et al. 2019, "Legendre Memory Units", equations 1 to 4; (1) is the zero-order hold of step 1.) Nothing in it is
learned, so that over a whole input it is a convolution with the impulse response H_k = Ā^k B̄ (Chilkuri and Eliasmith
2021; `lmuformer`, Liu et al. 2024). There is no Triton path: both ways of convolving are torch's own products.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import cont2discrete
from scipy.special import eval_legendre
from torch import Tensor

Memory = Float[Tensor, "batch pos state"]

DIRECT = 384
"""Up to how many positions the convolution is a matrix product; the transform overtakes it between 256 and 512."""


def system(d: int, theta: float) -> tuple[Float[Tensor, "state state"], Float[Tensor, " state"]]:
    """Ā and B̄ of equation (1), made and returned in float64.

    Args:
        d: number of Legendre coefficients.
        theta: θ, the window's length in positions.

    Raises:
        ValueError: if d is below 1 or θ is not a positive finite number.
    """
    if d < 1 or not 0 < theta < float("inf"):
        raise ValueError(f"a Legendre memory has d >= 1 states and a window 0 < theta < inf, not d={d}, theta={theta}.")
    i, j = np.arange(d)[:, None], np.arange(d)[None]
    rate = (2 * i + 1) / theta
    a = rate * np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    b = rate * (-1.0) ** i
    a_bar, b_bar, *_ = cont2discrete((a, b, np.eye(d), np.zeros((d, 1))), dt=1.0, method="zoh")
    return torch.from_numpy(a_bar), torch.from_numpy(b_bar[:, 0])


def impulse_response(
    a_bar: Float[Tensor, "state state"], b_bar: Float[Tensor, " state"], n: int
) -> Float[Tensor, "state lag"]:
    """H_k = Ā^k B̄ for k = 0 … n − 1, by doubling: the next lags are those so far times a power of Ā."""
    response, power = b_bar[:, None], a_bar
    while response.shape[1] < n:
        response = torch.cat([response, power @ response], dim=1)
        power = power @ power
    return response[:, :n]


def reference(
    u: Float[Tensor, "batch pos"], a_bar: Float[Tensor, "state state"], b_bar: Float[Tensor, " state"]
) -> Memory:
    """m of every position, step by step from m = 0."""
    m, states = u.new_zeros(u.shape[0], len(b_bar)), []
    for u_t in u.unbind(1):
        m = step(m, u_t, a_bar, b_bar)
        states.append(m)
    return torch.stack(states, dim=1)


def step(
    m: Float[Tensor, "batch state"],
    u: Float[Tensor, " batch"],
    a_bar: Float[Tensor, "state state"],
    b_bar: Float[Tensor, " state"],
) -> Float[Tensor, "batch state"]:
    """The memory after one more input, in O(d²) operations."""
    return m @ a_bar.T + u[:, None] * b_bar


def legendre_memory(u: Float[Tensor, "batch pos"], response: Float[Tensor, "state lag"]) -> Memory:
    """m of every position: Σ_k H_k u_{t−k}. Differentiable in u and the response.

    Args:
        u: the input, one number a position.
        response: H of at least as many lags as there are positions.

    Raises:
        ValueError: if the response is shorter than the input, or the input is empty.
    """
    n = u.shape[1]
    if not 1 <= n <= response.shape[1]:
        raise ValueError(f"the input has {n} positions; the impulse response reaches over 1 … {response.shape[1]}.")
    return by_product(u, response[:, :n]) if n <= DIRECT else by_transform(u, response[:, :n])


def by_product(u: Float[Tensor, "batch pos"], response: Float[Tensor, "state pos"]) -> Memory:
    """The convolution as a product with the n × n Toeplitz matrix of u; what comes later counts exactly nothing."""
    n = u.shape[1]
    past = torch.nn.functional.pad(u, (n - 1, 0)).unfold(1, n, 1)  # [batch, t, s] = u_{t−(n−1)+s}
    return past @ response.flip(1).T


def by_transform(u: Float[Tensor, "batch pos"], response: Float[Tensor, "state pos"]) -> Memory:
    """The convolution by FFT, padded to 2n so that the memory does not wrap around."""
    n = u.shape[1]
    product = torch.fft.rfft(u, 2 * n)[:, None] * torch.fft.rfft(response, 2 * n)
    return torch.fft.irfft(product, 2 * n)[..., :n].mT


def read_out(d: int, theta: float, delays: Float[Tensor, " delay"]) -> Float[Tensor, "delay state"]:
    """The weights P_i(2δ/θ − 1) of equation (3) in float64: `read_out(…) @ m_t` is the input δ positions ago, about.

    Raises:
        ValueError: for a delay outside the window 0 … θ.
    """
    if delays.numel() and (delays.min() < 0 or delays.max() > theta):
        raise ValueError(f"delays must lie in the window 0 … {theta}, not {delays.min():g} … {delays.max():g}.")
    at = 2 * delays.double().numpy() / theta - 1
    return torch.from_numpy(eval_legendre(np.arange(d)[None], at[:, None]))
