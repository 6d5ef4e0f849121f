# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tables of latents: read, measured, and built."""

import math
from dataclasses import dataclass
from numbers import Integral
from types import SimpleNamespace

import numpy as np
from astropy.table import QTable, Row

from galml.core.exceptions import InputError, InputTypeError
from galml.core.flags import Flag
from galml.core.inputs import as_table
from galml.core.results import build_table

__all__ = [
    "Latents",
    "Metric",
    "check_models",
    "is_nothing",
    "model_meta",
    "of_pandas",
    "read_latents",
    "read_matrix",
    "result_table",
    "source_of",
]

#: Scatters from the center beyond which latents count as so far away.
FARTHEST = 1e6
#: As many latents as those of the surroundings count together in a distance.
AROUND = 6


@dataclass(frozen=True)
class Latents:
    """What a table says of latents.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        The table.
    values : `~numpy.ndarray`
        Latents, shape (n, k), in the precision that they had.
    usable : `~numpy.ndarray`
        Shape (n,), where all latents of a row are finite and not masked.
    names : `~numpy.ndarray` or None
        Shape (n,), text.
    errors : `~numpy.ndarray` or None
        Typical error of each latent, shape (k,); 0 where none is known.
    """

    table: QTable
    values: np.ndarray
    usable: np.ndarray
    names: np.ndarray | None
    errors: np.ndarray | None

    @property
    def flags(self):
        """Bits of rows that are NaN because their latents are, shape (n,)."""
        return np.where(self.usable, 0, int(Flag.FAILED | Flag.NONFINITE))


@dataclass(frozen=True)
class Metric:
    r"""What a difference of latents is measured in.

    Latents :math:`z` become :math:`(z - m) / s`, with the median :math:`m` and the
    scatter :math:`s^2 = \sigma^2 + \epsilon^2` of each latent: of what galaxies have,
    and of typical errors. Latents that are mostly noise hardly count.

    Parameters
    ----------
    center, scale : `~numpy.ndarray`
        Shape (k,).
    """

    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, *sets):
        """Take the scatter of `Latents`, of one table or of several together."""
        values = np.concatenate([one.values[one.usable] for one in sets])
        center = np.median(values, axis=0)
        # That of a normal distribution, which a few strange galaxies do not change.
        scatter = 1.4826 * np.median(np.abs(values - center), axis=0)
        scatter = np.where(scatter > 0, scatter, values.std(axis=0))
        for one in sets:
            if one.errors is not None:
                scatter = np.hypot(scatter, one.errors / len(sets) ** 0.5)
        return cls(center, np.where(scatter > 0, scatter, 1.0))

    def of_shapes(self, known):
        """Let latents of the surroundings count together as a few of the others do.

        Galaxies would otherwise be alike by what is around them.
        """
        around = known.table.meta.get("NAROUND", 0)
        if not isinstance(around, Integral) or not AROUND < around < len(self.scale):
            return self
        scale = self.scale.copy()
        scale[-around:] *= math.sqrt(around / AROUND)
        return Metric(self.center, scale)

    @classmethod
    def whole(cls, known):
        """Take one scatter for all latents, which keep what they count for."""
        metric = cls.of(known)
        scale = np.sqrt(np.mean(metric.scale**2))
        return cls(metric.center, np.full_like(metric.scale, scale))

    def __call__(self, values):
        """Standardize latents, shape (n, k), to single precision."""
        scaled = (values - self.center) / self.scale
        return np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)


def of_pandas(values):
    """Turn a series of pandas into an array, with NaN or None where it has nothing.

    Parameters
    ----------
    values : object
        Anything; what is not of pandas is given back as it is.

    Returns
    -------
    object
    """
    kind = getattr(getattr(values, "dtype", None), "kind", None)
    if kind is None or not hasattr(values, "to_numpy"):
        return values
    if kind != "O" and isinstance(values.dtype, np.dtype):
        return values.to_numpy()
    if kind in "iuf":
        return values.to_numpy(dtype=float, na_value=np.nan)
    return values.to_numpy(dtype=object, na_value=None)


def is_nothing(one):
    """Whether something stands for a value that is not known."""
    if one is None or one is np.ma.masked:
        return True
    try:
        return bool(one != one)
    except TypeError:
        # NA of pandas cannot tell whether it is equal to itself.
        return True


