# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Mock galaxies as networks for the spin see them, beside their truth."""

import numpy as np
import torch

from galml.imaging import GalaxyImages
from galml.imaging.color_pictures import as_color_images
from galml.mocks import galaxy_images
from galml.physics import generator_for, pivot_wavelengths
from galml.stellar_spin import published
from galml.stellar_spin.disturbance import disturb
from galml.stellar_spin.preparation import INPUT, prepare

__all__ = ["as_galaxy_images", "mock_data_set", "mock_images"]

#: Scatter of effective radii (natural logarithm), and of centers in effective radii.
SIZE_ERROR = 0.1
CENTER_ERROR = 0.05
#: Bands of a batch, and how often they are drawn.
BAND_SETS = (
    (("g", "r", "i"), 0.5),
    (("g", "r", "z"), 0.12),
    (("g", "r"), 0.04),
    (("r", "i"), 0.04),
    (("F606W", "F814W"), 0.08),
    (("F814W",), 0.04),
    (("g",), 0.04),
    (("r",), 0.06),
    (("i",), 0.08),
)
#: Share of batches that are seen as color images of SDSS, the pixels a side of these
#: with their odds, and how they differ from others: they are wider, and the galaxies
#: bright enough for people to look at.
COLOR_IMAGES = 0.35
COLOR_SIDES = ((64, 0.25), (80, 0.25), (96, 0.22), (128, 0.16), (192, 0.12))
COLOR_BANDS, UNKNOWN_PSF = ("i", "r", "g"), 0.8
COLOR_OPTIONS = {"survey": "SDSS", "binning": 1, "size": 11.0, "faintest": 17.77}
#: Share of images that end early, and where, in effective radii.
CUT, CUT_AT = 0.2, (2.2, 4.2)
#: Share of images whose noise is not known.
NOISE_UNKNOWN = 0.5


