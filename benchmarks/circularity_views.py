# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
What the symmetry views of the default model buy: accuracy with one, two and four.

    python benchmarks/circularity_views.py [--maps 20000]

Two views are the turned map and its mirror image, four also those from behind. Errors
of mocks are those that 68 % do not exceed, of maps with and without noise; position
angles of mocks count where the circularity is above 0.7, those of MaNGA (see
``circularity_manga.py``) on clean maps. Mirrored and reversed is by how much the
circularity changes, at 68 %, when a map is mirrored, or all its velocities change sign.
The time is that of the network alone.
"""

import argparse
import time
import warnings

import astropy.units as u
import numpy as np
from astropy.table import QTable
from circularity_manga import CLEAN, KNOWN, TRACERS, UNUSABLE, load, truths
from circularity_mocks import draw
from common import write_figures
from mock_answers import answer
from sklearn.metrics import roc_auc_score

from galml.core.domain import find_domain
from galml.core.exceptions import GalmlWarning
from galml.core.running import run
from galml.core.weights import load_model
from galml.gas_kinematics.kinematic import VIEWS
from galml.gas_kinematics.metrics import ROTATING, angle_error, scatter68

COUNTS = (1, 2, 4)
INPUTS = ("velocity", "with dispersion, beam, error")


def on_mocks(model, data, count):
    """Errors on mocks; angles are counted from the classical one."""
    start = time.process_time()
    table = answer(model, data, VIEWS[:count])
    seconds = time.process_time() - start
    kappa = data["kappa"].numpy()
    changes = {}
    for name, view in (("mirrored", VIEWS[1]), ("reversed", VIEWS[2])):
        other = answer(model, data | view.apply(data), VIEWS[:count])
        changes[name] = scatter68(other["circularity"] - table["circularity"])
    residual = np.degrees(data["residual_angle"].numpy())
    turn = angle_error(table["position_angle"], residual)
    return {
        "kappa_68": scatter68(table["circularity"] - kappa),
        "angle_68": scatter68(turn[kappa > ROTATING]),
        **changes,
        "processor_ms_per_map": 1e3 * seconds / len(kappa),
    }


def on_manga(model, count):
    """Errors and quality on observed maps."""
    velocity, labels = load()
    domain = find_domain(model)
    domain.views = VIEWS[:count]
    figures = {}
    for maps, tracer in zip(velocity, TRACERS, strict=True):
        truth, quality = truths(labels, tracer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GalmlWarning)  # some maps are empty
            table = run(domain, maps * u.km / u.s, KNOWN[tracer])
        error = angle_error(table["position_angle"], truth)
        shown = np.isfinite(maps).sum((1, 2)) >= 6
        judged = ((quality == CLEAN) | (quality == UNUSABLE)) & shown
        score = np.nan_to_num(table["map_quality"], nan=-1.0)
        figures[tracer] = {
            "angle_68": scatter68(error[(quality == CLEAN) & np.isfinite(error)]),
            "auc": float(roc_auc_score(quality[judged] == CLEAN, score[judged])),
        }
    return figures


def show(rows, names):
    """Print a table of figures."""
    table = QTable(rows=rows, names=names)
    for name in names[2:]:
        table[name].info.format = ".4f"
    table.pprint(max_lines=-1, max_width=-1)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=20_000)
    args = parser.parse_args()
    model = load_model("default", "circularity")
    figures, rows = {"maps": args.maps, "mocks": {}, "manga": {}}, []
    for key, data in draw(args.maps):
        if key not in INPUTS:
            continue
        found = {count: on_mocks(model, data, count) for count in COUNTS}
        figures["mocks"][key] = found
        rows += [(key, count, *row.values()) for count, row in found.items()]
    names = ("mocks", "views", "kappa 68%", "angle 68%", "mirrored", "reversed", "ms")
    show(rows, names)
    rows = []
    for count in COUNTS:
        found = figures["manga"][count] = on_manga(model, count)
        rows += [(tracer, count, *row.values()) for tracer, row in found.items()]
    show(rows, ("MaNGA", "views", "angle 68%", "auc"))
    write_figures("circularity_views", figures)


if __name__ == "__main__":
    main()