def read_latents(table, argument, *, least=1):
    """Read the latents of a table.

    Parameters
    ----------
    table : `~astropy.table.Table`, `~astropy.table.Row` or mapping
        With a column ``latent`` (n, k), and optionally ``latent_err`` and ``name``.
    argument : str
        Name used in errors.
    least : int
        How many rows have to have latents.

    Returns
    -------
    `Latents`

    Raises
    ------
    galml.core.InputTypeError
        When it is no table, or the latents are no numbers.
    galml.core.InputError
        When it has no latents, or in too few rows.
    """
    if isinstance(table, Row):
        table = table.table[table.index : table.index + 1]
    table = as_table(table, argument)
    if "latent" not in table.colnames:
        got = f"the columns {', '.join(table.colnames)}"
        raise InputError(argument, got, "a column latent, of shape (n, k)")
    values = read_matrix(table["latent"], f"{argument}['latent']")
    usable = np.isfinite(values).all(axis=1)
    if usable.sum() < least:
        expected = f"at least {least}"
        raise InputError(argument, f"{usable.sum()} rows with latents", expected)
    names = None
    if "name" in table.colnames:
        names = np.ma.filled(np.ma.asarray(table["name"]), "")
        names = np.char.decode(names) if names.dtype.kind == "S" else names.astype(str)
    errors = None
    if "latent_err" in table.colnames:
        errors = read_matrix(table["latent_err"], f"{argument}['latent_err']")
        if errors.shape != values.shape:
            got = f"shape {errors.shape}"
            raise InputError(f"{argument}['latent_err']", got, f"{values.shape}")
        errors = errors[np.isfinite(errors).all(axis=1)]
        errors = np.median(errors, axis=0) if len(errors) else None
    return Latents(table, values, usable, names, errors)


def source_of(model):
    """Find the model that an adapted one comes from, in the end.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Any model.

    Returns
    -------
    str or None
        The hash of that model; None of one that was not adapted.
    """
    found, card = None, model.card
    while "adapted_from" in card:
        card = card["adapted_from"]
        found = card["sha256"]
    return found


def model_meta(model):
    """Give what a table of latents says of its model.

    Parameters
    ----------
    model : `~galml.core.model.GalaxyModel`
        Any model.

    Returns
    -------
    dict of str to str
        As `check_models` takes it.
    """
    source = source_of(model) or model.sha256
    return {"MODEL": model.name, "MODELSHA": model.sha256, "ADAPTSHA": source}


def check_models(ours, theirs, argument):
    """Raise where latents are of models that have nothing in common.

    Latents of models that were adapted mean what those of their source do.

    Parameters
    ----------
    ours, theirs : mapping
        Metadata of two tables, which need not tell their models.
    argument : str
        Name of the second table, used in errors.

    Raises
    ------
    galml.core.InputError
        When both are known, and differ.
    """
    sources = [meta.get("ADAPTSHA", meta.get("MODELSHA")) for meta in (ours, theirs)]
    if None not in sources and sources[0] != sources[1]:
        own, other = map(_model_of, (ours, theirs))
        expected = f"those of {own}, or of one that was adapted from it"
        raise InputError(argument, f"latents of {other}", expected)


def _model_of(meta):
    """Say of which model a table is."""
    name = meta.get("MODEL") or "a model"
    return f"{name} ({str(meta.get('MODELSHA'))[:12]})"


def result_table(latents, operation, columns, flags, *, call, names, seed=None):
    """Build a table out of what was found in `Latents`, whose model is noted."""
    meta = latents.table.meta
    return build_table(
        columns,
        operation=operation,
        model=SimpleNamespace(name=meta.get("MODEL"), sha256=meta.get("MODELSHA")),
        names=names,
        flags=flags,
        device="cpu",
        dtype="float64",
        seed=seed,
        call={key: value for key, value in call.items() if value is not None},
    )


def read_matrix(column, argument):
    """Read numbers of shape (n, k), NaN where masked, without a copy if possible."""
    mask = np.asarray(getattr(column, "mask", False))
    values = getattr(column, "unmasked", column)
    values = np.asarray(getattr(values, "value", values))
    if values.dtype.kind not in "iuf" or values.ndim != 2 or not values.shape[1]:
        got = f"{values.ndim}-D values of type {values.dtype}"
        raise InputTypeError(argument, got, "numbers of shape (n, k)")
    if not (values.dtype.isnative and values.dtype in (np.float32, np.float64)):
        values = values.astype(float)
    return np.where(mask, np.nan, values) if mask.any() else values