def mock_data_set(
    n_batches,
    *,
    seed,
    first=0,
    bands=None,
    color_images=None,
    published_images=False,
    input_spec=INPUT,
    batch_size=64,
    n_particles=20_000,
    views=1,
    survey=None,
    n_pixels=None,
    binning=None,
    disturbance=1.0,
    alter=None,
):
    """Prepare mocks as the network sees them, beside their truth.

    Effective radii are right to 10 %, centers to a twentieth of them; half of the
    galaxies come without their noise, and some images end early. Batches that are seen
    as color images of SDSS are what is left after that, with radii that mostly are
    measured.

    Parameters
    ----------
    n_batches, seed, first
        As in `galml.mocks.galaxy_images`.
    bands : sequence of str, or sequence of such sequences, optional
        Bands of the images, or several sets of bands, of which each batch has one; by
        default those of many surveys.
    color_images : float, optional
        Share of batches that are seen as color images; by default a third, where
        bands are not given, and none, where they are.
    published_images : bool
        Also make the color images of the published system: ``colors``, of shape
        (n, 3, 80, 80), in float16.
    input_spec : `~galml.core.InputSpec`, optional
        What the network is shown.
    batch_size, n_particles, views, survey, n_pixels, binning, alter
        As in `galml.mocks.galaxy_images`. What is None there is drawn for color images
        as it is for these.
    disturbance : float, optional
        Strength of the faults of images that the recipe does not have, see
        `~galml.stellar_spin.disturbance.disturb`.

    Returns
    -------
    dict of str to `torch.Tensor`
        ``image`` (n, channels, 48, 48) in float16, ``scalars`` (n, scalars); of shape
        (n,) the truths of the mocks, such as ``spin`` and ``ellipticity``, ``survey``
        and ``redshift``; and their parameters, with names that begin with "galaxy_".
    """
    columns = {}
    stream = mock_images(
        n_batches,
        seed=seed,
        first=first,
        bands=bands,
        color_images=color_images,
        batch_size=batch_size,
        n_particles=n_particles,
        views=views,
        survey=survey,
        n_pixels=n_pixels,
        binning=binning,
        disturbance=disturbance,
        alter=alter,
    )
    for parameters, mocks, whole, seen in stream:
        row = _columns(mocks, whole, seen, published_images, input_spec)
        row |= {
            f"galaxy_{key}": value.float()
            for key, value in parameters.items()
            if value.ndim == 1
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {key: torch.cat(parts) for key, parts in columns.items()}


def mock_images(
    n_batches,
    *,
    seed,
    first=0,
    bands=None,
    color_images=None,
    batch_size=64,
    n_particles=20_000,
    views=1,
    survey=None,
    n_pixels=None,
    binning=None,
    disturbance=1.0,
    alter=None,
):
    """Stream images of mocks of which not all is known.

    Parameters
    ----------
    n_batches, seed, first, bands, color_images, batch_size, n_particles, views, \
survey, n_pixels, binning, disturbance, alter
        As in `mock_data_set`.

    Yields
    ------
    parameters : dict of str to `torch.Tensor`
        What the galaxies were made from, see `~galml.mocks.draw_stars`.
    mocks : `~galml.mocks.LightImages`
        The images as they were taken, with their truth.
    whole, seen : `~galml.imaging.GalaxyImages`
        These images, with errors of radius and center; and the same with the faults of
        images, as color images where they are, and with what is known of them.
    """
    if color_images is None:
        color_images = COLOR_IMAGES if bands is None else 0.0
    options = {"survey": survey, "n_pixels": n_pixels, "binning": binning}
    options = {key: value for key, value in options.items() if value is not None}
    options |= {
        "n_particles": n_particles,
        "batch_size": batch_size,
        "views": views,
        "alter": alter,
    }
    for index in range(first, first + n_batches):
        generator = generator_for(seed, "knowledge of mock images", index)
        chosen, own = _draw_bands(bands, generator), options
        colored = torch.rand((), generator=generator).item() < color_images
        if colored:
            chosen, side = COLOR_BANDS, _drawn(COLOR_SIDES, generator)
            own = COLOR_OPTIONS | {"n_pixels": side} | options
        stream = galaxy_images(1, seed=seed, first=index, bands=chosen, **own)
        for parameters, mocks in stream:
            faults = {"strength": disturbance, "masked": not colored}
            yield parameters, mocks, *_seen(mocks, generator, colored, faults)


def _draw_bands(bands, generator):
    """Draw the bands of one batch."""
    if bands is None:
        return _drawn(BAND_SETS, generator)
    sets = (bands,) if isinstance(bands[0], str) else bands
    return tuple(_drawn([(one, 1.0) for one in sets], generator))


def _drawn(choices, generator):
    """Draw one of several things that have odds."""
    things, odds = zip(*choices, strict=True)
    return things[int(torch.multinomial(torch.tensor(odds), 1, generator=generator))]


def _seen(mocks, generator, colored, faults):
    """Give images as they were taken, and with their faults."""
    r_eff = mocks.truth.r_eff_pixels.double()
    error = torch.randn(len(r_eff), 3, generator=generator).double()
    center = mocks.center.double() + CENTER_ERROR * r_eff[:, None] * error[:, 1:]
    r_eff = r_eff * torch.exp(SIZE_ERROR * error[:, 0])
    data = disturb(mocks.data, mocks.noise, r_eff, center, generator, **faults)
    whole = as_galaxy_images(mocks, r_eff, center)
    return whole, _as_known(mocks, data, r_eff, center, generator, colored)


def _columns(mocks, whole, seen, published_images, spec):
    """Give what the networks see of a batch, beside its truth."""
    prepared = prepare(seen, spec)
    row = {"image": prepared.image.half(), "scalars": prepared.scalars}
    if published_images:
        row["colors"] = published.prepare(whole).image.half()
    row |= {"survey": mocks.survey, "redshift": mocks.redshift}
    return row | {key: value.float() for key, value in vars(mocks.truth).items()}


def _as_known(mocks, data, r_eff, center, generator, colored):
    """Give images of which not all is known."""
    noise, psf_fwhm = mocks.noise.double(), mocks.psf_fwhm.double()

    def chance(share, *shape):
        return torch.rand(len(data), *shape, generator=generator) < share

    if colored:
        data, r_eff, center, zoom = as_color_images(
            data, noise, mocks.pixel_scale, r_eff, center, generator
        )
        noise, psf_fwhm = torch.full_like(noise, torch.nan), zoom[:, None] * psf_fwhm
        # Files of color images do not tell the PSF.
        psf_fwhm[chance(UNKNOWN_PSF)] = torch.nan
    else:
        _cut(data, center, r_eff, generator)
        noise = torch.where(chance(NOISE_UNKNOWN, 1), torch.nan, noise)
    return as_galaxy_images(mocks, r_eff, center, data, noise, psf_fwhm)


def as_galaxy_images(mocks, r_eff, center, data=None, noise=None, psf_fwhm=None):
    """Give mocks the form in which images of galaxies are prepared.

    Parameters
    ----------
    mocks : `~galml.mocks.LightImages`
        Their images.
    r_eff, center : `torch.Tensor`
        What is known of radius, (n,), and center, (n, 2), in pixels.
    data, noise, psf_fwhm : `torch.Tensor`, optional
        Images that are seen instead of those of the mocks; and what is known of noise
        and PSF, shape (n, bands). Nothing is known by default.

    Returns
    -------
    `~galml.imaging.GalaxyImages`
        Calibrated, and without flags or names.
    """
    data = mocks.data if data is None else data
    unknown = torch.full(data.shape[:2], torch.nan)
    arrays = {
        "values": data,
        "r_eff": r_eff,
        "center": center,
        "noise": unknown if noise is None else noise,
        "psf_fwhm": unknown if psf_fwhm is None else psf_fwhm,
        "pixel_scale": mocks.pixel_scale,
    }
    arrays = {
        key: tensor.numpy() if key == "values" else tensor.double().numpy()
        for key, tensor in arrays.items()
    }
    return GalaxyImages(
        **arrays,
        bands=mocks.bands,
        wavelengths=pivot_wavelengths(mocks.bands),
        calibrated=True,
        flags=np.zeros(len(data), dtype=int),
        names=[None] * len(data),
    )


def _cut(data, center, r_eff, generator):
    """Let some images end early: what is beyond a square becomes NaN."""
    low, high = CUT_AT
    half = low + (high - low) * torch.rand(len(data), generator=generator)
    early = torch.rand(len(data), generator=generator) < CUT
    half = torch.where(early, half * r_eff, torch.inf)
    ny, nx = data.shape[-2:]
    far_x = (torch.arange(nx) - center[:, :1]).abs() > half[:, None]
    far_y = (torch.arange(ny) - center[:, 1:]).abs() > half[:, None]
    far = far_y[:, :, None] | far_x[:, None, :]
    data.masked_fill_(far[:, None], torch.nan)
