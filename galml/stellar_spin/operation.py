# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `spin`."""

from galml.core.exceptions import ModelError
from galml.core.running import answer
from galml.core.weights import load_model
from galml.stellar_spin import light, published
from galml.stellar_spin.images import problem_of, read_images

__all__ = ["spin", "system_of"]

SYSTEMS = {"spin": light, "duckworth2020": published}


def spin(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    model="default",
    device="auto",
    dtype="float32",
    batch_size=None,
    n_samples=0,
    seed=None,
    hdu=None,
    progress=False,
):
    r"""Predict the stellar spin of galaxies from their images.

    The spin is the light-weighted, projected specific angular momentum [1]_

    .. math:: \lambda_R = \frac{\sum F R |V|}{\sum F R \sqrt{V^2 + \sigma^2}}

    of the stars inside the half-light ellipse, with R along its major axis, as it is
    without the blur of an atmosphere. `galml.lambda_r` measures it on kinematic maps.

    Parameters
    ----------
    cutouts : object
        One galaxy in one band, shape (ny, nx), or in several, shape (bands, ny, nx),
        in the middle of the image: a `~astropy.nddata.CCDData`,
        `~astropy.nddata.NDData`, `~astropy.units.Quantity`, array or FITS path; a
        color image as SDSS makes them, bytes of shape (ny, nx, 3) or a JPEG or PNG
        path; or a `~galml.cutouts.CutoutStack`, or a sequence, iterator, table column
        or array of shape (n, bands, ny, nx) of these. NaN and masked pixels are
        unknown. The sky need not be subtracted. Colors count where the unit is a
        spectral flux density or maggies; the best image reaches to 4.2 effective radii.
    r_eff : `~astropy.units.Quantity`, optional
        Effective radius along the major axis, in an angle or in pixels; or one for
        each galaxy. By default ``R_EFF`` (arcsec) of the metadata, or the column
        ``r_eff`` of a table; else it is measured on the image.
    bands : sequence of str, optional
        Names of the bands, such as ``("g", "r", "i")``, by default ``BANDS``, ``BAND``
        or ``FILTER`` of the metadata; a single band is r.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel; or one for each galaxy. By default ``PIXSCALE`` (arcsec) of
        the metadata, else that of the WCS.
    psf_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the PSF, in an angle or in pixels; or one for each band; or of shape
        (n, bands). By default ``PSFFWHM`` (arcsec) of the metadata.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none; dimensionless by default.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Images that the network sees at once; 64 by default. It changes no result.
    n_samples : int, optional
        Add a column ``spin_samples`` with this many draws from the distributions.
    seed : int, optional
        Seed of these draws, which depend on it and on the image alone.
    hdu : int or str, optional
        FITS extension; its partners with errors and masks are found by its header.
    progress : bool or callable, optional
        Show a progress bar, or call ``progress(done, total)``.

    Returns
    -------
    `~astropy.table.QTable`
        One row per galaxy, in order: ``spin`` (mean of its distribution) with
        ``spin_err`` (1 sigma), ``spin_lo`` and ``spin_hi`` (68 %);
        ``fast_rotator_probability``, that of a spin above 0.31 times the root of the
        ellipticity [2]_; ``ellipticity`` of the half-light ellipse with its error; and
        ``flags``, see `~galml.core.decode_flags`. The published model gives the spin
        alone.

    Raises
    ------
    galml.core.InputError
        When the one image cannot be used. One of a batch that cannot be used is a row
        of NaN with flags, and one `~galml.core.GalmlWarning` sums up.
    galml.core.ModelError
        When there is no such model.

    References
    ----------
    .. [1] Emsellem et al. (2007), MNRAS 379, 401; from images: Duckworth (2020),
       sdss_CNN.
    .. [2] Emsellem et al. (2011), MNRAS 414, 888.
    """
    model = load_model(model, "spin")
    system = system_of(model)
    is_single, length, images = read_images(
        cutouts,
        r_eff=r_eff,
        bands=bands,
        pixel_scale=pixel_scale,
        psf_fwhm=psf_fwhm,
        unit=unit,
        hdu=hdu,
    )
    return answer(
        images,
        model,
        system,
        problem=problem_of,
        prepare=system.prepare_images,
        is_single=is_single,
        length=length,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
        call={
            "r_eff": r_eff,
            "bands": bands,
            "pixel_scale": pixel_scale,
            "psf_fwhm": psf_fwhm,
            "unit": unit,
            "hdu": hdu,
            "n_samples": n_samples or None,
        },
    )


def system_of(model):
    """Find the module that prepares images for a model and reads its answers."""
    name = model.config.get("preparation")
    if name not in SYSTEMS:
        raise ModelError(
            f"model {model.name!r}: unknown preparation {name!r}; known are "
            f"{sorted(SYSTEMS)}"
        )
    return SYSTEMS[name]
