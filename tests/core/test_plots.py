# Licensed under a 3-clause BSD style license - see LICENSE.rst
import numpy as np
import pytest
from matplotlib.figure import Figure

from galml.core.plots import count_numbers, draw_beam, draw_scale


@pytest.fixture
def panel():
    panel = Figure().subplots()
    panel.imshow(np.zeros((40, 60)), origin="lower")
    return panel


def of_kind(panel, gid):
    return [artist for artist in panel.get_children() if artist.get_gid() == gid]


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_galaxies_are_whole(count):
    panel = Figure().subplots()
    count_numbers(panel, np.full(count, 0.5), np.linspace(0, 1, 11), color="0.6")
    ticks = panel.get_yticks()
    assert (ticks == ticks.round()).all() and len(ticks) > 1


@pytest.mark.parametrize(
    ("scale", "label", "share"),
    [(0.2, "2″", 1 / 6), (1.0, "20″", 1 / 3), (5, "1′", 0.2)],
)
def test_scale_bars_are_round(panel, scale, label, share):
    draw_scale(panel, scale)
    (bar,) = of_kind(panel, "scale")
    assert np.ptp(bar.get_xdata()) == pytest.approx(share)
    assert [text.get_text() for text in panel.texts] == [label]


def test_what_is_not_known_is_not_drawn(panel):
    draw_scale(panel, np.nan)
    draw_beam(panel, np.nan)
    assert not panel.texts and not panel.lines and not panel.patches


@pytest.mark.parametrize("fwhm", [0.5, 4, 15])
@pytest.mark.parametrize("corner", ["left", "right"])
def test_beams_are_in_their_corner(panel, fwhm, corner):
    draw_beam(panel, fwhm, corner)
    (beam,) = of_kind(panel, "beam")
    x, y = beam.center
    assert beam.radius == fwhm / 2
    assert (x < 30) == (corner == "left") and y < 20
    for place, (low, high) in ((x, panel.get_xlim()), (y, panel.get_ylim())):
        assert low < place - beam.radius and place + beam.radius < high
