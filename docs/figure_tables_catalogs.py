# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The tables of `figure_tables` that are about catalogs at scale."""

SPEED = {
    "rate": ("galaxies per second", ".0f"),
    "ratio": ("over the loop", ".2f"),
    "processor_ratio": ("by time of the processor", ".2f"),
    "ms_per_galaxy": ("processor, ms per galaxy", ".1f"),
}
MEMORY = {
    "computed": ("computed", ".0f"),
    "worker_at_start_mb": ("a worker at its start, MB", ".0f"),
    "worker_mb": ("its peak, MB", ".0f"),
    "driver_mb": ("the process that asks, MB", ".0f"),
}
LENGTHS = {
    "partitions": ("partitions", ".0f"),
    "seconds": ("seconds of the processor", ".1f"),
    "microseconds": ("µs per row", ".0f"),
    "one_missing": ("one partition missing, s", ".1f"),
    "resumed": ("none missing, s", ".2f"),
}
PLAN = {"value": ("", "s")}


def speed(results):
    """Two workers and one against a loop in one process."""
    turns = results["turns"]
    worst = max(turns["largest_difference"].values())
    same = "the same" if turns["same_flags"] and turns["same_order"] else "others"
    note = (
        f"{turns['galaxies']} galaxies in three bands, {turns['turns']} turns, medians "
        f"of the ratios of each; one thread per process on {results['cores']} "
        f"processors, while the load of the machine was {turns['load']:.0f}. Where "
        "others compute, too, two processes get more of a machine than one does, and "
        "times of the processor scatter: on a free machine two workers cannot reach "
        f"more than 2. The largest difference of a number from the loop is {worst:.0e};"
        f" order and flags are {same}."
    )
    return SPEED, turns["rows"], note


def memory(results):
    """Peaks of memory against the length of the catalog."""
    rows = {f"{row['rows']:,} galaxies": row for row in results["memory"]}
    note = (
        f"Two workers with a limit of {results['memory_limit']} each, "
        f"{results['partition']} rows in a partition. Where fewer are computed than "
        "there are, the run was stopped after a time."
    )
    return MEMORY, rows, note


def lengths(results):
    """What remains where no pixel is read and no network asked."""
    rows = {
        f"{row['rows']:,} galaxies": row
        | {"microseconds": 1e6 * row["seconds"] / row["rows"]}
        for row in results["lengths"]
    }
    hats, empty = results["hats"], results["ms_per_partition"]
    note = (
        f"One process, {results['tiles']} tiles, of each of which the index takes "
        f"{results['ms_per_tile']:.0f} ms. A partition in which there is nothing to do "
        f"takes {empty['one process']:.1f} ms in one process, and "
        f"{empty['two workers']:.0f} ms of all processes together with two workers. A "
        f"HATS catalog of {hats['rows']:,} galaxies in {hats['partitions']} "
        f"partitions, read and described by LSDB, takes "
        f"{hats['ms_per_partition']:.0f} ms for each, and {hats['resumed']:.2f} s in "
        "all where nothing is left to do."
    )
    return LENGTHS, rows, note


def plan(results):
    """A thousand million galaxies."""
    rows = {
        "galaxies": f"{results['galaxies']:,}",
        "cost of a galaxy, measured": f"{results['ms_per_galaxy']:.1f} ms of a core",
        "cores": f"{results['cores']}",
        "time of the cores": f"{results['core_hours']:.0f} hours",
        "time": f"{results['hours']:.1f} hours",
        "partitions": f"{results['partitions']} of {results['partition_rows']:,} rows",
        "time of a partition": f"{results['minutes_per_partition']:.0f} minutes",
        "cost of partitions as such": f"{results['bookkeeping_hours']:.2f} hours",
        "memory of a worker, measured": (
            f"{results['worker_gb']:.1f} GB, with {results['measured_partition']} rows "
            "in a partition"
        ),
        "pixels read": f"{results['images_tb']:.0f} TB",
        "network, from disks to workers": f"{results['images_gb_per_s']:.1f} GB/s",
        "catalog": f"{results['catalog_gb']:.0f} GB",
        "results": f"{results['results_gb']:.0f} GB",
        "failures, assumed": (
            f"one in {results['hours_between_failures']} hours of a worker: "
            f"{results['failures']:.0f} in all"
        ),
        "work lost by these": f"{results['lost']:.1%}",
    }
    return PLAN, {name: {"value": text} for name, text in rows.items()}, ""


CATALOG_TABLES = {
    "catalogs/streaming": speed,
    "catalogs/streaming memory": memory,
    "catalogs/bookkeeping": lengths,
    "catalogs/plan": plan,
}
