# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The operation `spin`."""

import numpy as np

from galml.core.distributions import histogram_quantile
from galml.core.domain import find_domain
from galml.core.exceptions import InputError
from galml.core.flags import Flag
from galml.core.running import run
from galml.core.weights import load_model
from galml.imaging import MIRRORS
from galml.imaging.domain import ImageDomain
from galml.stellar_spin.posterior import fast_rotators, posterior, type_weights
from galml.stellar_spin.preparation import prepare

__all__ = ["SpinDomain", "spin"]

#: Signal to noise inside the effective radius, and pixels in it, below which little
#: can be told; and the part of the image that must be known.
LEAST = {
    Flag.LOW_SNR: ("log_snr", np.log10(10.0)),
    Flag.FEW_PIXELS: ("log_pixels", np.log10(2.0)),
    Flag.TRUNCATED: ("coverage", 0.9),
}
#: Half the width of the 68 % interval beyond which a spin tells little but what all
#: mock galaxies have in common: 0.95 of theirs, see benchmarks/population_widths.py.
PRIOR_WIDTH = 0.95 * 0.27


def spin(
    cutouts,
    *,
    r_eff=None,
    bands=None,
    pixel_scale=None,
    psf_fwhm=None,
    unit=None,
    prior=None,
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
        each galaxy. By default, and where it is masked or None, ``R_EFF`` (arcsec) of
        the metadata, or the column ``r_eff`` of a table; else it is measured on the
        image.
    bands : sequence of str, optional
        Names of the bands, such as ``("g", "r", "i")``, by default ``BANDS``, ``BAND``
        or ``FILTER`` of the metadata; a single band is else r, as ``flags`` tell.
    pixel_scale : `~astropy.units.Quantity`, optional
        Side of a pixel; or one for each galaxy. By default ``PIXSCALE`` (arcsec) of
        the metadata, else that of the WCS.
    psf_fwhm : `~astropy.units.Quantity`, optional
        FWHM of the PSF, in an angle or in pixels; or one for each band; or of shape
        (n, bands). By default ``PSFFWHM`` (arcsec) of the metadata.
    unit : `~astropy.units.Unit` or str, optional
        Unit of data that have none; dimensionless by default.
    prior : mapping of str to float, optional
        Shares of types in the sample that the galaxies are drawn from, such as
        ``{"elliptical": 0.2, "lenticular": 0.3, "spiral": 0.45, "dwarf": 0.05}``. By
        default those of the model's training, which are ``config["types"]`` of the
        model: a sample limited in flux has more early types than a volume, a cluster
        more than the field. A word stands for all types with it in their names.
    model : str, path or `~galml.core.model.GalaxyModel`, optional
        Name of a model, file of a model, or model.
    device : str, optional
        "auto", "cpu", "cuda" or "mps".
    dtype : {"float32", "bfloat16"}, optional
        Precision of the network.
    batch_size : int, optional
        Images that the network sees at once; by default 16 for each thread of the CPU,
        and 64 elsewhere. It changes no result.
    n_samples : int, optional
        Add a column ``spin_samples`` with this many draws from the distributions.
    seed : int, optional
        Seed of these draws, which depend on it and on the image alone. By default a
        fresh one is drawn; the table's metadata tell it as ``SEED``.
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
        ellipticity [2]_; ``ellipticity`` of the half-light ellipse with its error;
        ``novelty``, how far the image is from those of the training, in units of the
        distance that one in a hundred of these exceeds, and with which errors grow;
        and ``flags``, see `~galml.core.decode_flags`. The published model gives the
        spin alone.

    Raises
    ------
    galml.core.InputError
        When the one image cannot be used, or an argument for none. An image of a batch
        that cannot be used is a row of NaN with flags, and one
        `~galml.core.GalmlWarning` sums up.
    galml.core.ModelError
        When there is no such model.

    References
    ----------
    .. [1] Emsellem et al. (2007), MNRAS 379, 401; from images: Duckworth (2020),
       sdss_CNN.
    .. [2] Emsellem et al. (2011), MNRAS 414, 888.

    Examples
    --------
    Two exponential disks in g, r and i, of which the second one is seen more edge-on:

    >>> import astropy.units as u
    >>> import numpy as np
    >>> import galml
    >>> y, x = np.indices((64, 64)) - 31.5
    >>> images = np.stack(
    ...     [[c * np.exp(-np.hypot(x, y / q) / 4) for c in (0.5, 1, 1.4)]
    ...      for q in (0.9, 0.3)]
    ... )
    >>> table = galml.spin(
    ...     1e3 * images * u.nJy, bands=("g", "r", "i"), r_eff=6.7 * u.pix
    ... )
    >>> bool(table["ellipticity"][1] > table["ellipticity"][0])
    True
    """
    model = load_model(model, "spin")
    options = {
        "r_eff": r_eff,
        "bands": bands,
        "pixel_scale": pixel_scale,
        "psf_fwhm": psf_fwhm,
        "unit": unit,
        "hdu": hdu,
    }
    asked = {"prior": prior}
    return run(
        find_domain(model, **asked),
        cutouts,
        options,
        asked=asked,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        n_samples=n_samples,
        seed=seed,
        progress=progress,
    )


class SpinDomain(ImageDomain):
    """Images of galaxies, for networks that give distributions of the spin.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Whose network answers, and whose ``input_spec`` says what it is shown.
    prior : mapping of str to float, optional
        Shares of types, as for `spin`.

    Raises
    ------
    galml.core.InputError
        If these cannot be used, or the model knows no types.
    """

    operation, views, least = "spin", MIRRORS, LEAST

    def __init__(self, model, *, prior=None):
        super().__init__(model)
        self.weights = None
        types = model.config.get("types")
        if prior is not None:
            if types is None:
                expected = "None: this model knows no types of galaxies"
                raise InputError("prior", repr(prior), expected)
            self.weights = type_weights(prior, types)

    def prepare_alike(self, images):
        """Prepare images of one shape and in the same bands."""
        return prepare(images, self.spec)

    def columns(self, n_samples):
        """Give trailing shape and unit of each column."""
        names = (
            "spin",
            "spin_err",
            "spin_lo",
            "spin_hi",
            "fast_rotator_probability",
            "ellipticity",
            "ellipticity_err",
            "novelty",
        )
        columns = {name: ((), None) for name in names}
        if n_samples:
            columns["spin_samples"] = ((n_samples,), None)
        return columns

    def answer(self, outputs, prepared, members):
        """Give the columns, from distributions that are calibrated."""
        config = self.model.config
        result = posterior(outputs, config["calibration"], weights=self.weights)
        low, _, high = result["spin_quantiles"].T
        values = {
            "spin": result["spin_mean"],
            "spin_err": result["spin_error"],
            "spin_lo": low,
            "spin_hi": high,
            "fast_rotator_probability": fast_rotators(result),
            "ellipticity": result["ellipticity"],
            "ellipticity_err": result["ellipticity_error"],
            "novelty": outputs["distance"] / config["domain"]["distance"],
        }
        if "noise" in outputs:
            noise = outputs["noise"].contiguous()
            values["spin_samples"] = histogram_quantile(result["spin"], noise, 1.0)
        return {key: value.numpy().astype(float) for key, value in values.items()}

    def states(self, answer, prepared):
        """Tell for each bit to which images it belongs."""
        states = super().states(answer, prepared)
        states[Flag.OUT_OF_DOMAIN] |= answer["novelty"] > 1
        width = (answer["spin_hi"] - answer["spin_lo"]) / 2
        return states | {Flag.PRIOR_DOMINATED: width > PRIOR_WIDTH}
