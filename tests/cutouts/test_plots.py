# Licensed under a 3-clause BSD style license - see LICENSE.rst
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import QTable
from astropy.wcs import WCS

from galml.core.exceptions import InputError
from galml.cutouts import CutoutStack

# The look of lines and letters differs between versions of matplotlib and FreeType.
compared = pytest.mark.mpl_image_compare(
    baseline_dir=str(Path(__file__).parent / "baseline"),
    tolerance=10,
    savefig_kwargs={"dpi": 50},
    style="default",
)


def make_galaxies(turn=0.0):
    """Make four exponential disks in three bands, without noise."""
    y, x = np.mgrid[:48, :48] - 23.5
    images, wcs = [], []
    for k in range(4):
        angle = np.pi * k / 4
        along = x * np.cos(angle) + y * np.sin(angle)
        across = (y * np.cos(angle) - x * np.sin(angle)) / (1 - 0.2 * k)
        light = np.exp(-np.hypot(along, across) / (4 + 2 * k))
        images.append([300 * light ** (1 + 0.3 * band) for band in range(3)])
        wcs.append(WCS(naxis=2))
        wcs[-1].wcs.ctype, wcs[-1].wcs.crval = ("RA---TAN", "DEC--TAN"), (k, 30)
        wcs[-1].wcs.crpix = 24.5, 24.5
        c, s = np.cos(turn * k), np.sin(turn * k)
        wcs[-1].wcs.cd = 1e-4 * np.array([[-c, s], [s, c]])
    return CutoutStack(
        np.array(images) * u.nJy,
        bands=("g", "r", "i"),
        wcs=wcs,
        pixel_scale=0.36 * u.arcsec,
        catalog=QTable({"name": [f"galaxy {k}" for k in range(4)]}),
    )


@compared
def test_figure_of_colors():
    pytest.importorskip("matplotlib")
    return make_galaxies().plot(columns=2)


@compared
def test_figure_of_one_band_of_turned_images():
    pytest.importorskip("matplotlib")
    stack = make_galaxies(turn=0.8)
    return stack.plot(bands=["r"], columns=4, scales=(1, 1, 1), stretch=50, Q=4)


def test_plot(make_stack):
    figure_module = pytest.importorskip("matplotlib.figure")
    stack = make_stack(6, shape=(16, 16))
    stack.pixel_scale[5] = np.nan
    figure = figure_module.Figure()
    assert stack.plot(columns=4, figure=figure) is figure
    panels = [panel for panel in figure.axes if panel.axison]
    assert [panel.get_title() for panel in panels] == stack.names
    assert all(panel.images[0].get_array().shape == (16, 16, 3) for panel in panels)
    # A scale bar in each panel, directions where there is a WCS that is turned.
    bars = [line for p in panels for line in p.lines if line.get_gid() == "scale"]
    assert len(bars) == 5
    compass = [sum(text.get_gid() == "compass" for text in p.texts) for p in panels]
    assert compass == [0, 2, 2, 0, 2, 2]
    figure.canvas.draw()


def test_plot_says_where_north_is(make_wcs):
    pytest.importorskip("matplotlib")
    wcs = make_wcs(0)
    wcs.wcs.cd = [[-1e-4, 0], [0, 1e-4]]
    data = np.zeros((1, 1, 8, 8)) * u.nJy
    scale = 0.36 * u.arcsec
    stack = CutoutStack(data, bands=["r"], wcs=[wcs], pixel_scale=scale)
    assert stack.plot().get_supxlabel() == "north is up, east is left"
    wcs.wcs.cd = [[1e-4, 0], [0, 1e-4]]
    wcs.wcs.set()
    figure = stack.plot()
    assert figure.get_supxlabel() == ""
    # East is right in a mirror image.
    north, east = (text.get_position() for text in figure.axes[0].texts[-3::2])
    assert east[0] > north[0]


def test_scale_bar_is_as_long_as_it_says():
    pytest.importorskip("matplotlib")
    data = np.zeros((1, 1, 50, 50)) * u.nJy
    figure = CutoutStack(data, bands=["r"], pixel_scale=0.4 * u.arcsec).plot()
    (panel,) = figure.axes
    (bar,) = panel.lines
    assert "5″" in [text.get_text() for text in panel.texts]
    assert np.ptp(bar.get_xdata()) * 20 == pytest.approx(5)


def test_plot_refuses_nothing(make_stack):
    with pytest.raises(InputError, match="empty stack"):
        make_stack()[[]].plot()
