# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Catalogs of any length through `galml.spin`: memory, speed, and the same answers.

    python benchmarks/catalogs/streaming.py [--folder DIR] [--turns 5] [--limit 120]
    python benchmarks/catalogs/streaming.py --longest [--folder DIR] [--limit 3600]

The images stand in for a survey (see ``standins.py``): tiles in g, r and i. One process
that cuts galaxies out and asks `galml.spin`, stack by stack, takes turns with
`galml.catalogs.run` on one worker and on two, each with one thread: ratios are those of
each turn, by the clock and by time of the processor, which other programs disturb less.
Peaks of memory are those of processes that were started for the purpose. The longest
catalog is stopped after a time; ``--longest`` takes it up again, and keeps the largest
peaks of all its runs.
"""

import argparse
import json
import os
import shutil
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from sys import path as search_path

import numpy as np
import torch
from astropy.table import QTable, vstack

search_path.insert(0, str(Path(__file__).resolve().parents[1]))

import standins
from common import RESULTS, write_figures

import galml
from galml import catalogs
from galml.catalogs.clusters import SETTINGS
from galml.cutouts import iter_cutouts
from galml.cutouts.targets import R_EFF

#: What a worker may use.
MEMORY_LIMIT = "2GB"
PARTITION = 256
#: Galaxies of a turn, and of the catalogs whose memory is measured.
TURN, SIZES, LONGEST = 4096, (1024, 4096, 16384), 1_000_000


def cluster(workers):
    """Start workers with one thread each."""
    import dask
    from distributed import LocalCluster

    with dask.config.set(SETTINGS):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT,
            dashboard_address="127.0.0.1:0",
        )


def bytes_of(paths, rows):
    """Give the bytes that files take for each row."""
    return sum(path.stat().st_size for path in paths) / rows


def peak_memory():
    """Largest resident memory of this process so far, in MB."""
    # Not that of `resource`, which begins with that of the process before exec.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def tiles_of(folder):
    """Files of each band."""
    return {
        band: sorted(map(str, folder.glob(f"{band}-*.fits"))) for band in standins.BANDS
    }


def write_catalog(path, galaxies, number):
    """Write a catalog in which the galaxies come again and again, tile by tile."""
    times = -(-number // len(galaxies))
    table = galaxies[np.repeat(np.arange(len(galaxies)), times)[:number]]
    table["id"] = np.arange(number)
    table.write(path, format="parquet", overwrite=True)


def plain_loop(catalog, folder):
    """Cut out and ask, as one writes it without `galml.catalogs`."""
    spec = galml.load_model("default", operation="spin").input_spec
    n_pixels = spec.parameters["wide_cells"]
    size = 2 * spec.half_width * n_pixels / max(spec.grid) * R_EFF
    stacks = iter_cutouts(tiles_of(folder), catalog, size=size, n_pixels=n_pixels)
    return vstack([galml.spin(stack) for stack in stacks], metadata_conflicts="silent")


def in_turns(folder, galaxies, turns):
    """Time the loop and the runs, and compare their answers."""
    from distributed import Client

    galaxies.write(folder / "turn.parquet", overwrite=True)
    tiles = catalogs.index(tiles_of(folder))
    ways = ("loop", "one worker", "two workers")
    times = {way: [] for way in ways}
    load = []
    with (
        cluster(1) as first,
        cluster(2) as second,
        Client(first) as one,
        Client(second) as two,
    ):
        clients = {"one worker": one, "two workers": two}
        for turn in range(turns + 1):
            load.append(os.getloadavg()[0])
            for way in ways:
                client = clients.get(way)
                output = folder / f"{way} {turn}"
                busy = processor_time(client)
                start = time.perf_counter()
                if client is None:
                    table = plain_loop(galaxies, folder)
                else:
                    catalogs.run(
                        "spin",
                        folder / "turn.parquet",
                        images=tiles,
                        output=output,
                        scheduler=client,
                        partition_size=PARTITION,
                    )
                seconds = time.perf_counter() - start
                times[way].append((seconds, processor_time(client) - busy))
    found = catalogs.read(folder / f"two workers {turns}")
    difference = {
        name: float(np.nanmax(np.abs(found[name] - table[name])))
        for name in ("spin", "spin_err", "ellipticity")
    }
    same_flags = bool((found["flags"] == table["flags"]).all())
    # The first turn warms up.
    times = {way: np.array(values[1:]) for way, values in times.items()}
    rows = {}
    for way, values in times.items():
        clock, processor = np.median(times["loop"] / values, axis=0)
        workers = 2 if way == "two workers" else 1
        rows[way] = {
            "rate": len(galaxies) / float(np.median(values[:, 0])),
            "ratio": float(clock),
            "processor_ratio": workers * float(processor),
            "ms_per_galaxy": 1e3 * float(np.median(values[:, 1])) / len(galaxies),
        }
        print(way, rows[way])
    return {
        "rows": rows,
        "galaxies": len(galaxies),
        "turns": turns,
        "load": float(np.median(load)),
        "largest_difference": difference,
        "same_flags": same_flags,
        "same_order": found["name"].tolist() == galaxies["id"].astype(str).tolist(),
    }


def processor_time(client):
    """Seconds that the processor has given to the workers, or to this process."""
    if client is None:
        return time.process_time()
    return sum(client.run(time.process_time).values())


def computed(output, number):
    """Count the galaxies of a run that are done."""
    patterns = ("part-*.parquet", "_groups/*.parquet")
    return min(max(len(list(output.glob(p))) for p in patterns) * PARTITION, number)


def one_run(folder, number, limit):
    """Carry out a run on two workers, for a time, and tell the peaks of memory."""
    from distributed import Client

    def stop(*_):
        raise KeyboardInterrupt

    output = folder / f"run {number}"
    there, start = computed(output, number), time.perf_counter()
    with cluster(2) as workers, Client(workers) as client:
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(limit)
        before = client.run(peak_memory)
        try:
            catalogs.run(
                "spin",
                folder / f"{number}.parquet",
                images=catalogs.index(tiles_of(folder)),
                output=output,
                scheduler=client,
                partition_size=PARTITION,
            )
        except KeyboardInterrupt:
            pass
        signal.alarm(0)
        seconds = time.perf_counter() - start
        done = computed(output, number)
        return {
            "rows": number,
            "computed": done,
            "rate": (done - there) / seconds,
            "driver_mb": peak_memory(),
            "worker_mb": max(client.run(peak_memory).values()),
            "worker_at_start_mb": max(before.values()),
        }


def measured(folder, galaxies, number, limit):
    """Measure the run of a catalog, in a process whose memory starts anew."""
    if not (catalog := folder / f"{number}.parquet").exists():
        write_catalog(catalog, galaxies, number)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        row = pool.submit(one_run, folder, number, limit).result()
    print(row)
    return row


def longest(folder, limit):
    """Go on with the longest catalog, and put it in place of what was measured."""
    if not (folder / "galaxies.ecsv").exists():
        standins.write_survey(folder, TURN // standins.SIDE**2).write(
            folder / "galaxies.ecsv"
        )
    peaks = folder / "peaks.json"
    row = measured(folder, QTable.read(folder / "galaxies.ecsv"), LONGEST, limit)
    before = json.loads(peaks.read_text()) if peaks.exists() else row
    row |= {key: max(row[key], before[key]) for key in row if key.endswith("_mb")}
    peaks.write_text(json.dumps(row))
    figures = json.loads((RESULTS / "catalogs" / "streaming.json").read_text())
    others = [one for one in figures["memory"] if one["rows"] != LONGEST]
    write_figures("catalogs/streaming", figures | {"memory": [*others, row]})


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("standin-survey"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--limit", type=int, default=120, help="seconds of the longest")
    parser.add_argument("--longest", action="store_true", help="go on with it alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.longest:
        longest(args.folder, args.limit)
        return
    if args.folder.exists():
        raise SystemExit(f"{args.folder} exists")
    per_tile = standins.SIDE**2
    galaxies = standins.write_survey(args.folder, TURN // per_tile)
    figures = {
        "cores": os.cpu_count(),
        "memory_limit": MEMORY_LIMIT,
        "partition": PARTITION,
        "galaxies_on_a_tile": per_tile,
        "turns": in_turns(args.folder, galaxies, args.turns),
        "bytes_of_images": bytes_of(args.folder.glob("*.fits"), len(galaxies)),
        "bytes_of_catalog": bytes_of([args.folder / "turn.parquet"], len(galaxies)),
        "bytes_of_results": bytes_of(
            args.folder.glob(f"two workers {args.turns}/part-*"), len(galaxies)
        ),
        "memory": [],
    }
    for number in (*SIZES, LONGEST):
        limit = args.limit if number == LONGEST else 3600
        figures["memory"].append(measured(args.folder, galaxies, number, limit))
    shutil.rmtree(args.folder)
    write_figures("catalogs/streaming", figures)


if __name__ == "__main__":
    main()
