# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What `galml.catalogs` costs beside the operation: long catalogs, and HATS.

    python benchmarks/catalogs/bookkeeping.py [--folder DIR] [--rows 10000000]

Where no pixel is read and no network asked, all that is left is to read the catalog,
to find the tiles, to plan, to write and to resume. Runs of four lengths, each about
three times the one before, tell whether that grows faster than the catalog. Times are
those of the processors, and of one process where nothing else is said.
"""

import argparse
import shutil
from pathlib import Path
from sys import path as search_path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable
from astropy.wcs import WCS

search_path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import write_figures
from streaming import cluster, processor_time

from galml import catalogs
from galml.catalogs import work
from galml.catalogs.dataset import DONE, Dataset
from galml.core.domain import Operation, register

#: Tiles along a side of the survey, and side of a tile (degrees).
SIDE, WIDTH = 20, 0.2
HATS_ROWS, HATS_PARTITIONS, SMALL_PARTITIONS = 100_000, 12, 200


def nothing(catalog):
    """Give every galaxy the answer that nothing is known of it."""
    return QTable({"flags": np.zeros(len(catalog), int)})


def prepare():
    """Make the operation known to this process."""
    search_path.insert(0, str(Path(__file__).resolve().parent))
    register(Operation(name="nothing", function="bookkeeping:nothing"))


def cut_nothing(job, galaxies, flags, told):
    """Stand in for cutouts and operation, in `galml.catalogs.work`."""
    table = galaxies.copy()
    table["flags"] = flags
    return table, {}


def write_tiles(folder):
    """Write files that have the headers of tiles, and hardly any pixels of these."""
    folder.mkdir(parents=True)
    for number in range(SIDE**2):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crpix = [1.5, 1.5]
        wcs.wcs.crval = [150 + WIDTH * (number % SIDE), WIDTH * (number // SIDE)]
        wcs.wcs.cdelt = [-WIDTH / 2, WIDTH / 2]
        header = wcs.to_header()
        header["BUNIT"], header["BAND"] = "nJy", "r"
        fits.writeto(folder / f"{number:05d}.fits", np.zeros((2, 2), "f4"), header)


def write_catalog(path, rows):
    """Write galaxies all over the survey, in an order such as surveys have."""
    rng = np.random.default_rng(rows)
    ra, dec = WIDTH * (SIDE - 1) * rng.uniform(size=(2, rows))
    order = np.lexsort([ra, np.floor(dec / WIDTH)])
    table = QTable({"id": np.arange(rows), "ra": (150 + ra[order]) * u.deg})
    table["dec"] = dec[order] * u.deg
    table["r_eff"] = rng.uniform(1, 3, rows) * u.arcsec
    table.write(path, format="parquet")


def timed(function, *arguments, client=None, **keywords):
    """Give the seconds that processors spend on a call, which others do not disturb."""

    def spent():
        return processor_time(None) + (processor_time(client) if client else 0)

    start = spent()
    function(*arguments, **keywords)
    return spent() - start


def of_length(folder, tiles, rows):
    """Time a run, one that finds all done, and one that was killed near its end."""
    catalog, output = folder / f"{rows}.parquet", folder / f"run {rows}"
    write_catalog(catalog, rows)

    def run():
        catalogs.run("spin", catalog, images=tiles, output=output, scheduler="none")

    row = {"rows": rows, "seconds": timed(run), "resumed": timed(run)}
    number = max(Dataset(output).done())
    (output / DONE / f"{number:07d}.json").unlink()
    Dataset(output).group(number).unlink()
    row["one_missing"] = timed(run)
    row["partitions"] = number + 1
    catalog.unlink()
    shutil.rmtree(output)
    print(row)
    return row


def of_partitions(folder):
    """Time partitions in which nothing is to be done, here and on two workers."""
    from distributed import Client

    table = QTable({"id": np.arange(SMALL_PARTITIONS)})
    figures = {}
    with cluster(2) as workers, Client(workers) as client:
        client.run(prepare)
        for name, one in {"one process": None, "two workers": client}.items():
            for turn in ("first", "second"):
                seconds = timed(
                    catalogs.run,
                    "nothing",
                    table,
                    output=folder / f"{name} {turn}",
                    partition_size=1,
                    scheduler=one or "none",
                    client=one,
                )
            figures[name] = 1e3 * seconds / SMALL_PARTITIONS
    print(figures)
    return figures


def of_hats(folder):
    """Time a HATS catalog, partition by partition, and read the result as one."""
    import lsdb
    import pandas

    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "id": np.arange(HATS_ROWS),
            "ra": rng.uniform(0, 360, HATS_ROWS),
            "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, HATS_ROWS))),
        }
    )
    made = lsdb.from_dataframe(
        frame, catalog_name="galaxies", highest_order=0, partition_rows=HATS_ROWS
    )
    made.write_catalog(folder / "galaxies")
    output = folder / "hats run"
    seconds = timed(
        catalogs.run, "nothing", folder / "galaxies", output=output, scheduler="none"
    )
    again = timed(
        catalogs.run, "nothing", folder / "galaxies", output=output, scheduler="none"
    )
    found = lsdb.open_catalog(output)
    figures = {
        "rows": len(found.compute()),
        "partitions": found.npartitions,
        "seconds": seconds,
        "resumed": again,
        "ms_per_partition": 1e3 * seconds / found.npartitions,
    }
    if figures["partitions"] != HATS_PARTITIONS or figures["rows"] != HATS_ROWS:
        raise SystemExit(f"the HATS catalog is not as planned: {figures}")
    print(figures)
    return figures


def main():
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("standin-catalogs"))
    parser.add_argument("--rows", type=int, default=10_000_000)
    args = parser.parse_args()
    if args.folder.exists():
        raise SystemExit(f"{args.folder} exists")
    prepare()
    write_tiles(args.folder / "tiles")
    pattern = str(args.folder / "tiles" / "*.fits")
    indexed = timed(catalogs.index, pattern)
    tiles = catalogs.index(pattern)
    figures = {
        "tiles": len(tiles),
        "ms_per_tile": 1e3 * indexed / len(tiles),
        "ms_per_partition": of_partitions(args.folder),
        "hats": of_hats(args.folder),
    }
    work._cut = cut_nothing
    # What a run has kept until its end is there when it is killed near it.
    Dataset.forget_groups = lambda dataset: None
    figures["lengths"] = [
        of_length(args.folder, tiles, args.rows // share) for share in (30, 10, 3, 1)
    ]
    shutil.rmtree(args.folder)
    write_figures("catalogs/bookkeeping", figures)


if __name__ == "__main__":
    main()
