# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Operations on an accelerator, as ratios.

    python benchmarks/accelerator_speed.py [--device cuda] [--objects 4096]

End to end, from arrays to the table, against the bare network (its views included) on
tensors that lie on the device already, in the same precision; and the largest
difference of the answers from those of the CPU. All take turns; medians count.
"""

import argparse
import time

import numpy as np
import torch
from common import write_figures
from spin_speed import cutouts

import galml
from galml.core.domain import find_domain
from galml.core.inference import to_device
from galml.core.running import chunks
from galml.core.weights import load_model
from galml.mocks import gas_maps

SEED, BATCH = 1120, 512
#: Column of each operation whose answers are compared.
COLUMNS = {"circularity": "circularity", "spin": "spin"}


def velocity_maps(count):
    """Make maps of 48 pixels a side, as one array with a unit; they repeat."""
    maps, first = [], 0
    while sum(map(len, maps)) < min(count, 1024):
        for _, batch in gas_maps(1, seed=SEED, first=first):
            if batch.velocity.shape[-1] == 48:
                maps.append(batch.velocity.numpy())
        first += 1
    maps = np.concatenate(maps)
    return maps[np.arange(count) % len(maps)]


def prepared_batches(operation, data, options, device):
    """Prepare all objects and put them on the device."""
    domain = find_domain(load_model("default", operation))
    source = domain.read(data, **options)
    parts = [prepared.inputs for *_, prepared in chunks(domain, source, [])]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    count = len(next(iter(joined.values())))
    return domain, [
        to_device({k: v[i : i + BATCH] for k, v in joined.items()}, device)
        for i in range(0, count, BATCH)
    ]


def wait_for(device):
    """Wait until all work of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare(network, batches, views, device, dtype):
    """Run a network in all its views on tensors that are there."""
    with (
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        for batch in batches:
            for view in views:
                network(view.apply(batch))
    wait_for(device)


def measure(operation, data, options, device, dtype, repeats):
    """Time both ways, and compare the answers with those of the CPU."""
    domain, batches = prepared_batches(operation, data, options, device)
    network = domain.model.network.to(device)
    function = getattr(galml, operation)
    keywords = {"dtype": dtype, "batch_size": BATCH, **options}
    ways = {
        "end to end": lambda: function(data, device=str(device), **keywords),
        "bare network": lambda: bare(network, batches, domain.views, device, dtype),
    }
    seconds = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            result = way()
            seconds[name].append(time.perf_counter() - start)
            if name == "end to end":
                table = result
    # The first turn warms up.
    medians = {name: float(np.median(s[1:])) for name, s in seconds.items()}
    network.to("cpu")
    column = COLUMNS[operation]
    on_cpu = function(data, device="cpu", **options)[column]
    difference = np.nanmax(np.abs(np.asarray(table[column]) - np.asarray(on_cpu)))
    return {
        "objects_per_second": len(table) / medians["end to end"],
        "over_bare_network": medians["end to end"] / medians["bare network"],
        "largest_difference_from_cpu": float(difference),
    }


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--objects", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    device = torch.device(args.device)
    cases = {
        "circularity": (velocity_maps(args.objects), {"unit": "km/s"}),
        "spin": (cutouts(args.objects), {}),
    }
    rows = {}
    for operation, (data, options) in cases.items():
        for dtype in ("float32", "bfloat16"):
            row = measure(operation, data, options, device, dtype, args.repeats)
            rows[f"{operation}, {dtype}"] = row
            print(
                f"{operation}, {dtype}: {row['objects_per_second']:.0f} objects/s, "
                f"{row['over_bare_network']:.2f} x the bare network, "
                f"{row['largest_difference_from_cpu']:.1e} from the CPU"
            )
    if device.type != "cpu":
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "MPS"
        write_figures("accelerator_speed", {"rows": rows, "device": name})


if __name__ == "__main__":
    main()
