"""Trains one of the three networks and says how it does on voices it never heard.

The sparse ones start from the dense one, which therefore comes first: its weights choose the masks.
"""

import argparse
import os
import time
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before torch loads it: sums in a fixed order, the same result every time

import numpy as np
import torch
import torch.nn.functional as F

from data import CLASSES, OFFSET, STEP, dequantise
from model import KINDS, Net

BATCH, RATE, DECAY, MOMENTUM = 64, 0.05, 5e-4, 0.9
BOOST, PLAIN_EPOCHS = 1.5, 2


def load(folder: Path, split: str) -> tuple[np.ndarray, torch.Tensor]:
    data = np.load(folder / f"{split}.npz")
    return data["features"], torch.from_numpy(data["labels"].astype(np.int64))


def normalisation(features: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all training features, rounded: any constants near them do."""
    count = np.bincount(features.ravel(), minlength=256)
    value = OFFSET + STEP * np.arange(256)
    mean = (count * value).sum() / count.sum()
    return round(float(mean), 2), round(float(np.sqrt((count * (value - mean) ** 2).sum() / count.sum())), 2)


def to_input(q: np.ndarray, mean: float, std: float) -> torch.Tensor:
    return torch.from_numpy((dequantise(q) - np.float32(mean)) / np.float32(std)).unsqueeze(1)


def shifted(q: np.ndarray) -> np.ndarray:
    """Each clip moved by up to 3 frames and 1 band, edges repeated: other timing, other throats."""
    frames = np.clip(np.arange(32) + torch.randint(-3, 4, (len(q), 1)).numpy(), 0, 31)
    bands = np.clip(np.arange(32) + torch.randint(-1, 2, (len(q), 1)).numpy(), 0, 31)
    return q[np.arange(len(q))[:, None, None], frames[:, :, None], bands[:, None, :]]


@torch.no_grad()
def predict(net: torch.nn.Module, q: np.ndarray, mean: float, std: float) -> torch.Tensor:
    net.eval()
    return torch.cat([net(to_input(q[i : i + 256], mean, std)) for i in range(0, len(q), 256)])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of data.py; the network goes there too")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--epochs", type=int, help="default: 10 for the dense one, 20 more for the sparse ones")
    parser.add_argument("--pool-last", action="store_true", help="k-winners before the max-pool, as published")
    parser.add_argument("--name", help="file name without .pt, default: the kind")
    arguments = parser.parse_args()
    epochs = arguments.epochs or (10 if arguments.kind == "dense" else 20)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    features, labels = load(arguments.folder, "train")
    validation, validation_labels = load(arguments.folder, "validation")
    mean, std = normalisation(features)
    # Channels last: the same network, a quarter less time.
    net = Net(arguments.kind, not arguments.pool_last).to(memory_format=torch.channels_last)
    if arguments.kind != "dense":
        net.load_state_dict(torch.load(arguments.folder / "dense.pt")["state"])
        net.prune()
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
    steps = len(features) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, epochs * steps, pct_start=0.15, cycle_momentum=False
    )
    start = time.time()
    for epoch in range(epochs):
        # To zero before the end: the last epochs train what inference does, plain k-winners.
        net.boost_strength = BOOST * max(0.0, 1 - epoch / max(1, epochs - PLAIN_EPOCHS))
        net.train()
        order = torch.randperm(len(features)).numpy()
        total = 0.0
        for step in range(steps):
            index = order[step * BATCH : (step + 1) * BATCH]
            loss = F.cross_entropy(net(to_input(shifted(features[index]), mean, std)), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            net.hold_masks()
            total += loss.item()
        score = accuracy(predict(net, validation, mean, std), validation_labels)
        print(
            f"{arguments.kind} epoch {epoch + 1}: loss {total / steps:.4f}, validation {score:.2f}%, "
            f"{time.time() - start:.0f} s",
            flush=True,
        )

    test, test_labels = load(arguments.folder, "test")
    logits = predict(net, test, mean, std)
    print(f"{arguments.kind} test: {accuracy(logits, test_labels):.2f}%")
    for label, word in enumerate(CLASSES):
        print(f"  {word:8} {accuracy(logits[test_labels == label], test_labels[test_labels == label]):.1f}%")
    state = {
        "kind": arguments.kind,
        "pool_first": net.pool_first,
        "mean": mean,
        "std": std,
        "state": net.state_dict(),
    }
    torch.save(state, arguments.folder / f"{arguments.name or arguments.kind}.pt")


if __name__ == "__main__":
    main()
