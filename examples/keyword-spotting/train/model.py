"""The speech-commands CNN of the complementary-sparsity work: dense, with sparse weights, with sparse activations too.

conv 5x5 1 -> 64, pool 2, conv 5x5 64 -> 64, pool 2, linear 1600 -> 1500, linear 1500 -> 12. A batch norm without scale
and shift follows all but the last; `fold` puts it into weights and biases.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

KINDS = ["dense", "sparse-weights", "sparse-sparse"]
CHANNELS, HIDDEN, CLASSES = 64, 1500, 12
# Fractions of winners, of C H W and of the hidden units (nupic.torch, sparse_cnn.py).
WINNERS = {"conv1": 0.095, "conv2": 0.125, "hidden": 0.1}
BLOCK = 4  # outputs that share their nonzero columns
OVERLAY = {"conv1": 2, "conv2": 20, "hidden": 20}


def complementary_mask(weight: torch.Tensor, overlay: int) -> torch.Tensor:
    """0 and 1 in the shape of `weight`, seen as a matrix [outputs, columns]: in blocks of BLOCK outputs, at most one
    block in each column of a tile of `overlay` block rows, and the same number of blocks in every block row.

    The largest blocks of trained weights are taken first; that keeps three times the energy of a mask drawn by lot.
    A tile of fewer than `overlay` block rows leaves its weakest columns empty.
    """
    rows, columns = len(weight) // BLOCK, weight[0].numel()
    size = weight.detach().double().reshape(rows, BLOCK, columns).norm(dim=1).numpy()
    share = -(-columns // overlay)  # rounded up; then the last block row to be served gets less
    mask = np.zeros((rows, columns), np.float32)
    for first in range(0, rows, overlay):
        tile = size[first : first + overlay]
        left, free = np.full(len(tile), share), np.ones(columns, bool)
        for index in np.argsort(-tile, axis=None, kind="stable"):
            row, column = divmod(int(index), columns)
            if free[column] and left[row] > 0:
                mask[first + row, column] = 1
                free[column] = False
                left[row] -= 1
    return torch.from_numpy(mask.repeat(BLOCK, 0)).view_as(weight)


def k_winners(x: torch.Tensor, k: int, boost: torch.Tensor | None) -> torch.Tensor:
    """Keeps what is at least the k-th largest value of each sample. `boost` changes the ranking, not the values."""
    with torch.no_grad():
        ranking = x if boost is None else x * boost
        flat = ranking.flatten(1)
        threshold = flat.kthvalue(flat.shape[1] - k + 1, dim=1).values
        winners = ranking >= threshold.view(-1, *[1] * (x.dim() - 1))
    return x * winners


class Net(nn.Module):
    def __init__(self, kind: str, pool_first: bool = True) -> None:
        super().__init__()
        self.kind, self.pool_first = kind, pool_first
        self.conv1 = nn.Conv2d(1, CHANNELS, 5, bias=False)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 5, bias=False)
        self.hidden = nn.Linear(CHANNELS * 25, HIDDEN, bias=False)
        self.output = nn.Linear(HIDDEN, CLASSES)
        self.norms = nn.ModuleDict(
            {
                "conv1": nn.BatchNorm2d(CHANNELS, affine=False),
                "conv2": nn.BatchNorm2d(CHANNELS, affine=False),
                "hidden": nn.BatchNorm1d(HIDDEN, affine=False),
            }
        )
        units = {"conv1": CHANNELS * (14 if pool_first else 28) ** 2, "conv2": CHANNELS * (5 if pool_first else 10) ** 2}
        self.k = {name: round(fraction * units.get(name, HIDDEN)) for name, fraction in WINNERS.items()}
        self.boost_strength = 0.0
        self.masks: dict[str, torch.Tensor] = {}
        for name in WINNERS:
            weight = getattr(self, name).weight
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            self.register_buffer(f"duty_{name}", torch.full((len(weight),), WINNERS[name]))

    def prune(self) -> None:
        """Chooses the masks from the weights there are, and holds them from now on."""
        self.masks = {name: complementary_mask(getattr(self, name).weight, n) for name, n in OVERLAY.items()}
        self.hold_masks()

    @torch.no_grad()
    def hold_masks(self) -> None:
        for name, mask in self.masks.items():
            getattr(self, name).weight.mul_(mask)

    def activate(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self.kind != "sparse-sparse":
            return F.relu(x)
        duty = getattr(self, f"duty_{name}")
        boost = None
        if self.training and self.boost_strength > 0:
            # Units that won less often than their share rank higher, so that all of them learn something.
            boost = torch.exp((WINNERS[name] - duty) * self.boost_strength)
            boost = boost.view(1, -1, *[1] * (x.dim() - 2))
        y = k_winners(x, self.k[name], boost)
        if self.training:
            won = (y.detach() != 0).float().transpose(0, 1).flatten(1).mean(1)
            rate = len(x) / 1000
            duty.mul_(1 - rate).add_(rate * won)
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in ("conv1", "conv2"):
            x = getattr(self, name)(x)
            if self.pool_first:
                x = self.activate(name, self.norms[name](F.max_pool2d(x, 2)))
            else:
                x = F.max_pool2d(self.activate(name, self.norms[name](x)), 2)
        x = self.hidden(x.flatten(1))
        return self.output(self.activate("hidden", self.norms["hidden"](x)))

    @torch.no_grad()
    def fold(self) -> dict[str, torch.Tensor]:
        """Weights and biases without batch norm. Its scale is positive, so max-pool may come before or after it."""
        tensors = {}
        for name, norm in self.norms.items():
            weight = getattr(self, name).weight
            scale = (norm.running_var.double() + norm.eps).rsqrt()
            tensors[f"{name}.weight"] = (weight * scale.view(-1, *[1] * (weight.dim() - 1))).float()
            tensors[f"{name}.bias"] = (-norm.running_mean * scale).float()
        tensors["output.weight"], tensors["output.bias"] = self.output.weight.detach(), self.output.bias.detach()
        return tensors


@torch.no_grad()
def run_folded(tensors: dict[str, torch.Tensor], x: torch.Tensor, k: dict[str, int] | None, pool_first: bool) -> torch.Tensor:
    """What the JavaScript side computes: logits from folded tensors; `k` is None for ReLU."""

    def activate(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x) if k is None else k_winners(x, k[name], None)

    for name in ("conv1", "conv2"):
        x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        x = activate(name, F.max_pool2d(x, 2)) if pool_first else F.max_pool2d(activate(name, x), 2)
    x = activate("hidden", F.linear(x.flatten(1), tensors["hidden.weight"], tensors["hidden.bias"]))
    return F.linear(x, tensors["output.weight"], tensors["output.bias"])
