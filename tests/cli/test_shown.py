# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What a person is shown: tables in a terminal, and the truth of the demo."""

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.table import QTable

import galml
from galml import cli
from galml.cli import demo
from galml.cli import output as outputs
from galml.core.flags import Flag


def test_terminal_gets_a_short_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    flags = [0, int(Flag.FAILED | Flag.UNREADABLE)]
    table = QTable(
        {
            "file": ["maps/a.fits", "maps/b.fits"],
            "name": ["a", "b"],
            "circularity": [0.912345, np.nan],
            "circularity_err": [0.1, np.nan],
            "circularity_lo": [0.8, np.nan],
            "a_number_that_is_not_an_estimate": [0.5, np.nan],
            "position_angle": [12.34, np.nan] * u.deg,
            "position_angle_err": [1.26, np.nan] * u.deg,
            "latent": np.ones((2, 3)),
            "flags": flags,
        }
    )
    outputs.show(table, short=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "circularity", "position_angle", "flags"]
    assert lines[1].split() == ["deg"]
    assert lines[3].split() == ["a", "0.912", "±", "0.100", "12.3", "±", "1.3"]
    assert lines[4].split() == ["b", "nan", "nan", "failed", "unreadable"]
    assert max(map(len, lines)) <= 70
    outputs.show(table)
    assert "a_number_that_is_not_an_estimate" in capsys.readouterr().out


def test_answers_stay_where_a_terminal_is_narrow(capsys, monkeypatch):
    """Places go first, then numbers without an error; flags are cut short."""
    table = QTable({"name": ["NGC 1", "NGC 22"], "ra": [1.0, 2.0], "dec": [3.0, 4.0]})
    table["redshift"], table["mass"] = [0.1, 0.2], [1.5, 2.5]
    table["mass_err"], table["quality"] = [0.1, 0.2], [True, False]
    table["flags"] = [int(Flag.FAILED | Flag.LOW_SNR | Flag.NO_UNIT), 0]
    seen = {}
    for columns in (200, 60, 45, 30):
        monkeypatch.setenv("COLUMNS", str(columns))
        outputs.show(table, short=True)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns
        seen[columns] = lines[0].split(), lines[2].split()
    assert seen[200][0] == ["name", "ra", "dec", "redshift", "mass", "quality", "flags"]
    assert "ra" not in seen[60][0] and "dec" not in seen[60][0]
    assert {"name", "mass", "flags"} <= set(seen[45][0])
    assert seen[30][0] == ["name", "mass", "flags"] and seen[30][1][-1].endswith("…")


def test_the_demo_tells_the_truth(tmp_path, capsys):
    """Of each mock galaxy, as its header has it; of a field in three bands once."""
    commands = []

    def main(arguments):
        commands.append(arguments[0])
        return 0

    assert demo.run(main, tmp_path) == 0
    assert {"circularity", "spin", "merger", "stars"} <= set(commands)
    lines = capsys.readouterr().out.splitlines()
    truths = [line for line in lines if line.startswith("Truth of ")]
    for path in sorted(demo.EXAMPLES.glob("mock-*.fits")):
        cards = fits.getheader(path)
        expected = f"KAPPA {cards['KAPPA']}"
        (line,) = [one for one in truths if one.startswith(f"Truth of {path.name}:")]
        assert expected in line and f"PA {cards['PA']}" in line
    (line,) = {one for one in truths if "SPIN1" in one}
    cards = fits.getheader(demo.EXAMPLES / "field-g.fits")
    for number in range(1, 10):
        assert f"SPIN{number} {cards[f'SPIN{number}']}" in line
    assert sum("SPIN1 " in one for one in truths) == commands.count("spin")
    assert any("STAGE" in one and "CONTAM" in one for one in truths)


def test_the_demo_tells_the_truth_in_the_order_of_its_rows(tmp_path, capsys):
    def main(arguments):
        return cli.main(arguments) if arguments[0] == "spin" else 0

    assert demo.run(main, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [one for one in lines if one.startswith("Truth of field")]
    truth = [float(one.split()[1]) for one in line.partition(": ")[2].split(", ")]
    found = QTable.read(tmp_path / "spin.ecsv")
    assert len(truth) == 9
    assert (np.abs(found["spin"] - truth) < 2 * found["spin_err"]).all()


def test_models(monkeypatch, capsys):
    table = QTable({"name": ["the model"], "size": [1] * u.kB})
    monkeypatch.setitem(vars(galml), "list_models", lambda: table)
    assert cli.main(["models"]) == 0
    assert "the model" in capsys.readouterr().out
