"""Makes the data set: words spoken by espeak-ng, noise, and the log-mel features of both.

Every random choice is drawn from a generator seeded by (SEED, split, voice or clip), so neither the number of
processes nor their order changes the result.
"""

import argparse
import multiprocessing
import subprocess
import time
import wave
from io import BytesIO
from pathlib import Path

import numpy as np

SEED = 20211227
RATE = 16000

WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
UNKNOWN, SILENCE = 10, 11
CLASSES = [*WORDS, "unknown", "silence"]
OTHER_WORDS = (
    "bed bird cat dog eight five four happy house marvin nine one seven sheila six three tree two wow zero backward "
    "forward follow learn visual red blue green light music people water window morning today never hello please"
).split()

# "en" is British; under its other name, en-gb, espeak-ng ignores the variant.
ACCENTS = "en en-us en-029 en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd".split()
# A voice is an accent and a variant (the speaker). Variants are split, and alike ones (steph, steph2, steph3) stay
# together: no speaker of the test set was ever heard. Left out are robots, whispers, echoes, the far-fetched throats zac,
# travis and Marco (which a first network told worst) and kaukovalta, and duplicates: Hugo, michel and the later klatts
# have a training speaker's formants and differ from it in the lines `tone` or `klatt` of their files only.
SPEAKERS = {
    "train": (
        "m1 m2 m3 m4 m5 m6 f1 f2 f3 klatt klatt2 klatt3 Alex Alicia Andy Annie Denis Diogo Gene Gene2 Henrique Jacky "
        "Lee Michael Mike Storm adam anika antonio belinda benjamin boris ed grandma grandpa gustave iven iven2 iven3 "
        "iven4 john linda marcelo max miguel norbert pablo paul quincy robert rob edward edward2 steph steph2 steph3"
    ).split(),
    "validation": "m7 f4 Mario aunty".split(),
    "test": "m8 f5 Andrea Nguyen announcer david pedro sandro shelby victor".split(),
}
# Per voice: utterances of each word, of other words, and clips of noise alone.
COUNTS = {"train": (3, 6, 4), "validation": (2, 2, 2), "test": (2, 2, 2)}
# How many clips, with different noise and shifts, each utterance makes.
COPIES = {"train": 2, "validation": 1, "test": 1}
SNR_DB = (10.0, 30.0)
# Training utterances are played up to this much slower or faster: it moves pitch and formants as other throats would.
STRETCH = 0.15

# Features. 448 zeros before and 448 after the 16000 samples: frame t is samples 512 t - 448 ... 512 t + 575.
FRAME, HOP, PAD, FRAMES, BANDS = 1024, 512, 448, 32, 32
F_MIN, F_MAX, FLOOR = 20.0, 8000.0, 1e-6
# Stored features are bytes, log-mel = OFFSET + STEP q. A step is 0.4 dB, less than the ear resolves.
OFFSET, STEP = -14.0, 0.1


def mel_filterbank() -> np.ndarray:
    """Triangles of peak 1, evenly spaced on the HTK mel scale: [BANDS, FRAME / 2 + 1], float64."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (F_MIN, F_MAX))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.arange(FRAME // 2 + 1) * RATE / FRAME
    left, centre, right = (edges[i : i + BANDS, None] for i in range(3))
    return np.maximum(0, np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)))


FILTERBANK = mel_filterbank()
WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)


def log_mel(clip: np.ndarray) -> np.ndarray:
    """[16000] int16 -> [FRAMES, BANDS] float64: ln(filterbank . |rfft(hann . frame)|^2 + 1e-6), full scale is 1."""
    padded = np.pad(clip / 32768, PAD)
    frames = np.stack([padded[t * HOP : t * HOP + FRAME] for t in range(FRAMES)])
    return np.log(np.abs(np.fft.rfft(frames * WINDOW)) ** 2 @ FILTERBANK.T + FLOOR)


def quantise(features: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((features - OFFSET) / STEP), 0, 255).astype(np.uint8)


def dequantise(q: np.ndarray) -> np.ndarray:
    return (OFFSET + STEP * q.astype(np.float64)).astype(np.float32)


def speak(voice: str, text: str, speed: int, pitch: int, stretch: float) -> np.ndarray:
    """The utterance at 16 kHz without the silence around it, active RMS 1, float32."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    with wave.open(BytesIO(output)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (22050, 1, 2)
    x = np.frombuffer(output[44:], "<i2").astype(np.float64)
    x = np.fft.irfft(np.fft.rfft(x), round(len(x) * RATE / 22050 * stretch))  # resampled by cutting the spectrum
    loud = np.flatnonzero(np.abs(x) > 0.02 * np.abs(x).max())
    x = x[loud[0] : loud[-1] + 1]
    active = x[np.abs(x) > 0.1 * np.abs(x).max()]
    return (x / np.sqrt(np.mean(active**2))).astype(np.float32)


