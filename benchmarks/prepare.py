"""Preparation of many small JPEGs: its rate against a bare parallel loop, its memory, and what a
kill -9 half way costs.

    python -m benchmarks.prepare DIR [--images 300000] [--rounds 5] [--json FILE]

DIR takes the images (made by seed where they are not there yet) and the run directories. Both sides
run as commands of their own, imports included, on all cores, alternating, on the first tenth of the
images.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import ratios

SIZE, MADE = 64, 96
CATEGORIES = 10
ADVREC = [sys.executable, "-m", "advrec.cli"]

BARE = """
import io, multiprocessing, os, sys
import numpy as np
from imagededup.methods import PHash
from PIL import Image, ImageOps

hasher = PHash(verbose=False)

def one(path):
    with Image.open(path) as image:
        image = image.convert("RGB")
    hasher.encode_image(image_array=np.asarray(image))
    buffer = io.BytesIO()
    square = ImageOps.pad(
        image, (SIZE, SIZE), method=Image.Resampling.BICUBIC, color="white"
    )
    square.save(buffer, "PNG", compress_level=1)
    return len(buffer.getvalue())

if __name__ == "__main__":
    paths = sorted(
        os.path.join(place, name) for place, _, names in os.walk(sys.argv[1]) for name in names
    )
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        print(sum(1 for _ in pool.imap_unordered(one, paths, chunksize=64)))
""".replace("SIZE", str(SIZE))


def make(arguments: tuple[Path, int, int]) -> None:
    root, start, stop = arguments
    for n in range(start, stop):
        path = root / f"category{n % CATEGORIES}" / f"{n:06d}.jpg"
        if not path.exists():
            blocks = np.random.default_rng(n).integers(0, 255, (12, 12, 3), dtype=np.uint8)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(blocks).resize((MADE, MADE), Image.Resampling.BICUBIC).save(
                path, quality=90
            )


def photographs(root: Path, images: int) -> Path:
    with multiprocessing.Pool() as pool:
        pool.map(
            make, [(root, start, min(start + 1000, images)) for start in range(0, images, 1000)]
        )
    return root


def study(directory: Path, root: Path) -> Path:
    path = directory / f"{root.name}.yaml"
    path.write_text(
        f"name: {root.name}\ncatalog: {{source: folder, root: {root}, image_size: {SIZE}}}\n"
        "models: {m: {defense: none}}\nevaluation: {attacks: [fgsm]}\n"
    )
    return path


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds of a command, and what it wrote to its error stream, where progress goes."""
    start = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.monotonic() - start, done.stderr


def memory(pid: int) -> float:
    """Resident memory of a process in MiB, what it shares with others included."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0


def workers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Preparer"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def watched(command: list[str], run: Path, kill_at: int | None = None) -> dict[str, object]:
    """Run a command; sample memory; kill it with -9 once `kill_at` shards are done."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    driver: list[float] = []
    worker, peak_shards, killed = 0.0, 0, False
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(process.stdout or ()))
    reader.start()
    start = time.monotonic()
    while process.poll() is None:
        shards = sum(1 for _ in run.glob("prepared/shard-*.parquet"))
        peak_shards = max(peak_shards, shards)
        driver.append(memory(process.pid))
        worker = max([worker, *map(memory, workers())])
        if kill_at is not None and shards >= kill_at:
            process.send_signal(signal.SIGKILL)
            killed = True
            kill_at = None
        time.sleep(1)
    reader.join()
    tenths = [round(driver[len(driver) * place // 10]) for place in range(10)]
    done = sum(1 for _ in run.glob("prepared/shard-*.parquet"))
    return {
        "seconds": round(time.monotonic() - start),
        "killed": killed,
        "shards left": done,
        "driver MiB, at each tenth of the time": tenths,
        "driver MiB, most": round(max(driver)),
        "worker MiB, most": round(worker),
        "output": [line.strip() for line in output][-6:],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the ratios")
    parsed = parser.parse_args()
    directory = parsed.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    tenth = photographs(directory / "tenth", parsed.images // 10)
    bare = directory / "bare.py"
    bare.write_text(BARE)
    rates: dict[str, list[float]] = {"bare loop": [], "preparing": [], "whole command": []}
    for turn in range(parsed.rounds):
        count = parsed.images // 10
        rates["bare loop"].append(count / timed([sys.executable, str(bare), str(tenth)])[0])
        out = directory / f"tenth-{turn}-{os.getpid()}"
        seconds, progress = timed(
            [*ADVREC, "prepare", str(study(directory, tenth)), "--out", str(out)]
        )
        rates["whole command"].append(count / seconds)
        rates["preparing"].append(
            float(progress.strip().splitlines()[-1].split(", ")[1].removesuffix(" images/s"))
        )
        print(
            json.dumps(
                {side: round(values[-1]) for side, values in rates.items()} | {"unit": "images/s"}
            ),
            flush=True,
        )
    sides = ("preparing", "bare loop"), ("whole command", "bare loop")
    ratios.write(parsed.json, ratios.pairs(rates, *sides))

    everything = photographs(directory / "all", parsed.images)
    command = [*ADVREC, "prepare", str(study(directory, everything))]
    runs = {name: directory / f"{name}-{os.getpid()}" for name in ("killed", "undisturbed")}
    half = parsed.images // 256 // 2
    for name, kill_at in (("killed", half), ("killed", None), ("undisturbed", None)):
        print(
            name,
            json.dumps(
                watched([*command, "--out", str(runs[name])], runs[name], kill_at), indent=1
            ),
            flush=True,
        )
    hashes = {
        name: json.loads((run / "preparation.json").read_text())["catalog_sha256"]
        for name, run in runs.items()
    }
    print(
        json.dumps(hashes, indent=1),
        "equal" if len(set(hashes.values())) == 1 else "DIFFERENT",
        flush=True,
    )


if __name__ == "__main__":
    main()
