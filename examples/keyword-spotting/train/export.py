"""Writes the trained networks, the test set and a dozen clips as safetensors and wav files, and prints their accuracy."""

import argparse
import json
import os
import struct
import wave
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch

from data import BANDS, CLASSES, F_MAX, F_MIN, FILTERBANK, FLOOR, FRAME, FRAMES, HOP, OFFSET, PAD, RATE, STEP, log_mel
from model import BLOCK, KINDS, OVERLAY, Net, run_folded
from train import accuracy, load, to_input

TYPES = {"float32": "F32", "uint8": "U8"}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, object]) -> None:
    """u64 header length, JSON header, data. What is not a string in the metadata is written as JSON."""
    header: dict[str, object] = {
        "__metadata__": {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    }
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": TYPES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).tobytes())
    print(f"{path}: {path.stat().st_size} bytes")


def write_wav(path: Path, audio: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(audio.astype("<i2").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of data.py and train.py")
    parser.add_argument("target", type=Path, help="where the files go")
    arguments = parser.parse_args()
    (arguments.target / "clips").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    test, labels = load(arguments.folder, "test")
    exact = np.load(arguments.folder / "test-float32.npy")
    clips = np.load(arguments.folder / "clips.npz")
    features = np.stack([log_mel(audio) for audio in clips["audio"]])
    parity: dict[str, np.ndarray] = {"labels": labels[torch.from_numpy(clips["number"])].numpy().astype(np.uint8)}
    rows = []
    for kind in KINDS:
        if not (arguments.folder / f"{kind}.pt").exists():
            continue
        saved = torch.load(arguments.folder / f"{kind}.pt")
        mean, std, pool_first = saved["mean"], saved["std"], saved["pool_first"]
        net = Net(kind, pool_first)
        net.load_state_dict(saved["state"])
        tensors = net.fold()
        k = net.k if kind == "sparse-sparse" else None

        def logits(x: torch.Tensor) -> torch.Tensor:
            return torch.cat([run_folded(tensors, part, k, pool_first) for part in x.split(256)])

        metadata = {
            "words": CLASSES,
            "activation": "relu" if k is None else "k-winners",
            "order": "conv pool activation" if pool_first else "conv activation pool",
            "mean": mean,
            "std": std,
            "mel": {"rate": RATE, "frame": FRAME, "hop": HOP, "pad": PAD, "frames": FRAMES, "bands": BANDS}
            | {"fMin": F_MIN, "fMax": F_MAX, "floor": FLOOR, "window": "hann"},
        }
        if k is not None:
            metadata["k"] = k
        if kind != "dense":
            metadata["format"] = {f"{name}.weight": {"blockRows": BLOCK, "overlay": n} for name, n in OVERLAY.items()}
        arrays = {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
        arrays["mel_filters"] = FILTERBANK.astype(np.float32)
        write_safetensors(arguments.target / f"{kind}.safetensors", arrays, metadata)

        # What the folded network says in float64: both float32 programs should be near it.
        double = {name: tensor.double() for name, tensor in tensors.items()}
        x = torch.from_numpy((features - mean) / std).unsqueeze(1)
        parity[f"logits.{kind}"] = run_folded(double, x, k, pool_first).float().numpy()
        parity["features"] = x.squeeze(1).float().numpy()
        drift = float(np.abs(logits(x.float()).numpy() - parity[f"logits.{kind}"]).max())

        stored = logits(to_input(test, mean, std))
        precise = logits(torch.from_numpy((exact - np.float32(mean)) / np.float32(std)).unsqueeze(1))
        weights = [tensor for name, tensor in tensors.items() if name.endswith("weight")]
        counts = sum(w.numel() for w in weights), sum(int(w.count_nonzero()) for w in weights)
        agree = 100 * (stored.argmax(1) == precise.argmax(1)).double().mean().item()
        rows.append((kind, accuracy(stored, labels), accuracy(precise, labels), agree, *counts, drift))

    quantisation = {"offset": OFFSET, "step": STEP, "mean": mean, "std": std, "words": CLASSES}
    test_tensors = {"features": test, "labels": labels.numpy().astype(np.uint8)}
    write_safetensors(arguments.target / "test-features.safetensors", test_tensors, quantisation)
    names = [f"{CLASSES[label]}.wav" for label in parity["labels"]]
    for name, audio in zip(names, clips["audio"]):
        write_wav(arguments.target / "clips" / name, audio)
    write_safetensors(arguments.target / "clips" / "expected.safetensors", parity, {"clips": names, "mean": mean, "std": std})

    print(f"\n{len(labels)} test clips: byte features, exact features, same answer; weights; float32 - float64 on the clips")
    for kind, stored, precise, agree, total, nonzero, drift in rows:
        print(f"{kind:15} {stored:6.2f}% {precise:6.2f}% {agree:6.2f}%  {total} weights, {nonzero} nonzero  {drift:.1e}")


if __name__ == "__main__":
    main()