def utterances(task: tuple[str, int]) -> list[tuple[int, np.ndarray]]:
    """All that one voice says: (class, samples)."""
    split, index = task
    variants = SPEAKERS[split]
    voice = f"{ACCENTS[index // len(variants)]}+{variants[index % len(variants)]}"
    rng = np.random.default_rng([SEED, list(SPEAKERS).index(split), index])
    each, others, _ = COUNTS[split]
    texts = [(label, word) for label, word in enumerate(WORDS) for _ in range(each)]
    texts += [(UNKNOWN, str(word)) for word in rng.choice(OTHER_WORDS, others, replace=False)]
    said = []
    for label, word in texts:
        # Punctuation changes the melody.
        text = word + str(rng.choice([".", "?", "!", ","]))
        speed, pitch = int(rng.integers(120, 221)), int(rng.integers(25, 76))
        stretch = float(np.exp(rng.uniform(-STRETCH, STRETCH))) if split == "train" else 1.0
        said.append((label, speak(voice, text, speed, pitch, stretch)))
    return said


def noise(rng: np.random.Generator, kind: str, said: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """One second of noise, RMS 1."""
    if kind == "white":
        x = rng.standard_normal(RATE)
    elif kind == "pink":
        spectrum = np.fft.rfft(rng.standard_normal(RATE))
        x = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)))
    elif kind == "hum":
        time_axis = np.arange(RATE) / RATE
        mains = rng.choice([50, 60])
        x = 0.05 * rng.standard_normal(RATE)
        for harmonic in range(1, 12):
            phase, level = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) / harmonic
            x += level * np.sin(2 * np.pi * mains * harmonic * time_axis + phase)
    else:
        x = np.zeros(RATE)
        for i in rng.integers(0, len(said), 8):
            other = np.resize(said[i][1], RATE)
            x += rng.uniform(0.5, 1) * np.roll(other, rng.integers(RATE))
    return x / np.sqrt(np.mean(x**2))


def clip(split: str, number: int, label: int, speech: np.ndarray | None, said: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """One second of noise with or without an utterance somewhere in it, [16000] int16."""
    rng = np.random.default_rng([SEED, 100 + list(SPEAKERS).index(split), number])
    kind = str(rng.choice(["white", "pink", "hum", "babble"]))
    snr = rng.uniform(*SNR_DB)
    if kind == "babble":
        snr = max(snr, 18.0)  # below that it is no longer clear which voice is meant
    x = 10 ** (-snr / 20) * noise(rng, kind, said)
    if label != SILENCE and speech is not None:
        if len(speech) > RATE:
            speech = speech[:RATE]
        start = rng.integers(0, RATE - len(speech) + 1)
        x[start : start + len(speech)] += speech
        level = 10 ** (-rng.uniform(1, 20) / 20) / np.abs(x).max()
    else:
        level = 10 ** (-rng.uniform(6, 50) / 20) / np.abs(x).max()
    return np.rint(32767 * level * x).astype(np.int16)


def plan(split: str, said: list[tuple[int, np.ndarray]]) -> list[tuple[int, np.ndarray | None]]:
    voices = len(ACCENTS) * len(SPEAKERS[split])
    silent: list[tuple[int, np.ndarray | None]] = [(SILENCE, None)] * (voices * COUNTS[split][2])
    return (said + silent) * COPIES[split]


_shared: tuple[str, list, list]  # read by forked workers, so that the utterances are not sent to them


def clip_features(number: int) -> np.ndarray:
    split, said, clips = _shared
    return log_mel(clip(split, number, *clips[number], said)).astype(np.float32)


def make(split: str, folder: Path, jobs: int) -> None:
    global _shared
    start = time.time()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        tasks = [(split, i) for i in range(len(ACCENTS) * len(SPEAKERS[split]))]
        said = [utterance for voice in pool.map(utterances, tasks, 4) for utterance in voice]
    clips = plan(split, said)
    _shared = (split, said, clips)
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        features = np.stack(pool.map(clip_features, range(len(clips)), 64))
    labels = np.array([label for label, _ in clips], np.uint8)
    np.savez(folder / f"{split}.npz", features=quantise(features), labels=labels)
    if split == "test":
        # Exact features and one clip of each class: what the JavaScript side is compared with.
        np.save(folder / "test-float32.npy", features)
        order = np.random.default_rng(SEED).permutation(len(clips))
        chosen = [next(int(i) for i in order if labels[i] == label) for label in range(len(CLASSES))]
        np.savez(folder / "clips.npz", number=chosen, audio=np.stack([clip(split, i, *clips[i], said) for i in chosen]))
    print(f"{split}: {len(tasks)} voices, {len(said)} utterances, {len(clips)} clips, {time.time() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the features go (about 50 MB)")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split in ("test", "validation", "train"):
        make(split, arguments.folder, arguments.jobs)


if __name__ == "__main__":
    main()
